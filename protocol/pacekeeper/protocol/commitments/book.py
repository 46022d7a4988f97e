"""The book that all commitments are kept in: by id, by whom they constrain, by what they watch, and what falls due.

The indexes are what keeps each event to its own commitment, and a look at a lab's constraints to those that bind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.documents.commitment_model import Act, Lease, Members


class Deadline(NamedTuple):
    """A time at which the replay has to call Registry.fire with this kind and subject."""

    time_ms: int
    kind: str
    subject: str


class Task(NamedTuple):
    """What a deadline is for: a commitment, and whom or what in it."""

    kind: str
    commitment: str
    detail: str


@dataclass(frozen=True, slots=True)
class Performed:
    """An act whose time has come: the replay has to do it, at this log time."""

    commitment: str
    act: Act
    time_ms: int
    index: int


class Book:
    """All standings and their indexes. Only the lifecycle changes it."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self.homes = dict(members.labs)  # every lab there has been -> its party: who has left is judged by what it was
        self.standings: dict[str, Standing] = {}
        self.active: dict[str, dict[str, None]] = {}  # participant -> pending or in force with it bound
        self.pledged: dict[str, dict[str, None]] = {}  # participant -> where its pledge stands
        self.history: dict[str, list[Span]] = {}  # participant -> spans that are over, in the order of their ends
        self.watchers: dict[str, dict[str, None]] = {}  # indicator -> commitments with it that are not over
        self.measured: dict[tuple[str, str], int] = {}  # (indicator, reporter) -> until when, in its last report
        self.clean: dict[str, int] = {}  # participant -> periods in a row without violation
        self._tasks: dict[str, Task] = {}
        self._new: list[Deadline] = []
        self._performed: list[Performed] = []
        self._serial = 0

    def schedule(self, standing: Standing, kind: str, time_ms: int, detail: str = "") -> None:
        """Ask for a deadline, in the place of the commitment's earlier one of the same kind and detail."""
        self.cancel(standing, kind, detail)
        self._serial += 1
        subject = f"{standing.terms.id} {self._serial:09}"
        self._tasks[subject] = Task(kind, standing.terms.id, detail)
        standing.due[f"{kind} {detail}"] = subject
        self._new.append(Deadline(time_ms, kind, subject))

    def cancel(self, standing: Standing, kind: str, detail: str = "") -> None:
        """Withdraw a deadline: when it fires, nothing happens."""
        subject = standing.due.pop(f"{kind} {detail}", None)
        if subject is not None:
            del self._tasks[subject]

    def cancel_all(self, standing: Standing) -> None:
        for subject in standing.due.values():
            del self._tasks[subject]
        standing.due.clear()

    def take_new(self) -> list[Deadline]:
        """Return the deadlines asked for since the last call."""
        new, self._new = self._new, []
        return new

    def perform(self, standing: Standing, act: Act, time_ms: int, index: int) -> None:
        """Hand an act to the replay."""
        self._performed.append(Performed(standing.terms.id, act, time_ms, index))

    def take_performed(self) -> list[Performed]:
        """Return the acts whose time has come since the last call."""
        performed, self._performed = self._performed, []
        return performed

    def take_task(self, subject: str) -> Task | None:
        """Return what a deadline that fires is for, once; None when it was withdrawn."""
        task = self._tasks.pop(subject, None)
        if task is not None:
            del self.standings[task.commitment].due[f"{task.kind} {task.detail}"]
        return task

    def index_active(self, standing: Standing, participant: str) -> None:
        """Put a bound participant's commitment where constraints_on looks, if it is one that may constrain."""
        if standing.terms.measure is not None and standing.phase in (Phase.PENDING, Phase.IN_FORCE):
            self.active.setdefault(participant, {})[standing.terms.id] = None
        else:
            self.unindex_active(standing, participant)

    def unindex_active(self, standing: Standing, participant: str) -> None:
        self.active.get(participant, {}).pop(standing.terms.id, None)

    def close_span(self, standing: Standing, participant: str, now_ms: int) -> None:
        """Write a participant's time under the present limit into its history, if it began at all."""
        span = standing.span(participant, now_ms) if standing.force is not None else None
        if span is not None and span.from_ms < now_ms:
            self.history.setdefault(participant, []).append(span)

    def spans(self, lab: str, since_ms: int) -> list[Span]:
        """Return the spans of a lab and its party that are not over by a time, planned ones included."""
        found: list[Span] = []
        for participant in (lab, self.homes.get(lab)):
            if participant is None:
                continue
            for commitment in self.active.get(participant, ()):
                span = self.standings[commitment].span(participant)
                if span is not None:
                    found.append(span)
            for span in reversed(self.history.get(participant, ())):
                if span.until_ms is not None and span.until_ms <= since_ms:
                    break
                found.append(span)
        return found

    def lease(self, lab: str) -> Lease | None:
        """Return the shortest lease that a lab or its party has pledged to.

        It counts from the pledge on, since a gate that is out of reach cannot learn that a commitment comes into force.
        """
        pledged = {
            commitment
            for participant in (lab, self.members.labs.get(lab, ""))
            for commitment in self.pledged.get(participant, ())
        }
        leases = [lease for commitment in pledged if (lease := self.standings[commitment].terms.lease)]
        return min(leases, key=lambda lease: (lease.lease_ms, not lease.hold), default=None)

    def describe(self, *, reasons: bool = False) -> dict[str, object]:
        """Return what the digest of a state covers, as JSON-able values in a fixed order."""
        return {
            "standings": {
                ident: standing.describe(reasons=reasons) for ident, standing in sorted(self.standings.items())
            },
            "measured": [[*key, until] for key, until in sorted(self.measured.items())],
            "clean": dict(sorted(self.clean.items())),
            "history": {
                who: [[span.commitment, span.from_ms, span.enforced_ms, span.until_ms] for span in spans]
                for who, spans in sorted(self.history.items())
            },
            "serial": self._serial,
        }
