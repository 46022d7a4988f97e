"""What the replay knows of a lab: its chain, its runs, and the accounts of periods that can still change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pacekeeper.protocol.compute.bounds import NOTHING, Bounds, interval
from pacekeeper.protocol.compute.lineage import Run
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.layouts import Layout, learn_layout
from pacekeeper.protocol.readings import AttestationReading

_MAX_LAYOUTS: Final = 8  # of one lab: sizes vary by a few bytes where a number's length does


@dataclass(slots=True)
class Account:
    """The account of a period in force: the statement's identity and leaf index, and the bounds of all compute in it.

    figures: (run's name within the lab, amount, margin) as stated. Kept as read: there are many accounts, and only a
    correction or a checkpoint record looks at their figures again. under: the growth limits and caps by commitment
    whose windows it counts in, as (commitment, lab or party); a correction of it counts in the same.
    """

    id: bytes
    index: int
    figures: list[tuple[str, int, int]]
    low: int
    high: int
    under: tuple[tuple[str, str], ...] = ()

    def bounds(self) -> dict[str, Bounds]:
        """Return the interval of each run."""
        found: dict[str, Bounds] = {}
        for run, amount, margin_ppm in self.figures:
            found[run] = found.get(run, NOTHING).plus(interval(amount, margin_ppm))
        return found


@dataclass(slots=True)
class LabState:
    """What the log knows of a lab.

    sequence, head, as_of: the end of its chain. runs: those declared, by their name within the lab. next_period: the
    first period with neither attestation nor gap. expired: statements that came after their period closed. accounts:
    period -> account in force, for periods that can still be corrected. gaps: periods declared as gaps and not filled.
    missing: periods that had no account at their deadline and have none yet. due_period: the period whose deadline is
    waiting. last_period: the last whose account it owes, once its party has left the agreement. least, most: period ->
    bounds of all compute in a closed one, as far back as a growth limit may look (two, since numbers are nothing that
    the garbage collector looks at).
    sizes: of attestations that were read in full lately -> whether it is worth learning the layout of another. layouts:
    size -> how an attestation of that size is read without parsing it. margins, margins_under: those of its last
    account, and the agreement that was found to allow them. The last four change nothing but a replay's speed.
    """

    id: str
    party: str
    next_period: int
    due_period: int
    last_period: int | None = None
    sequence: int = 0
    head: bytes = b""
    as_of: int = 0
    last_index: int = -1
    attested: int = 0
    late: int = 0
    corrections: int = 0
    expired: int = 0
    runs: dict[str, Run] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    gaps: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    least: dict[int, int] = field(default_factory=dict)
    most: dict[int, int] = field(default_factory=dict)
    sizes: dict[int, bool] = field(default_factory=dict)
    layouts: dict[int, Layout] = field(default_factory=dict)
    margins: dict[int, int] | None = None
    margins_under: Agreement | None = None

    def owes(self, period: int) -> bool:
        """Whether the account of a period is one that it gives."""
        return self.last_period is None or period <= self.last_period

    def total(self, period: int) -> Bounds | None:
        """Return the bounds of all compute in a period; None if it has no account, or one too old to matter."""
        account = self.accounts.get(period)
        if account is not None:
            return Bounds(account.low, account.high)
        low = self.least.get(period)
        return None if low is None else Bounds(low, self.most[period])

    def learn(self, payload: bytes, said: AttestationReading) -> None:
        """Note an attestation that took effect and was read in full; from the second of a size on, its layout.

        SPEC envelope-6: what is kept for a short cut MUST be bounded for each lab.
        """
        size = len(payload)
        if size not in self.sizes:
            self.sizes[size] = True
            if len(self.sizes) > _MAX_LAYOUTS:
                oldest = next(iter(self.sizes))
                del self.sizes[oldest]
                self.layouts.pop(oldest, None)
        elif self.sizes[size]:
            layout = learn_layout(payload, said)
            if layout is None:
                self.sizes[size] = False
            else:
                self.layouts[size] = layout
