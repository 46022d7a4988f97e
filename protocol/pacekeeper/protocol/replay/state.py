"""The state that a replay builds, and what can be read from it.

Everything in it follows from the entries. It keeps what later entries or readers need and nothing per entry besides:
accounts of periods are dropped once no correction of them is possible any more.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from pacekeeper.protocol.commitments.book import Performed
from pacekeeper.protocol.commitments.registry import Registry
from pacekeeper.protocol.compute.bounds import NOTHING, Bounds
from pacekeeper.protocol.compute.calendar import Silences
from pacekeeper.protocol.compute.lineage import Lineage, Run
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.documents.values import MAX_WINDOW
from pacekeeper.protocol.errors import Code
from pacekeeper.protocol.keys import key_id
from pacekeeper.protocol.replay.facts import Violation, VoidEntry
from pacekeeper.protocol.replay.judgements import CapStatus, Conduct, Course, RunCap, Watch
from pacekeeper.protocol.replay.labs import LabState
from pacekeeper.protocol.replay.participants import Authority, authorities_of, members_of
from pacekeeper.protocol.replay.terms import describe_keys, describe_terms
from pacekeeper.protocol.replay.watches import watches_of
from pacekeeper.v1 import statements_pb2 as pb

Verify = Callable[[bytes, bytes, bytes], bool]

MAX_KEPT_VOIDS: Final = 10_000  # a log that let in more is broken beyond listing; they are still counted


@dataclass(frozen=True, slots=True)
class Retired:
    """A key that another took the place of: whose it was, its epoch, the entry and log time of that, and whether the
    parties replaced it, rather than its holder."""

    authority: Authority
    epoch: int
    index: int
    time_ms: int
    replaced: bool


@dataclass(frozen=True, slots=True)
class FindingEntry:
    """A finding on the log."""

    index: int
    statement: pb.Finding


class SupersededMargins(NamedTuple):
    """Margins that held until an amendment: the entry that brought it out, by index, and the period of that time."""

    amended_at: int
    period: int
    margins: Mapping[int, int]


class Projection(NamedTuple):
    """How things stand at a moment: accounts overdue as (lab, period, due), and whether the log is silent. No facts."""

    now_ms: int
    overdue: tuple[tuple[str, int, int], ...]
    silent: bool


class State:
    """The replayed state. Read it freely; only `apply` and `admit` change it."""

    def __init__(self, agreement: Agreement, founded_ms: int) -> None:
        self.agreement = agreement
        self.size = 0
        self.founded_ms = founded_ms
        self.last_time_ms = founded_ms
        self.keyring: dict[bytes, Authority] = authorities_of(agreement.parties, agreement.labs)
        self.keyring[key_id(agreement.log.statement_key)] = Authority("log", "log", agreement.log.statement_key)
        self.former_keys: dict[bytes, Authority] = {}  # of parties, verifiers and labs that have left
        self.epochs: dict[tuple[str, str], int] = {}  # (role, holder) -> the present key's, where above 1
        self.retired: dict[bytes, Retired] = {}  # key id -> whose it was, in the order of their retirement
        self.lineage = Lineage()
        self.violations: list[Violation] = []
        self.voids: list[VoidEntry] = []
        self.void_count = 0
        self.silences = Silences()
        self.findings: list[FindingEntry] = []
        self.finding_keys: set[bytes] = set()
        self.understated: set[int] = set()  # leaf indices of checkpoint records that were found understated
        self.ticks = 0
        self.members = members_of(agreement)
        self.acts: list[Performed] = []  # what was done to the agreement, in order
        self.joined: dict[str, int] = {}  # who has acceded -> the first period of theirs that counts
        self.commitments = Registry(self.members)
        self.unclean: dict[str, int] = {}  # participant -> the period after the last one with a violation of its
        self.conduct: dict[tuple[str, str], Conduct] = {}  # (commitment, subject) -> what was attested under it
        first = max(0, agreement.period_of(founded_ms))
        self.first_period = first
        self.labs = {lab.id: LabState(lab.id, lab.party, first, first) for lab in agreement.labs}
        self.run_caps = [RunCap(cap.id, cap) for cap in agreement.caps if cap.kind == "run"]
        self.cap_ids = {cap.id for cap in agreement.caps}  # that there are or ever were
        self.superseded_margins: list[SupersededMargins] = []
        self.watches = watches_of(agreement, 0, {})
        self.cap_status: dict[tuple[str, str], CapStatus] = {}
        # Caps by commitment, by (commitment/cap, subject); what runs did under them, by (commitment/cap, run); the
        # windows of each lab under growth limits, by commitment; how many closed periods a lab's totals go back.
        self.commitment_watches: dict[tuple[str, str], Watch] = {}
        self.capped_runs: dict[tuple[str, str], Bounds] = {}
        self.courses: dict[str, dict[str, Course]] = {}
        self.kept_periods = 2 * MAX_WINDOW if agreement.rules_version > 2 else 0
        self.deadlines: list[tuple[int, str, str, int]] = []
        for lab in self.labs.values():
            self.push_deadline("account", lab.id, first, agreement.due_ms(first))

    def push_deadline(self, kind: str, subject: str, period: int, base_ms: int) -> None:
        """Schedule a deadline, moved by every silence that it falls into."""
        heapq.heappush(self.deadlines, (self.silences.shift(base_ms), kind, subject, period))

    def next_period(self, time_ms: int) -> int:
        """The first period that begins after a time."""
        return max(0, self.agreement.period_of(time_ms) + 1)

    def due_ms(self, period: int) -> int:
        """When the account of a period is due, silences so far included."""
        return self.silences.shift(self.agreement.due_ms(period))

    def is_closed(self, period: int) -> bool:
        """Whether a period takes no account, correction or checkpoint record any more.

        SPEC chain-9: nothing about a period MUST be taken later than its time for filling in, moved as deadlines are.
        """
        closes_ms = self.agreement.fill_in_ms(period)
        # A silence only ever moves it on, so most periods are open without a look at any.
        return self.last_time_ms > closes_ms and self.last_time_ms > self.silences.shift(closes_ms)

    def margins_for(self, period: int, as_of: int | None = None) -> Iterator[Mapping[int, int]]:
        """Each set of margins that a figure about a period may keep to: those in force, then those that were amended
        after the tree that it cites, or since the period began, as long as the period of the amendment is open."""
        yield self.agreement.margins
        for old in self.superseded_margins:
            unseen = period <= old.period or (as_of is not None and as_of <= old.amended_at)
            if unseen and not self.is_closed(old.period):
                yield old.margins

    def convict(self, found: list[Violation]) -> None:
        """Record violations that an entry brought out."""
        for violation in found:
            self.violations.append(violation)
            who = violation.subject.partition("/")[0]
            self.unclean[who] = max(violation.period + 1, self.unclean.get(who, 0))

    def clean_periods(self, participant: str) -> int:
        """How many periods in a row, up to the last that fell due, a lab has been without violation; a party with all
        its labs."""
        own = self.labs.get(participant)
        labs = [own] if own else [lab for lab in self.labs.values() if lab.party == participant]
        due = min((lab.due_period for lab in labs), default=self.agreement.period_of(self.last_time_ms))
        since = max((self.unclean.get(who, 0) for who in (participant, *(lab.id for lab in labs))), default=0)
        return max(0, due - max(since, self.joined.get(participant, self.first_period)))

    def attested_before(self, run: Run, period: int) -> Bounds:
        """What was attested for a run in the periods before one that is not closed yet."""
        low, high = run.own
        name = run.name.partition("/")[2]
        for other, account in self.labs[run.lab].accounts.items():
            if other >= period:
                bounds = account.bounds().get(name, NOTHING)
                low -= bounds.low
                high -= bounds.high
        return Bounds(low, high)

    def next_deadline_ms(self) -> int | None:
        """The time of the earliest waiting deadline, if any."""
        return self.deadlines[0][0] if self.deadlines else None

    def at(self, now_ms: int) -> Projection:
        """Project the state to a moment: accounts overdue by then, if no silence intervenes.

        SPEC replay-10: a projection MUST NOT create a fact: those are of log time alone.
        """
        overdue: list[tuple[str, int, int]] = []
        for lab in self.labs.values():
            period = lab.due_period
            while lab.owes(period) and (due := self.due_ms(period)) <= now_ms and len(overdue) < 10_000:
                if period not in lab.accounts:
                    overdue.append((lab.id, period, due))
                period += 1
        silent = now_ms - self.last_time_ms > self.agreement.timing.tick_ms
        return Projection(now_ms, tuple(sorted(overdue)), silent)

    def record_void(self, index: int, code: Code, message: str) -> None:
        self.void_count += 1
        if len(self.voids) < MAX_KEPT_VOIDS:
            self.voids.append(VoidEntry(index, code, message))

    def digest(self) -> bytes:
        """SHA-256 over a canonical description of the state.

        SPEC replay-12: equal entries MUST lead to equal states; this is how two replays compare theirs.
        """
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).digest()

    def describe(self) -> dict[str, object]:
        """Return the state's public content as JSON-able values, in a fixed order."""
        return {
            "fingerprint": self.agreement.fingerprint.hex(),
            "size": self.size,
            "last_time_ms": self.last_time_ms,
            "labs": {
                lab.id: {
                    "sequence": lab.sequence,
                    "head": lab.head.hex(),
                    "as_of": lab.as_of,
                    "next_period": lab.next_period,
                    "attested": lab.attested,
                    "late": lab.late,
                    "corrections": lab.corrections,
                    "expired": lab.expired,
                    "gaps": sorted(lab.gaps),
                    "missing": sorted(lab.missing),
                    "accounts": {
                        str(period): [account.id.hex(), account.index, [account.low, account.high]]
                        for period, account in sorted(lab.accounts.items())
                        if not self.is_closed(period)
                    },
                }
                for lab in self.labs.values()
            },
            "runs": {
                run.name: [run.index, list(run.parents), list(run.own), list(self.lineage.inherited(run))]
                for run in self.lineage.runs.values()
            },
            "caps": {
                f"{cap} {subject}": [
                    status.outcome,
                    status.since,
                    list(status.bounds),
                    [[matter, found.since, found.bounds] for matter, found in sorted(status.undecided.items())],
                    sorted(status.exceeded),
                    sorted(status.unresolved),
                ]
                for (cap, subject), status in sorted(self.cap_status.items())
            },
            "violations": [
                [v.kind, v.subject, v.period, v.index, v.time_ms, v.cap, v.limit, list(v.bounds or ()), list(v.sources)]
                for v in self.violations
            ],
            "voids": [[void.index, void.code] for void in self.voids],
            "findings": [finding.index for finding in self.findings],
            "silences": [list(silence) for silence in self.silences],
            "deadlines": sorted(self.deadlines),
            **({"commitments": self._describe_commitments()} if self.agreement.rules_version > 1 else {}),
            **(
                {"terms": describe_terms(self), "keys": describe_keys(self)} if self.agreement.rules_version > 2 else {}
            ),
        }

    def _describe_commitments(self) -> dict[str, object]:
        return {
            "registry": self.commitments.describe(reasons=self.agreement.rules_version > 2),
            "conduct": {
                f"{commitment} {subject}": [
                    sorted(conduct.spent.items()),
                    sorted(conduct.undecided),
                    sorted(conduct.exceeding),
                    sorted(conduct.convicted),
                ]
                for (commitment, subject), conduct in sorted(self.conduct.items())
            },
            **(self._describe_measures() if self.agreement.rules_version > 2 else {}),
        }

    def _describe_measures(self) -> dict[str, object]:
        return {
            "capped_runs": {f"{cap} {run}": list(used) for (cap, run), used in sorted(self.capped_runs.items())},
            "growth": {
                f"{commitment} {lab}": [
                    course.first,
                    list(course.carried),
                    sorted(course.used.items()),
                    sorted(course.discounted.items()),
                    sorted(course.waiting),
                    sorted(course.convicted),
                    [sorted(course.spent.items()), course.spent_before],
                ]
                for lab, courses in sorted(self.courses.items())
                for commitment, course in sorted(courses.items())
            },
        }
