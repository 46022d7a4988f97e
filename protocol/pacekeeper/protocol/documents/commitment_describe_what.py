"""What a commitment does, in sentences: the constraint that it is in force, or the act that is done at its entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pacekeeper.protocol import keys
from pacekeeper.protocol.documents.commitment_model import (
    Accession,
    Act,
    Amendment,
    CapLimits,
    Exit,
    Growth,
    Kind,
    Measure,
    Pause,
    SlowDown,
)
from pacekeeper.protocol.documents.describe import describe_cap, describe_margins, describe_timing, exact_flop
from pacekeeper.protocol.documents.model import Lab, Party, Quorum
from pacekeeper.protocol.documents.values import format_pin
from pacekeeper.protocol.text import count_of, printable
from pacekeeper.protocol.tlog.vkey import format_vkey
from pacekeeper.protocol.units import format_duration, format_percent

_KINDS: Final = {
    Kind.PAUSE: "a pause: while it applies to a lab, the lab's runs above a limit hold",
    Kind.SLOW_DOWN: "a slow-down: while it applies to a lab, all the lab's training keeps to a rate",
    Kind.GROWTH: "a limit on growth: while it applies to a lab, the lab's compute grows no faster than this",
    Kind.CAP: "a set of caps that hold, while it applies, besides those of the agreement",
    Kind.ACCESSION: "an accession: parties or labs join the agreement, once, when it enters into force",
    Kind.EXIT: "an exit: a party leaves the agreement, once, when it enters into force",
    Kind.AMENDMENT: "an amendment: terms of the agreement change, once, when it enters into force",
    Kind.KEYS: "a replacement of keys, done once, when it enters into force",
}


def kind_in_words(kind: Kind) -> str:
    """Say what a kind of commitment does."""
    return _KINDS[kind]


def of_measure(measure: Measure | None) -> Iterator[tuple[str, str]]:
    """Yield (table, sentence) about a constraint."""
    match measure:
        case Pause(above, wind_down):
            yield (
                "pause",
                f"A run holds whose compute, with its ancestors', is above {exact_flop(above)}; it has "
                f"{format_duration(wind_down)} to save its checkpoint.",
            )
        case SlowDown(rate, wind_down):
            yield (
                "slow-down",
                f"All training of a lab together keeps to {exact_flop(rate)} a second, "
                f"{format_duration(wind_down)} after it begins to apply.",
            )
        case Growth():
            yield from (("growth", sentence) for sentence in _growth(measure))
        case CapLimits(caps):
            yield from (("cap", describe_cap(cap)) for cap in caps)


def _growth(growth: Growth) -> Iterator[str]:
    yield (
        f"In each {count_of(growth.window, 'period')} a lab uses at most {format_percent(growth.growth_ppm)} more than "
        f"in the {count_of(growth.baseline, 'period')} before, taken in proportion, and in any case "
        f"{exact_flop(growth.floor_gflop)}."
    )
    if growth.banking_ppm:
        yield f"Of what is left unused, up to {format_percent(growth.banking_ppm)} of the limit is carried over."
    else:
        yield "Nothing that is left unused is carried over."
    if growth.debt_ppm:
        yield f"Of what is used too much, {format_percent(growth.debt_ppm)} is taken off what comes after."
    else:
        yield "What is used too much is a violation, and is not taken off what comes after."


def of_stage(measure: Measure | None, limit: int) -> str:
    """Say what a stage of a ramp limits, in the measure's own unit."""
    match measure:
        case SlowDown():
            return f"all training of a lab together keeps to {exact_flop(limit)} a second"
        case Growth():
            return f"growth of at most {format_percent(limit)}"
        case _:
            return f"only runs above {exact_flop(limit)} hold"


def of_act(act: Act | None) -> Iterator[tuple[str, str]]:
    """Yield (table, sentence) about an act."""
    match act:
        case None:
            return
        case Accession(parties, labs, quorum):
            yield from (("party", _joins(party)) for party in parties)
            yield from (("lab", _lab_joins(lab)) for lab in labs)
            yield from _quorum(quorum)
        case Exit(party, quorum):
            yield "exit", f"{party} leaves, with its labs."
            yield from _quorum(quorum)
        case Amendment():
            yield from _amendment(act)
        case _:
            for new in act.keys:
                whose = f"{new.role} {new.holder}" if new.role != new.holder else f"the {new.role}"
                key = keys.format_public_key(new.key)
                yield "key", f"The key of {whose} becomes {key}, its number {new.epoch}; the one before signs no more."


def _joins(party: Party) -> str:
    verifier = party.verifier
    return (
        f"{printable(party.name)} ({party.id}) becomes a party with the key {keys.format_public_key(party.key)}; its "
        f"verifier {printable(verifier.name)} answers at {printable(verifier.address)}, signs with "
        f"{keys.format_public_key(verifier.statement_key)}, cosigns with "
        f"{printable(format_vkey(verifier.cosign_key))}, and is known on the network by "
        f"{format_pin(verifier.tls_spki)}."
    )


def _lab_joins(lab: Lab) -> str:
    return (
        f"{printable(lab.name)} ({lab.id}) becomes a lab of {lab.party} with the key "
        f"{keys.format_public_key(lab.key)}, and is known on the network by {format_pin(lab.tls_spki)}."
    )


def _quorum(quorum: Quorum | None) -> Iterator[tuple[str, str]]:
    if quorum is None:
        yield "quorum", "The agreement's quorum stays as it is."
        return
    of = f" of {quorum.verifiers}" if quorum.verifiers else ""
    liars = count_of(quorum.liars, "liar")
    yield "quorum", f"From then on {quorum.quorum}{of} verifiers are a quorum, which stands up to {liars} among them."


def _amendment(act: Amendment) -> Iterator[tuple[str, str]]:
    if act.timing is not None:
        yield "timing", f"From then on: {describe_timing(act.timing)}"
    if act.quorum is not None:
        yield from _quorum(act.quorum)
    if act.margins is not None:
        yield "margins", f"From then on: {describe_margins(act.margins)}"
    if act.indeterminate_periods is not None:
        periods = count_of(act.indeterminate_periods, "period")
        yield "resolution", f"From then on a cap that the margins leave undecided for {periods} counts as exceeded."
    for cap in act.caps or ():
        yield "cap", f"From then on, in the place of all caps of the agreement: {describe_cap(cap)}"
