"""An agreement in plain sentences, for whoever is about to sign it. Text from the document is escaped.

Example: "Quorum 3 of 4 verifiers: tolerates 1 liar and 1 absence."
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pacekeeper.protocol.documents.agreement import METHODS
from pacekeeper.protocol.documents.model import Agreement, Cap, Quorum, Timing
from pacekeeper.protocol.text import count_of, printable
from pacekeeper.protocol.units import FLOP_PER_UNIT, format_duration, format_percent, format_time

_MAX_DECIMALS: Final = 12  # of a quantity's number, see units


def describe_agreement(agreement: Agreement) -> list[str]:
    """Return what an agreement says, one sentence each, in the order that a reader asks."""
    return [
        f'"{printable(agreement.title)}" is logged as {agreement.origin}, by rules version {agreement.rules_version}.',
        f"Its fingerprint is {agreement.fingerprint.hex()}.",
        *_who(agreement),
        _quorum(agreement),
        *_when(agreement),
        *(describe_cap(cap) for cap in agreement.caps),
        describe_margins(agreement.margins),
        f"A cap that the margins leave undecided for {count_of(agreement.indeterminate_periods, 'period')} "
        "counts as exceeded.",
    ]


def describe_terms(
    *,
    quorum: Quorum | None = None,
    timing: Timing | None = None,
    margins: Mapping[int, int] | None = None,
    indeterminate_periods: int | None = None,
    caps: Iterable[Cap] | None = None,
) -> Iterator[str]:
    """Yield what new terms say, one sentence each without full stop; None where nothing is new.

    A quorum's number of verifiers is not looked at: of an act's, it is known only once the act is done.
    """
    if quorum is not None:
        liars = count_of(quorum.liars, "liar")
        yield f"the quorum is {quorum.quorum} cosignatures, and {liars} may be among the verifiers"
    if timing is not None:
        yield (
            f"the log ticks every {format_duration(timing.tick_ms)}, clocks may differ by "
            f"{format_duration(timing.tolerance_ms)}, and an entry may stay unwitnessed for "
            f"{format_duration(timing.unwitnessed_ms)}"
        )
    if margins is not None:
        yield describe_margins(margins).removesuffix(".").replace("Methods", "methods", 1)
    if indeterminate_periods is not None:
        yield f"what the margins leave undecided for {count_of(indeterminate_periods, 'period')} counts as exceeded"
    if caps is not None:
        yield from (describe_cap(cap).removesuffix(".").replace("Cap", "cap", 1) for cap in caps)


def exact_flop(gflop: int) -> str:
    """Write gigaFLOP as FLOP exactly: 10**15 -> "1e24 FLOP", 12345 -> "1.2345e13 FLOP"; parse_flop reads it back."""
    if gflop == 0:
        return "0 FLOP"
    digits = str(gflop * FLOP_PER_UNIT)
    mantissa = digits.rstrip("0")
    if len(mantissa) == 1:
        return f"{mantissa}e{len(digits) - 1} FLOP"
    if len(mantissa) <= 1 + _MAX_DECIMALS:
        return f"{mantissa[0]}.{mantissa[1:]}e{len(digits) - 1} FLOP"
    return f"{mantissa}e{len(digits) - len(mantissa)} FLOP"


def _who(agreement: Agreement) -> Iterator[str]:
    for party in agreement.parties:
        labs = [f"{printable(lab.name)} ({lab.id})" for lab in agreement.labs if lab.party == party.id]
        yield (
            f"{printable(party.name)} ({party.id}) runs the verifier {party.verifier.name} at {party.verifier.address} "
            f"and answers for {listed(labs) if labs else 'no lab'}."
        )


def _quorum(agreement: Agreement) -> str:
    quorum = agreement.quorum
    tolerated = f"{count_of(quorum.liars, 'liar')} and {count_of(quorum.absences, 'absence')}"
    return f"Quorum {quorum.quorum} of {count_of(quorum.verifiers, 'verifier')}: tolerates {tolerated}."


def _when(agreement: Agreement) -> Iterator[str]:
    calendar = agreement.calendar
    yield (
        f"Periods of {format_duration(calendar.period_ms)} count from {format_time(calendar.epoch_ms)}; an account is "
        f"due {format_duration(calendar.due_ms)} after its period's end and is taken, late, until "
        f"{format_duration(calendar.fill_in_ms)} after it."
    )
    yield describe_timing(agreement.timing)


def describe_timing(timing: Timing) -> str:
    """Say how often the log ticks, and what it may put up with."""
    return (
        f"The log signs a tick every {format_duration(timing.tick_ms)} at least, stops when an entry stays unwitnessed "
        f"for {format_duration(timing.unwitnessed_ms)}, and clocks may differ by "
        f"{format_duration(timing.tolerance_ms)}."
    )


def describe_cap(cap: Cap) -> str:
    """Say in a sentence what a cap allows, and whom."""
    what = {
        "run": "each run with its ancestors",
        "lab": f"each lab in {count_of(cap.window, 'period')} together",
        "party": f"each party's labs in {count_of(cap.window, 'period')} together",
    }[cap.kind]
    whom = f", for {listed(list(cap.subjects))} only" if cap.subjects else ""
    return f"Cap {cap.id}: {what} may use {exact_flop(cap.limit)}{whom}."


def describe_margins(margins: Mapping[int, int]) -> str:
    """Say which methods are admitted, and how wide a margin each may state."""
    names = {method: name for name, method in METHODS.items()}
    parts = [f"{names[method]} {format_percent(ppm)}" for method, ppm in margins.items()]
    return f"Methods admitted, each with the widest margin it may state: {listed(parts)}."


def listed(items: list[str]) -> str:
    """Write a list of one or more: "a, b and c"."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
