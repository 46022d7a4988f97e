"""The report in words: who is inside the caps, who is late, who is in dispute, and what this cannot show.

It follows from the log's bytes alone, so that two auditors of the same tree print the same report, byte for byte. Text
from the log is escaped wherever it is shown.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from pacekeeper.audit.acts import every_lab, tell_agreement
from pacekeeper.audit.keys import tell_keys
from pacekeeper.audit.result import AuditResult, Change, CheckedFinding, Exit
from pacekeeper.audit.story import commitment_of, conduct_under, describe_now, headline, tell_story
from pacekeeper.audit.windows import format_bounds, tell_windows
from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.compute.bounds import NOTHING, Bounds, Outcome
from pacekeeper.protocol.documents.agreement import Agreement, Lab
from pacekeeper.protocol.documents.describe import exact_flop
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.judgements import CapStatus
from pacekeeper.protocol.replay.state import State
from pacekeeper.protocol.text import count_of, printable
from pacekeeper.protocol.units import format_duration, format_flop, format_time
from pacekeeper.v1 import statements_pb2 as pb

CANNOT_SHOW = (
    "clusters and runs that nobody declared",
    "whether a signed figure is true: a signed lie stays a lie until somebody measures",
    "whether a lab stopped or slowed down as a commitment says: only what it attested of that time",
    "whether an indicator measures what it is meant to, and whether its reporter tells the truth",
    "weights that were stolen, imported or handed on outside the log",
    "anything that happened after the last entry",
    "another log shown to others: this view is not cross-checked unless the verifiers were asked (standard error says)",
)


def write_report(result: AuditResult) -> str:
    """Return the report as text that ends in a newline.

    SPEC audit-9: every report MUST say what an audit cannot show.
    SPEC audit-11: a report MUST follow from the log's bytes, the fingerprint and --at alone.
    """
    return "\n".join(_lines(result)) + "\n"


def verdict_sentence(result: AuditResult) -> str:
    """Return the one sentence that the exit status stands for."""
    match result.status:
        case Exit.COMPLIANT:
            return "VERIFIED AND COMPLIANT: everything agrees, and nobody is in breach."
        case Exit.VIOLATIONS:
            return "VERIFIED, WITH VIOLATIONS: the record is sound, and it shows what is listed above."
        case _:
            return "VERIFICATION FAILED: nothing is concluded about anybody from this copy of the log."


def _lines(result: AuditResult) -> Iterator[str]:
    yield f"Audit of the log with fingerprint {result.fingerprint.hex()}"
    if result.faults:
        yield ""
        yield f"Faults ({len(result.faults)})"
        for fault in sorted(set(result.faults)):
            yield f"  {printable(fault.resource)}: {fault.code}: {printable(fault.message)}"
    if result.state is not None and result.head is not None:
        yield from _head(result)
        if not result.faults:
            yield from _record(result, result.state)
    yield ""
    yield "This cannot show"
    for item in CANNOT_SHOW:
        yield f"  - {item}"
    yield ""
    yield verdict_sentence(result)


def _head(result: AuditResult) -> Iterator[str]:
    assert result.state is not None
    assert result.head is not None
    state, head = result.state, result.head
    agreement = result.agreement or state.agreement
    quorum = agreement.quorum
    root = base64.b64encode(head.checkpoint.root).decode()
    yield ""
    yield f'"{printable(agreement.title)}", logged as {printable(agreement.origin)}'
    yield f"  {head.checkpoint.size} entries, root hash {root}"
    if result.audited != head.checkpoint.size:
        yield f"  replayed to entry {result.audited - 1} only, as asked"
    yield f"  from {format_time(state.founded_ms)} to {format_time(state.last_time_ms)}"
    since = f" since entry {result.changes[-1].index}" if result.changes else ""
    yield (
        f"  cosigned by {', '.join(head.cosigners) or 'nobody'}; {quorum.quorum} of {quorum.verifiers} needed{since} "
        f"(tolerates {count_of(quorum.liars, 'liar')} and {count_of(quorum.absences, 'absence')})"
    )
    for party in head.absent:
        yield f"  verifier {party} has not cosigned this checkpoint"
    for party in head.invalid:
        yield f"  the cosignature of verifier {party} does not verify and was not counted"
    for change in result.changes:
        yield f"  {describe_change(change)}"


def describe_change(change: Change) -> str:
    """Say in one sentence how the verifiers or their quorum changed."""
    before, after = ({party.id for party in side.parties} for side in (change.before, change.after))
    words = [
        *(f"verifier {party} joined" for party in sorted(after - before)),
        *(f"verifier {party} left" for party in sorted(before - after)),
    ]
    old, new = change.before.quorum, change.after.quorum
    counts = f"quorum {new.quorum} of {new.verifiers}, before it {old.quorum} of {old.verifiers}"
    return f"entry {change.index}: {'; '.join([*words, counts])}; both quorums have cosigned the change"


def _record(result: AuditResult, state: State) -> Iterator[str]:
    agreement = state.agreement
    if state.acts:
        yield ""
        yield "Agreement in force"
        for sentence in tell_agreement(state):
            yield f"  {sentence}"
    yield ""
    yield "Labs"
    for lab in every_lab(state).values():
        yield from _lab(state, lab)
    yield ""
    yield "Caps"
    yield from _caps(state)
    if agreement.rules_version > 1:
        yield ""
        yield from _commitments(state)
    if state.retired:
        yield ""
        yield from tell_keys(state)
    yield ""
    yield f"Violations ({len(state.violations)})"
    for violation in state.violations:
        yield f"  {describe_violation(violation, agreement)}"
    if not state.violations:
        yield "  none"
    yield ""
    yield f"Conduct of the log ({count_of(state.void_count, 'void entry')}, {count_of(len(state.silences), 'silence')})"
    for void in state.voids:
        yield f"  entry {void.index} should not have been let in: {void.code}: {printable(void.message)}"
    for silence in state.silences:
        length = format_duration(silence.end_ms - silence.start_ms)
        yield f"  silent for {length} after {format_time(silence.start_ms)}; deadlines in it were moved by as much"
    yield ""
    yield f"Findings of verifiers ({len(result.findings)})"
    for finding in result.findings:
        yield f"  {_finding(finding)}"
    if not result.findings:
        yield "  none"


def _lab(state: State, lab: Lab) -> Iterator[str]:
    known = state.labs[lab.id]
    total = lab_total(state, lab.id)
    own = [v for v in state.violations if v.subject == lab.id or v.subject.startswith(lab.id + "/")]
    yield f"  {printable(lab.name)} ({lab.id}, {lab.party}): {lab_standing(state, lab.id)}"
    corrections = count_of(known.corrections, "correction")
    yield f"    {count_of(known.attested, 'period')} attested, {known.late} late, {corrections}"
    yield f"    compute {format_bounds(total)} in {count_of(len(known.runs), 'run')}"
    if known.expired:
        yield f"    {count_of(known.expired, 'statement')} came after the period had closed, and count for nothing"
    if known.last_period is not None:
        yield f"    has left the agreement, and gives accounts up to period {known.last_period}"
    if known.gaps:
        yield f"    gaps declared and not filled: {_periods(known.gaps)}"
    if known.missing:
        yield f"    missing at the deadline and not given since: {_periods(known.missing)}"
    if own:
        yield f"    {count_of(len(own), 'violation')}, listed below"


def lab_standing(state: State, lab: str) -> str:
    """Say in a few words how a lab stands: in breach of a cap, late, in dispute, or inside its caps."""
    own = [v for v in state.violations if v.subject == lab or v.subject.startswith(lab + "/")]
    kinds = {v.kind for v in own}
    words = []
    if kinds & {ViolationKind.RUN_CAP, ViolationKind.LAB_CAP, ViolationKind.UNRESOLVED}:
        words.append("OVER A CAP")
    if any(commitment_of(v) for v in own):
        words.append("IN BREACH OF A COMMITMENT")
    if ViolationKind.PERIOD_MISSING in kinds:
        words.append("LATE")
    if ViolationKind.UNDERSTATED in kinds:
        words.append("IN DISPUTE")
    if any(status.outcome is Outcome.INDETERMINATE for status in _statuses_of(state, lab)):
        words.append("a cap undecided")
    if state.labs[lab].attested == 0:
        words.append("no account yet")
    return ", ".join(words) or "inside its caps, on time"


def _statuses_of(state: State, lab: str) -> Iterator[CapStatus]:
    for (_, subject), status in state.cap_status.items():
        if subject == lab or subject.startswith(lab + "/"):
            yield status


def lab_total(state: State, lab: str) -> Bounds:
    """Return what a lab attested over all its runs, in gigaFLOP."""
    total = NOTHING
    for run in state.lineage.runs.values():
        if run.lab == lab:
            total = total.plus(run.own)
    return total


def _caps(state: State) -> Iterator[str]:
    for cap in state.agreement.caps:
        statuses = [(subject, s) for (cap_id, subject), s in sorted(state.cap_status.items()) if cap_id == cap.id]
        counts = {outcome: sum(s.outcome is outcome for _, s in statuses) for outcome in Outcome}
        what = "run with its ancestors" if cap.kind == "run" else f"{cap.kind}, any {cap.window} periods in a row"
        yield (
            f"  {cap.id}: {exact_flop(cap.limit)} for each {what}: {counts[Outcome.WITHIN]} within, "
            f"{counts[Outcome.EXCEEDED]} exceeded, {counts[Outcome.INDETERMINATE]} indeterminate"
        )
        for subject, status in statuses:
            if status.outcome is not Outcome.WITHIN:
                yield f"    {subject}: {status.outcome}, {format_bounds(status.bounds)}"


def _commitments(state: State) -> Iterator[str]:
    """SPEC audit-17: the story of every commitment MUST be told in the order of the log, and then how it stands."""
    standings = state.commitments.standings()
    yield f"Commitments ({len(standings)})"
    for standing in standings.values():
        yield f"  {headline(standing)}"
        for sentence in (*tell_commitment(state, standing), *describe_now(standing), *tell_windows(state, standing)):
            yield f"    {sentence}"
    if not standings:
        yield "  none"


def tell_commitment(state: State, standing: Standing, *, foreseen: bool = False) -> Iterator[str]:
    """Yield what happened to a commitment, in order, with the violations under it.

    foreseen: the state was played on from the log's head (replay/outlook.py).
    """
    breaches = conduct_under(state, standing.terms.id)
    words = [describe_violation(violation, state.agreement) for violation in breaches]
    at = [violation.index for violation in breaches]
    return tell_story(standing, words, at, state.size if foreseen else None)


def describe_violation(violation: Violation, agreement: Agreement) -> str:
    """Put a violation into one sentence."""
    where = f"entry {violation.index}, {format_time(violation.time_ms)}, {violation.kind}: {violation.subject}"
    bounds = format_bounds(violation.bounds or NOTHING)
    match violation.kind:
        case ViolationKind.PERIOD_MISSING:
            return f"{where} gave no account of period {violation.period} by its deadline"
        case ViolationKind.UNDERSTATED:
            return (
                f"{where} recorded a checkpoint at {format_flop(violation.limit)}, below the {bounds} it had attested"
            )
        case ViolationKind.UNRESOLVED:
            time = count_of(agreement.indeterminate_periods, "period")
            return f"{where} left {violation.cap} ({exact_flop(violation.limit)}) undecided for {time}, {bounds}"
        case ViolationKind.PAUSE:
            runs = ", ".join(violation.sources)
            return (
                f"{where} trained on in period {violation.period} while {violation.cap} held {runs}: {bounds} too much"
            )
        case ViolationKind.RATE:
            allowed = exact_flop(violation.limit)
            return f"{where} used {bounds} in period {violation.period}, where {violation.cap} allows {allowed}"
        case ViolationKind.GROWTH:
            allowed = f"{exact_flop(violation.limit)} that {violation.cap} allows its window"
            return f"{where} used {bounds} by period {violation.period}, more than the {allowed}"
        case ViolationKind.GROWTH_UNRESOLVED:
            return (
                f"{where} left its window of {violation.cap} with period {violation.period} undecided until it closed: "
                f"{bounds} used, and perhaps no more than {exact_flop(violation.limit)} allowed"
            )
        case ViolationKind.UNSPLIT:
            return (
                f"{where} did not split its account of period {violation.period} in time, where {violation.cap} began, "
                "bit or ended"
            )
        case ViolationKind.RUN_CAP if len(violation.sources) > 1:
            return f"{where} used {bounds} over {_limit(violation)}, as {' + '.join(violation.sources)}"
        case _:
            window = (
                "" if violation.kind is ViolationKind.RUN_CAP else f" in the window that ends with {violation.period}"
            )
            return f"{where} used {bounds} over {_limit(violation)}{window}"


def _limit(violation: Violation) -> str:
    by_commitment = f" ({violation.cap})" if "/" in violation.cap else ""
    return f"{exact_flop(violation.limit)}{by_commitment}"


def _finding(finding: CheckedFinding) -> str:
    statement = finding.entry.statement
    severity = pb.Severity.Name(statement.severity).removeprefix("SEVERITY_").lower()
    outcome = (
        "its evidence holds" if finding.agrees else "its evidence DOES NOT HOLD, which speaks against the verifier"
    )
    return (
        f"entry {finding.entry.index}, verifier {statement.party}: {severity}, {statement.rule} by "
        f"{statement.subject}: {printable(finding.verdict.why)}; {outcome}"
    )


def _periods(periods: set[int]) -> str:
    """Write sorted periods as ranges: 3, 5-7."""
    ranges: list[list[int]] = []
    for period in sorted(periods):
        if ranges and period == ranges[-1][1] + 1:
            ranges[-1][1] = period
        else:
            ranges.append([period, period])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)
