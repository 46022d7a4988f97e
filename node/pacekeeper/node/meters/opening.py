"""How a job begins: what it says of itself is checked, then the daemon is asked, or, if it is away, the spool."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Final

from pacekeeper.node.meters.client import DaemonAway, GateClient
from pacekeeper.node.meters.courier import read_calendar_of
from pacekeeper.node.meters.orders import PROCEED, Order, read_order
from pacekeeper.node.meters.record import log
from pacekeeper.node.meters.settings import MeterSettings, OnDaemonDown
from pacekeeper.node.meters.spool import Opening, read_calendar
from pacekeeper.node.meters.usage import PeriodCalendar
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.limits import MAX_TEXT_CHARS
from pacekeeper.protocol.text import is_plain, printable
from pacekeeper.protocol.units import PPM
from pacekeeper.v1 import statements_pb2

_RUN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MAX_CHIPS: Final = 2**32  # so that chip-milliseconds stay far inside 64 bits


@dataclass(frozen=True, slots=True)
class FirstContact:
    """What a job knows when it begins."""

    calendar: PeriodCalendar
    answered: bool
    order: Order


def check_opening(opening: Opening) -> None:
    """ValueError, with a sentence, for an opening that no daemon would take."""
    if _RUN.fullmatch(opening.run) is None:
        raise ValueError(f"a run's id is lower-case letters, digits and hyphens, at most 64: not {opening.run!r}")
    if not is_plain(opening.title, MAX_TEXT_CHARS):
        raise ValueError(f"a title is one line of at most {MAX_TEXT_CHARS} ordinary characters")
    if len(opening.initial_digest) not in (0, 32):
        raise ValueError("the initial digest is the 32 bytes of a SHA-256")
    if not 1 <= opening.chips <= _MAX_CHIPS:
        raise ValueError("a job occupies at least one chip")
    if not 0 <= opening.margin_ppm <= PPM:
        raise ValueError("a margin lies between 0 and 1000000 parts per million")


def first_contact(client: GateClient, opening: Opening, settings: MeterSettings) -> FirstContact:
    """Ask the daemon for the calendar and its decision. Refused if it refuses the job.

    SPEC metering-11: with the daemon away, "hold" waits for it, and "continue" starts by the calendar in the spool;
    without one the job is refused, since its figures could not be split by period.
    """
    said = False
    held = None
    while True:
        try:
            answer = client.open_job(opening)
        except DaemonAway as error:
            if settings.on_daemon_down is OnDaemonDown.CONTINUE:
                return FirstContact(_spooled_calendar(settings), False, PROCEED)
            if not said:
                log.warning("the lab daemon is away (%s); training is held until it is back", printable(str(error)))
            said = True
            time.sleep(min(0.5, settings.report_s))
        else:
            order = read_order(answer)
            if order.hold is None or opening.method != statements_pb2.METHOD_CHIP_TIME:
                return FirstContact(read_calendar_of(answer), True, order)
            # SPEC metering-20: a job that counts by its chips' time alone MUST NOT begin while it is held.
            if order.hold != held:
                log.warning("the job does not begin yet: %s", order.hold)
            held = order.hold
            time.sleep(min(0.5, settings.report_s))


def _spooled_calendar(settings: MeterSettings) -> PeriodCalendar:
    calendar = read_calendar(settings.spool)
    if calendar is None:
        raise Refused(
            Code.UNSAFE_STATE,
            f"the lab daemon is away and left no calendar in {printable(str(settings.spool))}: start it once first",
        )
    return calendar
