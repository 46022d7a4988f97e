"""What the lab daemon's answer means for training: go on, go on at a rate, or hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from pacekeeper.protocol.text import printable
from pacekeeper.v1 import gate_pb2

MAX_PLANNED: Final = 8
_MAX_RATE_BYTES: Final = 16
_Said = gate_pb2.OpenJobResponse | gate_pb2.ReportUsageResponse | gate_pb2.PlannedChange


@dataclass(frozen=True, slots=True)
class Order:
    """The daemon's decision. hold: the reason to hold, or None. flop_per_s: at what rate to go on, or None.

    save_s: how long a held job has for saving. stand_by: the hold may be over at any moment; nothing is to be ended.
    planned: what tightens by itself, each in so many seconds from the answer on, ascending.
    """

    hold: str | None = None
    flop_per_s: int | None = None
    save_s: float = 0.0
    stand_by: bool = False
    planned: tuple[tuple[float, Order], ...] = field(default=(), compare=False)

    def is_stricter(self, other: Order) -> bool:
        """Whether it lets less be done."""
        if self.hold is not None or other.hold is not None:
            return other.hold is None
        return self.flop_per_s is not None and (other.flop_per_s is None or self.flop_per_s < other.flop_per_s)


PROCEED: Final = Order()


def read_order(answer: gate_pb2.OpenJobResponse | gate_pb2.ReportUsageResponse) -> Order:
    """Return what an answer orders, and what it plans.

    SPEC metering-10: only an explicit proceed, or a rate above zero, lets training go on; an unknown decision holds.
    """
    order = _read(answer, answer.stand_by)
    if not answer.planned:
        return order
    changes = answer.planned[:MAX_PLANNED]
    planned = sorted(((change.in_ms / 1000, _read(change)) for change in changes), key=lambda item: item[0])
    return replace(order, planned=tuple(planned))


def _read(said: _Said, stand_by: bool = False) -> Order:
    if said.decision == gate_pb2.DECISION_PROCEED:
        return PROCEED
    if said.decision == gate_pb2.DECISION_THROTTLE and 0 < len(said.flop_per_s) <= _MAX_RATE_BYTES:
        rate = int.from_bytes(said.flop_per_s, "big")
        if rate > 0:
            return Order(flop_per_s=rate)
    reason = printable(said.reason) or "the lab daemon gave no reason"
    return Order(hold=reason, save_s=said.save_within_ms / 1000, stand_by=stand_by)
