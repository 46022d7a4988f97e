"""What the lab daemon's answer means for training: go on, go on at a rate, or hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pacekeeper.protocol.text import printable
from pacekeeper.v1 import gate_pb2

_MAX_RATE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Order:
    """The daemon's decision. hold: the reason to hold, or None. flop_per_s: at what rate to go on, or None.

    save_s: how long a held job has for saving. stand_by: the hold may be over at any moment; nothing is to be ended.
    """

    hold: str | None = None
    flop_per_s: int | None = None
    save_s: float = 0.0
    stand_by: bool = False


PROCEED: Final = Order()


def read_order(answer: gate_pb2.OpenJobResponse | gate_pb2.ReportUsageResponse) -> Order:
    """Return what an answer orders.

    SPEC metering-10: only an explicit proceed, or a rate above zero, lets training go on; an unknown decision holds.
    """
    if answer.decision == gate_pb2.DECISION_PROCEED:
        return PROCEED
    if answer.decision == gate_pb2.DECISION_THROTTLE and 0 < len(answer.flop_per_s) <= _MAX_RATE_BYTES:
        rate = int.from_bytes(answer.flop_per_s, "big")
        if rate > 0:
            return Order(flop_per_s=rate)
    reason = printable(answer.reason) or "the lab daemon gave no reason"
    return Order(hold=reason, save_s=answer.save_within_ms / 1000, stand_by=answer.stand_by)
