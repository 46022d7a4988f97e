"""The shape of statements about commitments, indicators and keys: what their fields may hold, whatever the log says.

CHECKS is what statements.py adds to its table: message class -> check(statement, size of the payload). Each raises
Refused(bad-field, too-large).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from pacekeeper.protocol import keys, limits
from pacekeeper.protocol.commitments.pledges import Alternatives, Condition
from pacekeeper.protocol.commitments.triggers import Report
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.readings import bad_field, is_id
from pacekeeper.protocol.text import is_plain
from pacekeeper.protocol.units import PPM
from pacekeeper.v1 import statements_pb2 as pb

_UNIT: Final = re.compile(r"[A-Za-z%][A-Za-z0-9%/-]{0,15}\Z")


def _check_names(statement: Any, *fields: str) -> None:
    """SPEC statements-2, SPEC statements-13: the agreement by 32 bytes, and ids in their form."""
    if len(statement.agreement) != 32:
        raise bad_field("agreement is named by the 32 bytes of its fingerprint")
    for field in fields:
        if not is_id(getattr(statement, field)):
            raise bad_field(f"{field} is not an id of lower-case letters, digits and hyphens")


def _check_digest(digest: bytes, what: str) -> None:
    if len(digest) != 32:
        raise bad_field(f"{what} has 32 bytes")


def _check_commitment(statement: pb.Commitment, _size: int) -> None:
    _check_names(statement, "proposer")
    if not statement.document:
        raise bad_field("document is empty")
    if len(statement.document) > limits.MAX_DOCUMENT_BYTES:
        raise Refused(Code.TOO_LARGE, f"document of over {limits.MAX_DOCUMENT_BYTES} bytes")


def _check_pledge(statement: pb.Pledge, _size: int) -> None:
    """SPEC statements-16: a pledge MUST have at most 8 alternatives, each of which asks for something, with names
    ascending and shares at most 100 %."""
    _check_names(statement, "participant", "commitment")
    _check_digest(statement.digest, "the commitment's digest")
    if len(statement.alternatives) > limits.MAX_ALTERNATIVES:
        raise Refused(Code.TOO_LARGE, f"over {limits.MAX_ALTERNATIVES} alternatives")
    for condition in statement.alternatives:
        _check_condition(condition)


def _check_condition(condition: pb.Condition) -> None:
    if len(condition.named) > limits.MAX_NAMED:
        raise Refused(Code.TOO_LARGE, f"over {limits.MAX_NAMED} names in a condition")
    last = ""
    for name in condition.named:
        if name <= last or not is_id(name):
            raise bad_field("a condition's names are ids in ascending order")
        last = name
    if condition.weight_ppm > PPM:
        raise bad_field("a share is over 100 %")
    if not (condition.parties or condition.labs or condition.named or condition.weight_ppm):
        raise bad_field("a condition that asks for nothing: an unconditional pledge has no alternatives")


def _check_withdrawal(statement: pb.Withdrawal, _size: int) -> None:
    _check_names(statement, "participant", "commitment")
    if statement.reason and not is_plain(statement.reason, limits.MAX_METHOD_CHARS):
        raise bad_field(f"reason has characters that cannot be shown, or is over {limits.MAX_METHOD_CHARS} characters")


def _check_lift(statement: pb.Lift, _size: int) -> None:
    _check_names(statement, "participant", "commitment")
    if statement.action not in (pb.LIFT_ACTION_LIFT, pb.LIFT_ACTION_EXTEND):
        raise bad_field("action is unspecified or unknown")
    if statement.action == pb.LIFT_ACTION_LIFT and statement.round:
        raise bad_field("round is for extending only")


def _check_report(statement: pb.IndicatorReport, _size: int) -> None:
    """SPEC statements-17: a report MUST have bounds in order around its central value, or, censored, none of the three;
    at most 9 decimal places, a unit, a method in words and the evidence's digest."""
    _check_names(statement, "reporter", "indicator")
    if _UNIT.match(statement.unit) is None:
        raise bad_field("unit is 1 to 16 letters, digits, %, / and hyphens")
    if statement.scale > limits.MAX_SCALE:
        raise bad_field(f"over {limits.MAX_SCALE} decimal places")
    if not statement.lower <= statement.central <= statement.upper:
        raise bad_field("the central value is not between its bounds")
    if not pb.CENSORING_NONE <= statement.censoring <= pb.CENSORING_BELOW:
        raise bad_field("censoring is unknown")
    if statement.censoring and statement.upper:
        raise bad_field("a censored value is no number")
    if not 0 < statement.until_ms <= limits.MAX_TIME_MS:
        raise bad_field("until when was measured is not said")
    if not statement.method or not is_plain(statement.method, limits.MAX_METHOD_CHARS):
        raise bad_field(f"method is 1 to {limits.MAX_METHOD_CHARS} characters that can be shown")
    _check_digest(statement.evidence_digest, "the evidence's digest")


def _check_rotation(statement: pb.KeyRotation, _size: int) -> None:
    """SPEC statements-18: a rotation MUST be of a known role, from epoch 2 on, and to a key that may be registered."""
    _check_names(statement, "holder")
    if not pb.KEY_ROLE_PARTY <= statement.role <= pb.KEY_ROLE_LOG:
        raise bad_field("role is unspecified or unknown")
    if statement.epoch < 2:
        raise bad_field("epochs count from 1, which is the founding key's")
    keys.check_public_key(statement.key)


CHECKS: Final[Mapping[type[Message], Callable[..., None]]] = {
    pb.Commitment: _check_commitment,
    pb.Pledge: _check_pledge,
    pb.Withdrawal: _check_withdrawal,
    pb.Lift: _check_lift,
    pb.IndicatorReport: _check_report,
    pb.KeyRotation: _check_rotation,
}


def read_alternatives(statement: pb.Pledge) -> Alternatives:
    """Return a pledge's alternatives as the engine takes them."""
    return tuple(
        Condition(condition.parties, condition.labs, frozenset(condition.named), condition.weight_ppm)
        for condition in statement.alternatives
    )


def read_report(statement: pb.IndicatorReport) -> Report:
    """Return a report as the engine takes it."""
    return Report(
        indicator=statement.indicator,
        reporter=statement.reporter,
        unit=statement.unit,
        scale=statement.scale,
        lower=statement.lower,
        central=statement.central,
        upper=statement.upper,
        censored=statement.censoring != pb.CENSORING_NONE,
        until_ms=statement.until_ms,
    )
