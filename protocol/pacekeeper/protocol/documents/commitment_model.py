"""What a commitment says, as typed terms. Values exist only as compile_commitment made them from a document.

Times are milliseconds since the epoch, durations milliseconds, compute gigaFLOP, rates gigaFLOP per second, shares
parts per million. An indicator's level is a whole number of millionths of its unit. Where a duration or date is None,
the document does not have the term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pacekeeper.protocol.commitments.pledges import Condition
from pacekeeper.protocol.documents.model import Cap, Lab, Party, Quorum, Timing


class Kind(StrEnum):
    """What a commitment does. The first four constrain labs while in force; the others are acts, done once at entry."""

    PAUSE = "pause"
    SLOW_DOWN = "slow-down"
    GROWTH = "growth"
    CAP = "cap"
    ACCESSION = "accession"
    EXIT = "exit"
    AMENDMENT = "amendment"
    KEYS = "keys"


CONSTRAINING = frozenset({Kind.PAUSE, Kind.SLOW_DOWN, Kind.GROWTH, Kind.CAP})


@dataclass(frozen=True, slots=True)
class Pause:
    """Runs whose compute with their ancestors' is above the limit hold, after the time to save their checkpoint."""

    above_gflop: int
    wind_down_ms: int


@dataclass(frozen=True, slots=True)
class SlowDown:
    """All training of a lab together keeps to a rate, once the wind-down is over."""

    rate_gflop_per_s: int
    wind_down_ms: int


@dataclass(frozen=True, slots=True)
class Growth:
    """A lab's compute in window periods is at most (1 + growth) x that of the baseline periods before, scaled to the
    window, and never limited below the floor. Of what is left unused, up to banking x the limit is carried over; of
    what is used too much, debt x the overrun is taken off the next window, and off those after it."""

    window: int
    baseline: int
    growth_ppm: int
    floor_gflop: int
    banking_ppm: int
    debt_ppm: int = 0


@dataclass(frozen=True, slots=True)
class CapLimits:
    """Caps that hold besides those of the agreement."""

    caps: tuple[Cap, ...]


Measure = Pause | SlowDown | Growth | CapLimits


@dataclass(frozen=True, slots=True)
class Accession:
    """Parties and labs that join the agreement, and the quorum that it then has, if another."""

    parties: tuple[Party, ...]
    labs: tuple[Lab, ...]
    quorum: Quorum | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """A party that leaves the agreement, with its labs, and the quorum that it then has, if another."""

    party: str
    quorum: Quorum | None = None


@dataclass(frozen=True, slots=True)
class Amendment:
    """Terms of the agreement that take the place of its own; None leaves the agreement's."""

    timing: Timing | None
    quorum: Quorum | None
    margins: Mapping[int, int] | None
    indeterminate_periods: int | None
    caps: tuple[Cap, ...] | None


@dataclass(frozen=True, slots=True)
class KeyReplacement:
    """A key put in the place of a holder's, by decision of the parties. Epochs count up by one, from 1 at founding."""

    role: str
    holder: str
    epoch: int
    key: bytes


@dataclass(frozen=True, slots=True)
class KeyReplacements:
    """Keys that the parties replace together."""

    keys: tuple[KeyReplacement, ...]


Act = Accession | Exit | Amendment | KeyReplacements


@dataclass(frozen=True, slots=True)
class Scope:
    """Who may pledge: ids of parties and labs, or everyone when both are empty."""

    parties: frozenset[str] = frozenset()
    labs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Exemption:
    """A category of compute that goes on while the commitment is in force, within a budget of its own per lab:
    in each window of periods, or in all the time in force when the window is 0."""

    id: str
    category: str
    budget_gflop: int
    window: int


@dataclass(frozen=True, slots=True)
class EntryRule:
    """When a commitment enters into force. notice_ms: from the entry that fixes a constraint to its beginning."""

    rule: Condition
    clean_periods: int
    pledges_by_ms: int
    delay_ms: int
    effective_ms: int | None
    lapses_ms: int | None
    notice_ms: int


@dataclass(frozen=True, slots=True)
class Indicator:
    """A measured quantity that can trigger. on and off in millionths of unit, off not above on; reports: how many in
    a row decide. source is "lab" or "external"; reporters have to report every so often, grace aside."""

    id: str
    family: str
    source: str
    unit: str
    on_micro: int
    off_micro: int
    reports: int
    every_ms: int
    grace_ms: int
    reporters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TriggerRule:
    """How many families of indicators must be met, one external among them, and what follows when they are not."""

    families: int
    when_below: str  # "arm": wait for the next time; "end": the commitment is lifted
    indicators: tuple[Indicator, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """How long a commitment lasts from its entry into force. requires: "entry-rule" or "anyone" must stay bound."""

    expires_ms: int | None = None
    length_ms: int | None = None
    minimum_ms: int = 0
    extension_ms: int = 0
    extensions: int = 0
    extended_by: Condition | None = None
    requires: str = "entry-rule"


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a ramp: the looser limit that holds for a time after the lift, in the unit of the measure's own."""

    limit: int
    lasts_ms: int


@dataclass(frozen=True, slots=True)
class Lifting:
    """Who lifts the commitment, and in which stages it then ends. by is None when nobody can."""

    by: Condition | None = None
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, slots=True)
class WithdrawalRule:
    """before: whether a pledge can be taken back before entry, until cut_off before it. notice_ms: after entry, from
    the notice to its effect; None: not at all. not_before_ms: no notice so long after entry. ends_all: a withdrawal
    ends the commitment for everyone."""

    before: bool
    cut_off_ms: int
    notice_ms: int | None
    not_before_ms: int
    reasoned: bool
    ends_all: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a gate out of the log's reach goes on, and whether it then holds."""

    lease_ms: int
    hold: bool


@dataclass(frozen=True)
class Commitment:
    """A commitment's document and what it says. digest is the SHA-256 of document."""

    document: bytes
    digest: bytes
    id: str
    title: str
    kind: Kind
    scope: Scope
    measure: Measure | None
    act: Act | None
    exemptions: tuple[Exemption, ...]
    entry: EntryRule
    weights: Mapping[str, int]
    triggers: TriggerRule | None
    term: Term
    lifting: Lifting
    withdrawal: WithdrawalRule
    release_others: bool
    lease: Lease | None


@dataclass(frozen=True, slots=True)
class Members:
    """Who is a participant of the agreement at a moment: parties, labs with their party, what clocks may differ, every
    key and TLS pin that has been in use, the quorum's terms, by which version of the rules the agreement goes, and the
    ids of parties and labs that have left."""

    parties: frozenset[str]
    labs: Mapping[str, str]
    tolerance_ms: int = 0
    keys: frozenset[bytes] = frozenset()
    quorum: Quorum | None = None
    former: frozenset[str] = frozenset()
    rules_version: int = 2
