"""Conditions as people type and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacekeeper.protocol.commitments.pledges import Condition
from pacekeeper.protocol.commitments.wording import format_condition, format_measure, format_pledge, parse_condition
from pacekeeper.protocol.documents.commitment_model import CapLimits, Growth
from pacekeeper.protocol.documents.model import Cap


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("parties>=3", Condition(parties=3)),
        (" labs >= 2 ,parties>= 3", Condition(parties=3, labs=2)),
        ("weight>=55 %, with b+a", Condition(weight_ppm=550_000, named=frozenset({"a", "b"}))),
        ("weight>=0.5%", Condition(weight_ppm=5_000)),
        ("with norland", Condition(named=frozenset({"norland"}))),
    ],
)
def test_a_conjunction_is_read(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    "text",
    ["", ",", "parties>3", "parties>=0", "parties>=-1", "states>=3", "weight>=101 %", "weight>=0 %", "weight>=55",
     "with", "with a,", "with A", "with a b", "with a++b", "parties>=2,parties>=3", "parties>=3 labs>=2", "parties>=٣",
     "parties>=99999"],
)  # fmt: skip
def test_what_is_no_conjunction_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"demand|over 100 %"):
        parse_condition(text)


conditions = st.builds(
    Condition,
    parties=st.integers(0, 9_999),
    labs=st.integers(0, 9_999),
    weight_ppm=st.integers(0, 10_000).map(lambda share: share * 100),
    named=st.frozensets(st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True), max_size=4),
).filter(lambda condition: condition != Condition())


@given(conditions)
def test_what_is_written_is_read_back(condition: Condition) -> None:
    assert parse_condition(format_condition(condition)) == condition


def test_a_pledge_says_on_what_it_depends() -> None:
    assert format_pledge(()) == "in any case"
    assert format_pledge((Condition(parties=3), Condition(named=frozenset({"a"})))) == "if parties>=3 or with a"
    assert format_condition(Condition()) == "nothing"


def test_what_windows_are_held_to_is_put_into_words() -> None:
    """SPEC commitments-67."""
    growth = Growth(30, 90, 50_000, 10**13, 200_000, 1_000_000)
    assert list(format_measure(growth)) == [
        "compute of 30 periods at most 5 % over the 90 periods before, and 1e22 FLOP in any case; up to 20 % of it is "
        "banked; 100 % of an overrun is owed"
    ]
    caps = CapLimits((Cap("big", "run", 10**15, 0, ()), Cap("all", "party", 10**16, 1, ("norland",))))
    assert list(format_measure(caps)) == [
        "Cap big: each run with its ancestors may use 1e24 FLOP",
        "Cap all: each party's labs in 1 period together may use 1e25 FLOP, for norland only",
    ]
