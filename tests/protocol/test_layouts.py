"""The short cuts in reading, against the full reading that they stand for: layouts of attestations, plain envelopes."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import damaged, misspelt, mutations

from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.layouts import MAX_LAYOUT_BYTES, Layout, learn_layout
from pacekeeper.protocol.readings import AttestationReading
from pacekeeper.protocol.statements import payload_type, read_statement
from pacekeeper.v1 import statements_pb2 as pb

KIND = payload_type(pb.ComputeAttestation)
FUZZ = int(os.environ.get("PACEKEEPER_FUZZ", "20000"))  # mutations of each kind; a run of millions is by hand
NUMBERS = [1, 2, 100, 127, 128, 300, 16_383, 16_384, 2**40, 2**55, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


DEFAULTS: dict[str, Any] = {
    "lab": "borealis",
    "sequence": 300,
    "previous": b"\x80" * 32,
    "as_of": 70,
    "period": 299,
    "steps": 1_000,
    "chip_ms": 20_000_000,
    "amount": 3 * 10**12,
    "other": 4 * 10**12,
    "second": 9,
    "training": 20_000_005,
    "idle": 77,
}
FIELDS = [name for name in DEFAULTS if name not in ("lab", "previous")]


def attestation(**changed: Any) -> pb.ComputeAttestation:
    """Two runs of two estimates and one, two categories, two pools."""
    of = DEFAULTS | changed
    estimates = [
        pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=of["amount"], margin_ppm=10_000),
        pb.Estimate(method=pb.METHOD_CHIP_TIME, amount=of["other"], margin_ppm=400_000),
    ]
    second = [pb.Estimate(method=pb.METHOD_CHIP_TIME, amount=of["second"], margin_ppm=1)]
    return pb.ComputeAttestation(
        agreement=bytes(range(32)),
        lab=of["lab"],
        link=pb.Link(sequence=of["sequence"], previous=of["previous"], as_of=of["as_of"]),
        account=pb.PeriodAccount(
            period=of["period"],
            figures=[
                pb.RunFigure(run="run-1", steps=of["steps"], chip_ms=of["chip_ms"], estimates=estimates),
                pb.RunFigure(run="run-2", chip_ms=5, estimates=second),
            ],
            time=[
                pb.CategoryTime(category=pb.CATEGORY_TRAINING, chip_ms=of["training"]),
                pb.CategoryTime(category=pb.CATEGORY_IDLE, chip_ms=of["idle"]),
            ],
            pools=[
                pb.AcceleratorPool(model="a", count=8, peak_gflop_per_s=989_000),
                pb.AcceleratorPool(model="b", count=1),
            ],
        ),
    )


def payload(**changed: Any) -> bytes:
    return attestation(**changed).SerializeToString(deterministic=True)


def in_full(data: bytes) -> AttestationReading | None:
    """What the full reading makes of an attestation's bytes; None where it refuses."""
    try:
        said = read_statement(KIND, data)[1]
    except Refused:
        return None
    assert isinstance(said, AttestationReading)
    return said


def layout_of(data: bytes) -> Layout:
    said = in_full(data)
    assert said is not None
    layout = learn_layout(data, said)
    assert layout is not None
    return layout


@cache
def known() -> Layout:
    return layout_of(payload())


def agree(layout: Layout, data: bytes) -> bool:
    """Whether the layout reads the bytes; what it reads is what a full reading gives."""
    said = layout.read(data)
    assert said is None or said == in_full(data), data.hex()
    return said is not None


def test_a_layout_reads_what_it_was_made_of_and_other_numbers() -> None:
    """SPEC envelope-6: and nothing of it is taken from the attestation that it was made of."""
    assert agree(known(), payload())
    other = payload(
        sequence=301,
        previous=bytes(range(100, 132)),
        as_of=71,
        period=300,
        steps=999,
        chip_ms=20_000_001,
        amount=3 * 10**12 + 1,
        other=1 << 41,
        second=10,
        training=20_000_006,
        idle=78,
    )
    assert len(other) == len(payload())
    assert agree(known(), other)
    said = known().read(other)
    assert said is not None
    assert said.link == (301, bytes(range(100, 132)), 71)
    assert said.account.figures == [("run-1", 3 * 10**12 + 1, 10_000), ("run-2", 10, 1)]
    assert (said.account.used_ms, said.account.training_ms, said.account.figures_ms) == (
        20_000_084,
        20_000_006,
        20_000_006,
    )


