"""A commitment in plain sentences, for whoever is about to sign it: every term that it has, and what its silence means.

Each sentence belongs to a table of the document, so that a page can put it beside the terms that it is about; what a
document says by leaving a table out is told as well. Text from the document is escaped.

Example: "Enters into force 30 d after at least 3 parties and 2 labs are bound."
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from pacekeeper.protocol.commitments.pledges import Condition
from pacekeeper.protocol.documents.commitment_describe_what import kind_in_words, of_act, of_measure, of_stage
from pacekeeper.protocol.documents.commitment_model import CONSTRAINING, Commitment, EntryRule, Indicator
from pacekeeper.protocol.documents.describe import exact_flop, listed
from pacekeeper.protocol.text import count_of, printable
from pacekeeper.protocol.units import format_duration, format_percent, format_time

_MICRO: Final = 1_000_000  # of an indicator's unit


class Said(NamedTuple):
    """One sentence, and the table that says so, or would if the document had it."""

    table: str
    sentence: str


def describe_commitment(terms: Commitment) -> list[str]:
    """Return what a commitment says, one sentence each, in the order that a reader asks.

    SPEC commitments-76: every term of a commitment's document MUST be told in words, and what follows from the absence
    of one too.
    """
    return [said.sentence for said in describe_tables(terms)]


def describe_tables(terms: Commitment) -> list[Said]:
    """Return the same, each sentence with its table."""
    said = [
        Said("commitment", f'"{printable(terms.title)}" ({terms.id}) is {kind_in_words(terms.kind)}.'),
        *of_measure(terms.measure),
        *of_act(terms.act),
        *_exemptions(terms),
        *_scope(terms),
        *_entry(terms.entry),
        *_notice(terms),
        *_weights(terms),
        *_triggers(terms),
    ]
    if terms.kind in CONSTRAINING:
        said += [*_term(terms), *_lifting(terms)]
    said += _withdrawal(terms)
    if terms.kind in CONSTRAINING:
        said += [*_breach(terms), *_lease(terms)]
    return [Said(*each) for each in said]


def condition_in_words(condition: Condition) -> str:
    """Write a demand: "at least 3 parties, norland and sudland and 55 % of the weight"."""
    parts = []
    if condition.parties:
        parts.append(f"at least {count_of(condition.parties, 'party')}")
    if condition.labs:
        parts.append(f"at least {count_of(condition.labs, 'lab')} by their own pledge")
    if condition.named:
        names = sorted(condition.named)
        parts.append(names[0] if len(names) == 1 else f"all of {listed(names)}")
    if condition.weight_ppm:
        parts.append(f"at least {format_percent(condition.weight_ppm)} of the weight")
    return listed(parts) if parts else "anyone at all"


def _exemptions(terms: Commitment) -> Iterator[tuple[str, str]]:
    for exemption in terms.exemptions:
        window = f"in any {count_of(exemption.window, 'period')}" if exemption.window else "in all its time in force"
        budget = exact_flop(exemption.budget_gflop)
        yield "exemption", f"Exempt for each lab ({exemption.id}): {exemption.category}, up to {budget} {window}."


def _scope(terms: Commitment) -> Iterator[tuple[str, str]]:
    scope = terms.scope
    who = []
    if scope.parties:
        who.append(f"{listed(sorted(scope.parties))}, each with its labs")
    if scope.labs:
        who.append(f"the labs {listed(sorted(scope.labs))}" if len(scope.labs) > 1 else f"the lab {min(scope.labs)}")
    only = f"Only these may pledge: {'; '.join(who)}" if who else "Any party or lab of the agreement may pledge"
    yield "scope", f"{only}. It binds whoever pledges; a party that is bound binds its labs."


def _entry(entry: EntryRule) -> Iterator[tuple[str, str]]:
    rule = condition_in_words(entry.rule)
    yield "entry", f"It enters into force {format_duration(entry.delay_ms)} after this is bound: {rule}."
    if entry.clean_periods:
        clean = count_of(entry.clean_periods, "period")
        yield "entry", f"Nobody is bound who has not been without a violation for {clean} in a row."
    yield (
        "entry",
        f"Pledges are gathered until {format_time(entry.pledges_by_ms)}; if not enough are bound then, it fails, and "
        "whoever pledges later must be bound at once.",
    )
    if entry.effective_ms is not None:
        yield "entry", f"It does not enter into force before {format_time(entry.effective_ms)}."
    if entry.lapses_ms is not None:
        yield "entry", f"It fails if it is not in force by {format_time(entry.lapses_ms)}."


def _notice(terms: Commitment) -> Iterator[tuple[str, str]]:
    notice = format_duration(terms.entry.notice_ms)
    if terms.kind in CONSTRAINING:
        yield "entry", f"Nothing is constrained before {notice} have passed since the entry on the log that fixed it."
    else:
        yield "entry", f"Its notice, {notice}, is one of constraints, and it has none."


def _weights(terms: Commitment) -> Iterator[tuple[str, str]]:
    if terms.weights:
        shares = [f"{party} {weight}" for party, weight in sorted(terms.weights.items())]
        yield "weight", f"The weights, of {sum(terms.weights.values())} in all: {listed(shares)}."


def _triggers(terms: Commitment) -> Iterator[tuple[str, str]]:
    rule = terms.triggers
    if rule is None:
        return
    after = "it waits for the next time" if rule.when_below == "arm" else "it is lifted"
    yield (
        "triggers",
        f"It constrains only while the indicators of at least {rule.families} families are met, one of them external; "
        f"when they are no longer, {after}.",
    )
    for indicator in rule.indicators:
        yield "indicator", _indicator(indicator)


def _indicator(indicator: Indicator) -> str:
    unit, reports = printable(indicator.unit, 64), count_of(indicator.reports, "report")
    on, off = (f"{_level(level)} {unit}" for level in (indicator.on_micro, indicator.off_micro))
    source = "labs" if indicator.source == "lab" else "parties, from outside the labs"
    return (
        f"Indicator {indicator.id}, of the family {indicator.family}, is reported by {source}: "
        f"{listed(list(indicator.reporters))}. It is met once the lower bounds of {reports} in a row are at {on} or "
        f"above, until the upper bounds of as many are below {off}. A report is due every "
        f"{format_duration(indicator.every_ms)}; {format_duration(indicator.grace_ms)} later silence counts as met."
    )


def _level(micro: int) -> str:
    whole, rest = divmod(micro, _MICRO)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")


def _term(terms: Commitment) -> Iterator[tuple[str, str]]:
    term = terms.term
    if term.expires_ms is not None:
        yield "term", f"It ends at {format_time(term.expires_ms)} at the latest."
    elif term.length_ms is not None:
        yield "term", f"It ends {format_duration(term.length_ms)} after its entry into force at the latest."
    else:
        yield "term", "It has no date on which it ends."
    if term.minimum_ms:
        minimum = format_duration(term.minimum_ms)
        yield "term", f"For {minimum} after its entry into force nobody can lift it, and no withdrawal takes effect."
    if term.extended_by is not None:
        longer, times = format_duration(term.extension_ms), count_of(term.extensions, "time")
        votes = condition_in_words(term.extended_by)
        yield (
            "term",
            f"Its end is put off by {longer}, {times} at most, when these, or all that are bound, say so: {votes}.",
        )
    if term.requires == "anyone":
        yield "term", "It goes on as long as anyone is bound."
    else:
        yield "term", "It ends as soon as those still bound do not meet the rule for its entry into force."


def _lifting(terms: Commitment) -> Iterator[tuple[str, str]]:
    lifting = terms.lifting
    if lifting.by is None:
        yield "lifting", "Nobody can lift it before its end."
    else:
        votes = condition_in_words(lifting.by)
        yield "lifting", f"It is lifted when these, or all that are bound, say so: {votes}."
    for number, stage in enumerate(lifting.stages, start=1):
        limit = of_stage(terms.measure, stage.limit)
        lasts = format_duration(stage.lasts_ms)
        yield "stage", f"Once lifted, stage {number} of {len(lifting.stages)} is, for {lasts}: {limit}."


def _withdrawal(terms: Commitment) -> Iterator[tuple[str, str]]:
    rule = terms.withdrawal
    if rule.before:
        cut_off = f", until {format_duration(rule.cut_off_ms)} before that" if rule.cut_off_ms else ""
        yield "withdrawal", f"Before its entry into force a pledge can be taken back at once{cut_off}."
    else:
        cut_off = f" (from {format_duration(rule.cut_off_ms)} before it on, as after it)" if rule.cut_off_ms else ""
        yield "withdrawal", f"A pledge cannot be taken back before its entry into force{cut_off}."
    if terms.kind not in CONSTRAINING:
        return
    if rule.notice_ms is None:
        yield "withdrawal", "After that nobody can leave."
    else:
        reasons = ", with a statement of the reasons" if rule.reasoned else ""
        yield "withdrawal", f"After that anyone may leave with {format_duration(rule.notice_ms)} of notice{reasons}."
    if rule.not_before_ms:
        early = format_duration(rule.not_before_ms)
        yield "withdrawal", f"No notice can be given in the first {early} after its entry into force."
    if rule.ends_all:
        yield "withdrawal", "Whoever leaves after that ends it for everyone."


def _breach(terms: Commitment) -> Iterator[tuple[str, str]]:
    if terms.release_others:
        yield "breach", "An established breach ends it, and so releases all others."
    else:
        yield "breach", "A breach stays on the record and releases nobody."


def _lease(terms: Commitment) -> Iterator[tuple[str, str]]:
    if terms.lease is None:
        yield "lease", "A gate that is out of the log's reach goes on under the last constraints that it knows."
        return
    lease, then = format_duration(terms.lease.lease_ms), "holds all jobs"
    if not terms.lease.hold:
        then = "goes on under the last constraints that it knows"
    yield (
        "lease",
        f"From the pledge on, a gate that has seen nothing new of the log for {lease} {then}.",
    )
