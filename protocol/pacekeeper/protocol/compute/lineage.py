"""Lineage: a run's compute includes that of every checkpoint it descends from, each source once.

A run starts from nothing or from checkpoints. Its parents are those that its declaration names by the index of their
CheckpointRecord, and those that its initial digest equals, named or not. What it inherits is, for each source run that
can be reached, the run's own compute at the latest checkpoint reached; then all are added. So splitting one training
into many runs, merging, or resuming elsewhere does not reset the count, and nothing is counted twice.

A digest that occurs again is no lever against others: a run is linked to every record of its own lab with that digest,
and to the first such record of all. A record that comes after a declaration links back only within the lab.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pacekeeper.protocol.compute.bounds import NOTHING, Bounds


@dataclass(frozen=True, slots=True)
class Record:
    """A logged checkpoint: leaf index, global run name ("lab/run"), steps, and the run's own compute at it."""

    index: int
    run: str
    digest: bytes
    period: int
    steps: int
    own: Bounds


@dataclass(slots=True)
class Run:
    """A declared run. low, high: what was attested for it so far. parents: leaf indices of records, ascending.

    clear_to: up to this upper bound of its cumulative compute no run cap has anything to say; below zero if not known.
    """

    name: str
    lab: str
    index: int
    title: str
    initial_state: int
    initial_digest: bytes
    parents: tuple[int, ...]
    low: int = 0
    high: int = 0
    last_period: int = -1
    clear_to: int = -1
    records: list[Record] = field(default_factory=list)
    _inherited: Bounds = NOTHING
    _version: int = -1

    @property
    def own(self) -> Bounds:
        """What was attested for the run itself."""
        return Bounds(self.low, self.high)


class Lineage:
    """All runs and checkpoint records of a log."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.records: dict[int, Record] = {}
        self._first_of_digest: dict[bytes, int] = {}
        self._of_lab: dict[tuple[str, bytes], list[int]] = {}
        self._started_from: dict[tuple[str, bytes], list[str]] = {}
        self._version = 0

    def declare(self, run: Run) -> None:
        """Add a run; its parents are completed by what its initial digest equals.

        SPEC lineage-4: an initial digest that equals a logged checkpoint's MUST link the run to it, declared or not.
        """
        found = set(run.parents)
        if run.initial_digest:
            found.update(self._of_lab.get((run.lab, run.initial_digest), ()))
            first = self._first_of_digest.get(run.initial_digest)
            if first is not None:
                found.add(first)
            self._started_from.setdefault((run.lab, run.initial_digest), []).append(run.name)
        run.parents = tuple(sorted(found))
        self.runs[run.name] = run

    def add_record(self, record: Record) -> list[Run]:
        """Add a checkpoint record; return earlier runs of the same lab that it turns out to be the start of.

        SPEC lineage-5: a record MUST link back to runs of its lab that declared its digest, unless that makes a loop.
        """
        run = self.runs[record.run]
        run.records.append(record)
        self.records[record.index] = record
        self._first_of_digest.setdefault(record.digest, record.index)
        self._of_lab.setdefault((run.lab, record.digest), []).append(record.index)
        linked: list[Run] = []
        for name in self._started_from.get((run.lab, record.digest), ()):
            child = self.runs[name]
            if child is run or record.index in child.parents or name in self._ancestors(run):
                continue
            child.parents = tuple(sorted([*child.parents, record.index]))
            self._version += 1
            linked.append(child)
        return linked

    def inherited(self, run: Run) -> Bounds:
        """Return the compute that a run has from its ancestors, each source once at its latest reached checkpoint.

        SPEC lineage-6: merging MUST take, per source run, the later checkpoint of its chain, and then add.
        """
        if run._version != self._version:
            low = high = 0
            for record in self._ancestors(run).values():
                low += record.own.low
                high += record.own.high
            run._inherited, run._version = Bounds(low, high), self._version
        return run._inherited

    def cumulative(self, run: Run) -> Bounds:
        """Return inherited plus own compute of a run: what the run cap is about."""
        return self.inherited(run).plus(run.own) if run.parents else run.own

    def ancestors(self, run: Run) -> Iterator[Record]:
        """Yield the latest reached checkpoint of each source run, in order of the source's name."""
        found = self._ancestors(run)
        for name in sorted(found):
            yield found[name]

    def descendants(self, runs: Iterable[Run]) -> list[Run]:
        """Return the given runs and all that descend from them, in order of declaration."""
        wanted = {run.name for run in runs}
        return [
            run
            for run in self.runs.values()
            if run.name in wanted or (run.parents and not wanted.isdisjoint(self._ancestors(run)))
        ]

    def _ancestors(self, run: Run) -> dict[str, Record]:
        best: dict[str, Record] = {}
        expanded = {run.name}
        waiting = list(run.parents)
        while waiting:
            record = self.records[waiting.pop()]
            if record.run == run.name:
                continue
            known = best.get(record.run)
            if known is None or record.index > known.index:
                best[record.run] = record
            if record.run not in expanded:
                expanded.add(record.run)
                waiting.extend(self.runs[record.run].parents)
        return best
