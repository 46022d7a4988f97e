"""A commitment as `status` tells it: how it stands first, then how it came to."""

from __future__ import annotations

from collections.abc import Iterator

from pacekeeper.audit.report import tell_commitment
from pacekeeper.audit.result import AuditResult
from pacekeeper.audit.story import describe_now, headline
from pacekeeper.cli.console import Sentence
from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.replay.state import State
from pacekeeper.protocol.text import count_of

FAILED = 3


def describe(state: State, standing: Standing) -> Iterator[str]:
    """Yield the lines about one commitment."""
    yield headline(standing)
    for sentence in describe_now(standing):
        yield f"  {sentence}"
    yield "  time line"
    for sentence in tell_commitment(state, standing):
        yield f"    {sentence}"


def explain_faults(result: AuditResult) -> Sentence:
    """Return the sentence about a log that does not verify: its first fault, and where all of them are listed."""
    first = min(result.faults)
    more = count_of(len(set(result.faults)), "fault")
    return Sentence(
        f"the log does not verify ({more}): {first.resource}: {first.code}: {first.message}; see pacekeeper audit",
        FAILED,
    )
