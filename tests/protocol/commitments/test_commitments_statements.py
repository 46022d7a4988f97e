"""The shape of statements about commitments: every field outside its definition, and that the rest passes."""

from __future__ import annotations

from typing import Any

import pytest
from commitments import Play, build_commitment

from pacekeeper.protocol import limits
from pacekeeper.protocol.canonical import parse_canonical
from pacekeeper.protocol.commitments.pledges import Condition
from pacekeeper.protocol.commitments.statements import CHECKS, read_alternatives, read_report
from pacekeeper.protocol.commitments.triggers import Report
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import statements_pb2 as pb

D = bytes(range(32))
KEY = bytes.fromhex("58" + "66" * 31)


def good() -> dict[str, Any]:
    return {
        "commitment": pb.Commitment(agreement=D, proposer="norland", document=b"# Text"),
        "pledge": pb.Pledge(
            agreement=D,
            participant="norland",
            commitment="pause",
            digest=D,
            alternatives=[pb.Condition(parties=2, labs=1, named=["a", "b"], weight_ppm=550_000)],
        ),
        "withdrawal": pb.Withdrawal(agreement=D, participant="norland", commitment="pause", reason="", pledge_index=4),
        "lift": pb.Lift(agreement=D, participant="norland", commitment="pause", action=pb.LIFT_ACTION_LIFT),
        "report": pb.IndicatorReport(
            agreement=D,
            reporter="norland",
            indicator="task-horizon",
            unit="h",
            scale=1,
            lower=53,
            central=120,
            upper=660,
            until_ms=1,
            method="median of 40 tasks, 95 % by bootstrap",
            evidence_digest=D,
        ),
        "rotation": pb.KeyRotation(agreement=D, role=pb.KEY_ROLE_LAB, holder="borealis", epoch=2, key=KEY),
    }


def refused(statement: Any) -> Code | None:
    try:
        CHECKS[type(statement)](statement, statement.ByteSize())
    except Refused as refusal:
        return refusal.code
    return None


def test_every_statement_passes_as_it_should_be_and_is_canonical() -> None:
    for statement in good().values():
        assert refused(statement) is None
        assert parse_canonical(type(statement), statement.SerializeToString(deterministic=True)) == statement
    assert {type(statement) for statement in good().values()} == set(CHECKS)


TOO_MANY = [pb.Condition(parties=1)] * 9
CHANGES: list[tuple[str, dict[str, Any], Code]] = [
    ("commitment", {"agreement": b""}, Code.BAD_FIELD),
    ("commitment", {"proposer": "Norland"}, Code.BAD_FIELD),
    ("commitment", {"document": b""}, Code.BAD_FIELD),
    ("commitment", {"document": bytes(limits.MAX_DOCUMENT_BYTES + 1)}, Code.TOO_LARGE),
    ("pledge", {"participant": ""}, Code.BAD_FIELD),
    ("pledge", {"commitment": "-"}, Code.BAD_FIELD),
    ("pledge", {"digest": b"short"}, Code.BAD_FIELD),
    ("pledge", {"alternatives": TOO_MANY}, Code.TOO_LARGE),
    ("pledge", {"alternatives": [pb.Condition()]}, Code.BAD_FIELD),
    ("pledge", {"alternatives": [pb.Condition(named=["b", "a"])]}, Code.BAD_FIELD),
    ("pledge", {"alternatives": [pb.Condition(named=["a", "a"])]}, Code.BAD_FIELD),
    ("pledge", {"alternatives": [pb.Condition(named=["A"])]}, Code.BAD_FIELD),
    ("pledge", {"alternatives": [pb.Condition(weight_ppm=1_000_001)]}, Code.BAD_FIELD),
    ("pledge", {"alternatives": [pb.Condition(named=[f"x{n:04}" for n in range(289)])]}, Code.TOO_LARGE),
    ("withdrawal", {"reason": "\x00"}, Code.BAD_FIELD),
    ("withdrawal", {"reason": "x" * 4_001}, Code.BAD_FIELD),
    ("lift", {"action": 0}, Code.BAD_FIELD),
    ("lift", {"action": 3}, Code.BAD_FIELD),
    ("lift", {"round": 1}, Code.BAD_FIELD),
    ("report", {"indicator": ""}, Code.BAD_FIELD),
    ("report", {"unit": ""}, Code.BAD_FIELD),
    ("report", {"unit": "h h"}, Code.BAD_FIELD),
    ("report", {"scale": 10}, Code.BAD_FIELD),
    ("report", {"central": 700}, Code.BAD_FIELD),
    ("report", {"lower": 121}, Code.BAD_FIELD),
    ("report", {"censoring": pb.CENSORING_ABOVE}, Code.BAD_FIELD),
    ("report", {"censoring": 3}, Code.BAD_FIELD),
    ("report", {"until_ms": 0}, Code.BAD_FIELD),
    ("report", {"until_ms": limits.MAX_TIME_MS + 1}, Code.BAD_FIELD),
    ("report", {"method": ""}, Code.BAD_FIELD),
    ("report", {"method": "\u202e"}, Code.BAD_FIELD),
    ("report", {"evidence_digest": b""}, Code.BAD_FIELD),
    ("rotation", {"role": 0}, Code.BAD_FIELD),
    ("rotation", {"role": 5}, Code.BAD_FIELD),
    ("rotation", {"epoch": 1}, Code.BAD_FIELD),
    ("rotation", {"key": bytes(32)}, Code.BAD_KEY),
]


@pytest.mark.parametrize(("name", "change", "code"), CHANGES)
def test_a_field_outside_its_definition_is_refused(name: str, change: dict[str, Any], code: Code) -> None:
    """SPEC statements-16, SPEC statements-17, SPEC statements-18."""
    statement = good()[name]
    for field, value in change.items():
        if isinstance(value, list):
            del getattr(statement, field)[:]
            getattr(statement, field).extend(value)
        else:
            setattr(statement, field, value)
    assert refused(statement) is code


def test_statements_are_read_as_the_engine_takes_them() -> None:
    assert read_alternatives(good()["pledge"]) == (Condition(2, 1, frozenset({"a", "b"}), 550_000),)
    assert read_report(good()["report"]) == Report("task-horizon", "norland", "h", 1, 53, 120, 660, False, 1)


def test_what_was_said_of_one_pledge_is_not_repeated_of_another() -> None:
    """SPEC commitments-41."""
    play = Play(build_commitment(entry={"parties": 1}, term={"extension": EXTENSION, "length": "99 d"}))
    now, registry = play.now_ms, play.registry
    with pytest.raises(Refused):
        registry.pledge("norland", "pause", (), 7, now, round_number=1)
    registry.pledge("norland", "pause", (), 7, now, round_number=0)
    play.at("10 d")
    for act in (
        lambda: registry.withdraw("norland", "pause", "", 8, play.now_ms, pledge_index=6),
        lambda: registry.lift("norland", "pause", 8, play.now_ms, pledge_index=6),
        lambda: registry.extend("norland", "pause", 8, play.now_ms, pledge_index=6, round_number=0),
        lambda: registry.extend("norland", "pause", 8, play.now_ms, pledge_index=7, round_number=1),
    ):
        with pytest.raises(Refused) as caught:
            act()
        assert caught.value.code is Code.WRONG_ROUND
    registry.extend("norland", "pause", 8, play.now_ms, pledge_index=7, round_number=0)
    assert play.standing.extensions == 1


EXTENSION = {"parties": 1, "length": "50 d", "times": 1}
