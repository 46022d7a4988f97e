"""What an agreement says, as typed terms. Values exist only as compile_agreement made them from a document.

Times are milliseconds, compute is gigaFLOP, margins are parts per million; keys are raw bytes. Period k of the calendar
is the half-open span [epoch + k * period, epoch + (k + 1) * period).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.protocol.tlog.vkey import NoteKey


@dataclass(frozen=True)
class Calendar:
    """due_ms and fill_in_ms count from a period's end: by due the account is due, after fill_in none is taken."""

    epoch_ms: int
    period_ms: int
    due_ms: int
    fill_in_ms: int


@dataclass(frozen=True)
class Timing:
    """How often the log ticks at least, how far clocks may differ, how long an entry may stay unwitnessed."""

    tick_ms: int
    tolerance_ms: int
    unwitnessed_ms: int


@dataclass(frozen=True)
class Quorum:
    """quorum of the verifiers must cosign; at most liars of them are assumed to lie."""

    verifiers: int
    quorum: int
    liars: int

    @property
    def absences(self) -> int:
        """How many verifiers may be away while the log still publishes."""
        return self.verifiers - self.quorum


@dataclass(frozen=True)
class VerifierTerms:
    """A party's verifier: cosign_key is of type 4 and bears the verifier's name; address is host:port."""

    name: str
    statement_key: bytes
    cosign_key: NoteKey
    tls_spki: bytes
    address: str


@dataclass(frozen=True)
class Party:
    """A participating state, its offline key and its verifier."""

    id: str
    name: str
    key: bytes
    verifier: VerifierTerms

    def all_keys(self) -> tuple[bytes, ...]:
        """Return every key and TLS pin of the party and its verifier."""
        verifier = self.verifier
        return self.key, verifier.statement_key, verifier.cosign_key.public_key, verifier.tls_spki


@dataclass(frozen=True)
class Lab:
    """An organisation that trains models, in one party's jurisdiction."""

    id: str
    name: str
    party: str
    key: bytes
    tls_spki: bytes

    def all_keys(self) -> tuple[bytes, ...]:
        """Return every key and TLS pin of the lab."""
        return self.key, self.tls_spki


@dataclass(frozen=True)
class LogTerms:
    """The log: key is of type 1 and bears the origin; address serves gRPC, url is what tile paths are appended to."""

    key: NoteKey
    statement_key: bytes
    tls_spki: bytes
    address: str
    url: str


@dataclass(frozen=True)
class Cap:
    """A limit in gigaFLOP: on one run with its ancestors (kind "run", window 0), or on a lab's or a party's last
    window periods together. subjects are ids of labs (run, lab) or parties (party); none means all."""

    id: str
    kind: str
    limit: int
    window: int
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Agreement:
    """The founding document and what it says. fingerprint is the SHA-256 of document."""

    document: bytes
    fingerprint: bytes
    title: str
    rules_version: int
    origin: str
    calendar: Calendar
    timing: Timing
    quorum: Quorum
    margins: Mapping[int, int]
    indeterminate_periods: int
    parties: tuple[Party, ...]
    labs: tuple[Lab, ...]
    log: LogTerms
    caps: tuple[Cap, ...]

    def policy(self) -> CosignaturePolicy:
        """Return whose signatures a checkpoint of this agreement's log needs."""
        return CosignaturePolicy(
            origin=self.origin,
            log_key=self.log.key,
            witnesses=tuple((party.id, party.verifier.cosign_key) for party in self.parties),
            quorum=self.quorum.quorum,
        )

    def period_of(self, time_ms: int) -> int:
        """Return the number of the period that a time is in; below zero before the calendar begins."""
        return (time_ms - self.calendar.epoch_ms) // self.calendar.period_ms

    def period_start_ms(self, period: int) -> int:
        """Return the first millisecond of a period."""
        return self.calendar.epoch_ms + period * self.calendar.period_ms

    def period_end_ms(self, period: int) -> int:
        """Return the first millisecond after a period."""
        calendar = self.calendar
        return calendar.epoch_ms + (period + 1) * calendar.period_ms

    def due_ms(self, period: int) -> int:
        """Return the time by which a period's account is due, silences of the log aside."""
        calendar = self.calendar
        return calendar.epoch_ms + (period + 1) * calendar.period_ms + calendar.due_ms

    def fill_in_ms(self, period: int) -> int:
        """Return the time after which no account or correction of a period is taken."""
        calendar = self.calendar
        return calendar.epoch_ms + (period + 1) * calendar.period_ms + calendar.fill_in_ms
