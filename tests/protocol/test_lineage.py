"""Lineage against a slow model that follows every path, on random histories of runs, records and digests."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol.compute.bounds import Bounds
from pacekeeper.protocol.compute.lineage import Lineage, Record, Run

Step: TypeAlias = tuple[str, int, int, list[int]]
DIGESTS = [hashlib.sha256(bytes([n])).digest() for n in range(6)]


class Family:
    """The model: who was named or found as a parent, and every path from a run to its ancestors, walked each time."""

    def __init__(self) -> None:
        self.lab: dict[str, str] = {}
        self.start: dict[str, bytes] = {}
        self.parents: dict[str, set[int]] = {}
        self.records: dict[int, tuple[str, bytes, Bounds]] = {}

    def paths(self, run: str, seen: tuple[str, ...] = ()) -> set[int]:
        """Every record on any path from a run to its origins; fails on a loop."""
        assert run not in seen, f"{run} is its own ancestor"
        found = set(self.parents[run])
        for index in self.parents[run]:
            found |= self.paths(self.records[index][0], (*seen, run))
        return found

    def inherited(self, run: str) -> Bounds:
        low = high = 0
        found = self.paths(run)
        for source in {self.records[index][0] for index in found}:
            last = max(index for index in found if self.records[index][0] == source)
            low += self.records[last][2].low
            high += self.records[last][2].high
        return Bounds(low, high)

    def declare(self, run: str, lab: str, start: bytes, named: set[int]) -> None:
        alike = [index for index, record in self.records.items() if start and record[1] == start]
        own = {index for index in alike if self.lab[self.records[index][0]] == lab}
        self.lab[run], self.start[run] = lab, start
        self.parents[run] = named | own | set(alike[:1])

    def record(self, index: int, run: str, digest: bytes, own: Bounds) -> list[str]:
        self.records[index] = (run, digest, own)
        linked = []
        for child in self.parents:
            if self.lab[child] != self.lab[run] or self.start[child] != digest or child == run:
                continue
            above = {self.records[other][0] for other in self.paths(run)}
            if child not in above:
                self.parents[child].add(index)
                linked.append(child)
        return linked


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["declare", "declare", "record", "record", "record"]),
        st.integers(0, 2),
        st.integers(0, 30),
        st.lists(st.integers(0, 40), max_size=3),
    ),
    max_size=45,
)


@settings(max_examples=300)
@given(STEPS)
def test_inheritance_is_the_latest_record_of_each_source_on_any_path(steps: list[Step]) -> None:
    """SPEC lineage-4, SPEC lineage-5, SPEC lineage-6: and no history makes a run its own ancestor."""
    lineage, family = Lineage(), Family()
    names: list[str] = []
    for index, (kind, lab_number, number, picks) in enumerate(steps):
        digest = DIGESTS[number % len(DIGESTS)]
        if kind == "declare":
            known = sorted(lineage.records)
            named = {known[pick % len(known)] for pick in picks} if known else set()
            name = f"lab{lab_number}/run{index}"
            start = digest if number < 24 else b""
            lineage.declare(Run(name, f"lab{lab_number}", index, "", 1, start, tuple(sorted(named))))
            family.declare(name, f"lab{lab_number}", start, named)
            names.append(name)
        elif names:
            name = names[number % len(names)]
            own = Bounds(17 * index % 50, 17 * index % 50 + lab_number)  # later is not more
            records = lineage.runs[name].records
            linked = lineage.add_record(Record(index, name, digest, 0, len(records) + 1, own))
            assert [run.name for run in linked] == family.record(index, name, digest, own)
        for name in names:
            run = lineage.runs[name]
            assert run.parents == tuple(sorted(family.parents[name]))
            assert lineage.inherited(run) == family.inherited(name)
    for name in names:
        run = lineage.runs[name]
        below = {other for other in names if name in {family.records[i][0] for i in family.paths(other)}} | {name}
        assert {found.name for found in lineage.descendants([run])} == below
        sources = [record.run for record in lineage.ancestors(run)]
        assert sources == sorted({family.records[i][0] for i in family.paths(name)})


def history(*steps: tuple[str, ...]) -> Lineage:
    """("run", name, start, parents...) or ("record", run, digest, own compute), in order; indices count them."""
    lineage = Lineage()
    for index, step in enumerate(steps):
        if step[0] == "run":
            _, name, start, *parents = step
            lineage.declare(Run(name, name.split("/")[0], index, "", 1, start.encode(), tuple(map(int, parents))))
        else:
            _, name, digest, own = step
            records = lineage.runs[name].records
            lineage.add_record(Record(index, name, digest.encode(), 0, len(records) + 1, Bounds(int(own), int(own))))
    return lineage


def inherited(lineage: Lineage, run: str) -> int:
    return lineage.inherited(lineage.runs[run]).high


def test_a_fork_is_counted_once_when_its_branches_merge() -> None:
    """SPEC lineage-6: root at 100, two branches of 10 and 20 from it, merged."""
    lineage = history(
        ("run", "a/root", ""),
        ("record", "a/root", "r", "100"),
        ("run", "a/left", "r", "1"),
        ("run", "a/right", "r", "1"),
        ("record", "a/left", "x", "10"),
        ("record", "a/right", "y", "20"),
        ("run", "a/merged", "", "4", "5"),
    )
    assert inherited(lineage, "a/left") == inherited(lineage, "a/right") == 100
    assert inherited(lineage, "a/merged") == 130


def test_merging_two_points_of_one_chain_takes_the_later() -> None:
    """SPEC lineage-6: the later record, not the sum and not the larger."""
    lineage = history(
        ("run", "a/root", ""),
        ("record", "a/root", "early", "60"),
        ("record", "a/root", "late", "100"),
        ("run", "a/left", "early", "1"),
        ("run", "a/merged", "", "1", "2"),
        ("record", "a/left", "x", "5"),
        ("run", "a/soup", "", "2", "5"),
    )
    assert inherited(lineage, "a/merged") == 100
    assert inherited(lineage, "a/soup") == 105, "early is under late on the root's own chain"


def test_a_digest_links_across_labs_to_its_first_record_only() -> None:
    """SPEC lineage-4: whoever logs the same digest later takes nothing and gives nothing."""
    steps = [
        ("run", "a/root", ""),
        ("record", "a/root", "weights", "100"),
        ("run", "b/copy", ""),
        ("record", "b/copy", "weights", "999999"),
        ("run", "c/tuned", "weights"),
        ("run", "a/next", "weights"),
        ("run", "b/next", "weights"),
    ]
    lineage = history(*steps)
    assert inherited(lineage, "c/tuned") == 100
    assert inherited(lineage, "a/next") == 100, "another lab's record is no weight on the first one's own runs"
    assert inherited(lineage, "b/next") == 100 + 999999, "but on its own"


def test_a_later_record_of_another_lab_does_not_link_back() -> None:
    """SPEC lineage-5: within the lab it does."""
    lineage = history(
        ("run", "a/second", "weights"),
        ("run", "b/attack", ""),
        ("record", "b/attack", "weights", "999999"),
        ("run", "a/first", ""),
        ("record", "a/first", "weights", "70"),
    )
    assert inherited(lineage, "a/second") == 70


def test_a_record_of_its_own_start_makes_no_loop() -> None:
    """SPEC lineage-5: neither directly nor through another run."""
    lineage = history(
        ("run", "a/one", "x"),
        ("record", "a/one", "x", "5"),
        ("record", "a/one", "y", "9"),
        ("run", "a/two", "y"),
        ("record", "a/two", "x", "3"),
    )
    assert lineage.runs["a/one"].parents == ()
    assert inherited(lineage, "a/one") == 0
    assert inherited(lineage, "a/two") == 9
