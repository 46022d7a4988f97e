"""A commitment as `status` tells it, and what one statement brought about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from pacekeeper.audit.report import tell_commitment
from pacekeeper.audit.result import AuditResult
from pacekeeper.audit.story import describe_now, export_commitment, headline, tell_entry
from pacekeeper.audit.windows import tell_windows
from pacekeeper.cli.commitments.acting import Outcome
from pacekeeper.cli.console import Sentence, echo_json
from pacekeeper.client.keyfiles import write_public
from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.replay.state import State
from pacekeeper.protocol.text import count_of

FAILED = 3


def describe(state: State, standing: Standing) -> Iterator[str]:
    """Yield the lines about one commitment."""
    yield headline(standing)
    for sentence in (*describe_now(standing), *tell_windows(state, standing)):
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


def tell_outcome(outcome: Outcome, subject: str, receipt: Path | None, *, as_json: bool) -> None:
    """Print where a statement is on the log, what it brought about, and how the commitments concerned now stand.

    subject: the commitment that the statement names, or a report's indicator: that concerns all that watch it.
    """
    state, index = outcome.state, outcome.receipt.index
    if receipt is not None:
        write_public(receipt, outcome.receipt.tlog_proof)
    concerned = [standing for standing in state.commitments.standings().values() if _concerns(subject, standing)]
    if as_json:
        exported = [export_commitment(state, standing) for standing in concerned]
        time_ms = outcome.receipt.sequenced_at_ms
        echo_json({"index": index, "time_ms": time_ms, "commitments": exported})
        return
    click.echo(f"entry {index}, witnessed by the quorum")
    for standing in concerned:
        click.echo(headline(standing))
        for sentence in (*tell_entry(standing, index), *describe_now(standing), *tell_windows(state, standing)):
            click.echo(f"  {sentence}")
    if not concerned:
        click.echo("no commitment watches this indicator")


def _concerns(subject: str, standing: Standing) -> bool:
    indicators = () if standing.trigger is None else standing.trigger.rule.indicators
    return standing.terms.id == subject or any(indicator.id == subject for indicator in indicators)
