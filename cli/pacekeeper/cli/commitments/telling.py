"""A commitment as `status` tells it, and what one statement brought about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pacekeeper.audit.report import tell_commitment
from pacekeeper.audit.result import AuditResult
from pacekeeper.audit.story import describe_now, export_commitment, headline, tell_entry
from pacekeeper.audit.windows import tell_windows
from pacekeeper.cli.commitments.acting import Outcome
from pacekeeper.cli.console import USAGE, Sentence, echo_json
from pacekeeper.client.keyfiles import write_public
from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.replay.outlook import stand_at
from pacekeeper.protocol.replay.state import State
from pacekeeper.protocol.text import count_of
from pacekeeper.protocol.units import format_time

FAILED = 3


@dataclass(frozen=True)
class View:
    """A time other than that of the replay's last entry. foreseen: the log has not come to it."""

    time_ms: int
    foreseen: bool


def describe(state: State, standing: Standing, view: View | None = None) -> Iterator[str]:
    """Yield the lines about one commitment, as it stands or as a view says."""
    yield headline(standing)
    when = "now" if view is None else "then"
    for sentence in (*describe_now(standing, when=when), *tell_windows(state, standing)):
        yield f"  {sentence}"
    yield "  time line"
    for sentence in tell_commitment(state, standing, foreseen=view is not None and view.foreseen):
        yield f"    {sentence}"


def view_at(result: AuditResult, time_ms: int) -> View:
    """Bring an audited state to a time, before its next entry or after the head. Sentence for one before the log."""
    state = result.state
    assert state is not None
    if time_ms < state.founded_ms:
        begun = format_time(state.founded_ms)
        raise Sentence(f"--at-time {format_time(time_ms)}: the log begins later, at {begun}", USAGE)
    stand_at(state, time_ms, result.next_ms)
    return View(time_ms, foreseen=result.next_ms is None and time_ms > state.last_time_ms)


def describe_view(state: State, view: View) -> str:
    """Say which time is looked at, and what it rests on."""
    at, last = format_time(view.time_ms), f"entry {state.size - 1}, of {format_time(state.last_time_ms)}"
    if view.foreseen:
        return f"as it would stand at {at}, if nothing were said after {last}"
    return f"as it stood at {at}, after {last}"


def export_view(state: State, standing: Standing, view: View) -> dict[str, Any]:
    """Return a commitment as JSON-able values: as export_commitment, and the time. What is foreseen has no index."""
    exported = export_commitment(state, standing)
    for moment in exported["timeline"]:
        if view.foreseen and moment["index"] >= state.size:
            moment["index"] = None
    return {**exported, "at_ms": view.time_ms, "foreseen": view.foreseen}


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
