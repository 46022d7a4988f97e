"""The rules between a commitment's terms, and between them and the members of the agreement.

Each check yields faults with the line of the term that breaks the rule; they assume that every term reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.checks import check_once
from pacekeeper.protocol.documents.commitment_members import check_members, line_in
from pacekeeper.protocol.documents.commitment_model import (
    CONSTRAINING,
    Accession,
    Amendment,
    CapLimits,
    Commitment,
    Growth,
    Pause,
    SlowDown,
)
from pacekeeper.protocol.documents.tables import Table
from pacekeeper.protocol.units import format_time

__all__ = ["check_commitment", "check_members"]


def check_commitment(commitment: Commitment, tables: list[Table]) -> Iterator[DocumentError]:
    """Yield every broken rule of a commitment all of whose terms read, whoever the members are."""
    yield from _check_end(commitment, tables)
    yield from _check_act(commitment, tables)
    yield from _check_dates(commitment, tables)
    yield from _check_weights(commitment, tables)
    yield from _check_triggers(commitment, tables)
    yield from _check_stages(commitment, tables)
    for names in (("exemption",), ("indicator",), ("cap",), ("party", "lab")):
        named = [table for table in tables if table.name in names]
        yield from check_once([str(table.values["id"]) for table in named], [table.line_of("id") for table in named])


def _check_end(commitment: Commitment, tables: list[Table]) -> Iterator[DocumentError]:
    # SPEC commitments-4: a commitment that constrains MUST have an end: a term, a lifting, or a trigger that ends it.
    ends = (
        commitment.term.expires_ms is not None
        or commitment.term.length_ms is not None
        or commitment.lifting.by is not None
        or (commitment.triggers is not None and commitment.triggers.when_below == "end")
    )
    if commitment.kind in CONSTRAINING and not ends:
        message = "it would never end: give it a [term], say in [lifting] who lifts it, or let its trigger end it"
        yield DocumentError(line_in(tables, "commitment", "kind"), message)


def _check_act(commitment: Commitment, tables: list[Table]) -> Iterator[DocumentError]:
    # SPEC commitments-5: an act, which is done at its entry, MUST NOT have a term, lifting, triggers or exemptions.
    if commitment.kind in CONSTRAINING:
        return
    for table in tables:
        if table.name in ("term", "lifting", "stage", "triggers", "indicator", "exemption", "breach", "lease"):
            message = f"[{table.name}]: a commitment of kind {commitment.kind} is done at its entry into force"
            yield DocumentError(table.line, message)
    if commitment.withdrawal.notice_ms is not None:
        message = f"notice: a commitment of kind {commitment.kind} is done at its entry, and cannot be left after it"
        yield DocumentError(line_in(tables, "withdrawal", "notice"), message)
    empty = (isinstance(commitment.act, Accession) and not (commitment.act.parties or commitment.act.labs)) or (
        isinstance(commitment.act, Amendment) and commitment.act == Amendment(None, None, None, None, None)
    )
    if empty:
        yield DocumentError(line_in(tables, "commitment", "kind"), f"a commitment of kind {commitment.kind} of nothing")


def _check_dates(commitment: Commitment, tables: list[Table]) -> Iterator[DocumentError]:
    # SPEC commitments-6: dates MUST be in order: pledges_by, effective, lapses, expires; a minimum MUST fit its term.
    entry, term = commitment.entry, commitment.term
    dates = [
        ("entry", "pledges_by", entry.pledges_by_ms, 0),
        ("entry", "effective", entry.effective_ms, 0),
        ("entry", "lapses", entry.lapses_ms, 0),
        ("term", "expires", term.expires_ms, 1),
    ]
    last_name, last_ms = "", -1
    for table, key, time_ms, apart_ms in dates:
        if time_ms is None:
            continue
        if time_ms < last_ms + apart_ms:
            message = f"{key}: {format_time(time_ms)} is before {last_name}, {format_time(last_ms)}"
            yield DocumentError(line_in(tables, table, key), message)
        last_name, last_ms = key, time_ms
    if entry.lapses_ms is not None and entry.pledges_by_ms + entry.delay_ms > entry.lapses_ms:
        message = "lapses: pledges made by the deadline could not enter into force before it, for the delay"
        yield DocumentError(line_in(tables, "entry", "lapses"), message)
    if term.expires_ms is not None and term.length_ms is not None:
        yield DocumentError(line_in(tables, "term", "length"), "length: the term ends at expires already")
    if term.length_ms is not None and term.minimum_ms > term.length_ms:
        yield DocumentError(line_in(tables, "term", "minimum"), "minimum: longer than the term")
    if term.extensions and term.expires_ms is None and term.length_ms is None:
        yield DocumentError(line_in(tables, "term.extension"), "[term.extension]: there is no end to extend")


def _check_weights(commitment: Commitment, tables: list[Table]) -> Iterator[DocumentError]:
    # SPEC commitments-3: where a share of weight is asked for, weights MUST be given, and some above zero.
    rules = [
        ("entry", commitment.entry.rule),
        ("lifting", commitment.lifting.by),
        ("term.extension", commitment.term.extended_by),
    ]
    for table, rule in rules:
        if rule is not None and rule.weight_ppm and not any(commitment.weights.values()):
            message = "weight: no party has a weight, so that no share of it could be reached; add [[weight]]"
            yield DocumentError(line_in(tables, table, "weight"), message)


def _check_triggers(commitment: Commitment, tables: list[Table]) -> Iterator[DocumentError]:
    # SPEC commitments-7: triggers MUST need at least two families, one of them external, that the indicators have.
    rule = commitment.triggers
    if rule is None:
        return
    sources: dict[str, str] = {}
    found = [table for table in tables if table.name == "indicator"]
    for indicator, table in zip(rule.indicators, found, strict=True):
        if indicator.off_micro > indicator.on_micro:
            yield DocumentError(table.line_of("off"), "off: above on, so that it would be both at once")
        if sources.setdefault(indicator.family, indicator.source) != indicator.source:
            message = f'source: the family "{indicator.family}" is {sources[indicator.family]} already'
            yield DocumentError(table.line_of("source"), message)
    line = line_in(tables, "triggers", "families")
    if rule.families > len(sources):
        message = f"families: {rule.families} can never be met by the indicators of {len(sources)}"
        yield DocumentError(line, message)
    if "external" not in sources.values():
        yield DocumentError(line, "families: none of them is external; labs alone would decide what binds them")


def _check_stages(commitment: Commitment, tables: list[Table]) -> Iterator[DocumentError]:
    # SPEC commitments-8: each stage of a ramp MUST be looser than the one before, and something MUST begin the ramp.
    found = [table for table in tables if table.name == "stage"]
    if not found:
        return
    limit = own_limit(commitment)
    for stage, table in zip(commitment.lifting.stages, found, strict=True):
        if stage.limit <= limit:
            yield DocumentError(table.line, "[[stage]]: not looser than what holds before it")
        limit = stage.limit
    ends = commitment.triggers is not None and commitment.triggers.when_below == "end"
    if commitment.lifting.by is None and not ends:
        yield DocumentError(found[0].line, "[[stage]]: nothing lifts this commitment, so that no ramp would begin")


def own_limit(commitment: Commitment) -> int:
    """Return the number that a ramp's stages loosen; 0 for kinds without stages."""
    match commitment.measure:
        case Pause(above_gflop=limit) | SlowDown(rate_gflop_per_s=limit) | Growth(growth_ppm=limit):
            return limit
        case CapLimits() | None:
            return 0