@pytest.mark.parametrize(
    "changed",
    [{"lab": "boreatis"}, {"sequence": 30}, {"period": 29_900}, {"amount": 5}, {"idle": 200}, {"other": 1}],
)
def test_what_has_other_lengths_or_ids_is_left_to_a_full_reading(changed: dict[str, Any]) -> None:
    """SPEC envelope-6."""
    data = payload(**changed)
    assert in_full(data) is not None
    assert known().read(data) is None


def test_the_first_of_a_chain_cannot_name_one_before_it() -> None:
    """SPEC statements-5, SPEC envelope-6: sequence 1 has the same length as sequence 2."""
    layout = layout_of(payload(sequence=2))
    assert in_full(payload(sequence=1)) is None
    assert layout.read(payload(sequence=1)) is None
    assert agree(layout, payload(sequence=127))


@pytest.mark.parametrize(
    "field", ["steps", "chip_ms", "amount", "other", "second", "training", "idle", "as_of", "period"]
)
def test_a_number_padded_with_zeros_does_not_fit(field: str) -> None:
    """SPEC envelope-3, SPEC envelope-6: a number of two bytes cannot be one that needs one, nor zero."""
    layout = layout_of(payload(**{field: 300}))
    good = payload(**{field: 16_000})
    assert agree(layout, good)
    assert good.count(b"\x80\x7d") == 1
    assert layout.read(good.replace(b"\x80\x7d", b"\x80\x00")) is None
    assert layout.read(good.replace(b"\x80\x7d", b"\x85\x00")) is None
    assert layout_of(payload(**{field: 97})).read(payload(**{field: 97}).replace(b"\x61", b"\x00")) is None


def without(name: str) -> pb.ComputeAttestation:
    statement = attestation()
    account = statement.account
    match name:
        case "as_of":
            statement.link.as_of = 0
        case "period":
            account.period = 0
        case "chip_ms":
            account.figures[1].chip_ms = 0
        case "amount":
            account.figures[0].estimates[0].amount = 0
        case "other amount":
            account.figures[0].estimates[1].amount = 0
        case "spent":
            account.time[1].chip_ms = 0
        case "previous":
            statement.link.previous, statement.link.sequence = b"", 1
        case "whole":
            account.splits_ms.append(5)
        case "short":
            account.figures[0].chip_ms = 2**63
        case _:
            account.figures.extend(
                pb.RunFigure(
                    run=f"run-3{number:03d}",
                    chip_ms=1,
                    estimates=[pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=1)],
                )
                for number in range(MAX_LAYOUT_BYTES // 20)
            )
    return statement


@pytest.mark.parametrize(
    "name",
    ["as_of", "period", "chip_ms", "amount", "other amount", "spent", "previous", "whole", "short", "small"],
)
def test_what_lacks_a_number_or_is_unusual_has_no_layout(name: str) -> None:
    """SPEC envelope-6: it is read in full each time."""
    data = without(name).SerializeToString(deterministic=True)
    said = in_full(data)
    assert said is not None
    assert learn_layout(data, said) is None


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_layout_and_the_full_reading_agree_on_any_numbers(data: st.DataObject) -> None:
    """SPEC envelope-6: both ways, since what has the same lengths is read by the layout."""
    draw = st.fixed_dictionaries(
        {},
        optional={name: st.sampled_from(NUMBERS) | st.integers(1, 2**64 - 1) for name in FIELDS},
    )
    first, second = payload(**data.draw(draw)), payload(**data.draw(draw))
    said = in_full(first)
    if said is None or (layout := learn_layout(first, said)) is None:
        return
    assert agree(layout, first)
    agree(layout, second)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_layout_and_the_full_reading_agree_on_misspelt_and_damaged_bytes(data: st.DataObject) -> None:
    """SPEC envelope-6."""
    changed = data.draw(misspelt(pb.ComputeAttestation.DESCRIPTOR, payload()))
    agree(known(), changed)
    for _ in range(data.draw(st.integers(1, 3))):
        changed = data.draw(damaged(changed))
    agree(known(), changed)


def test_a_layout_and_the_full_reading_agree_on_many_changes() -> None:
    """SPEC envelope-6: thousands of changed bytes, many of which fit."""
    fitted = sum(agree(known(), data) for data in mutations(payload(), FUZZ, 1))
    assert FUZZ // 20 < fitted < FUZZ
