"""Two faults per write, in the SQLite store: each of its system calls fails, without effect or with it, or the process
dies there; then the store is opened again and must hold what it acknowledged, whole batches, and nothing else.

SQLite is what it is on this machine; what it keeps to itself is named here and made harmless elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import store_child
from site_on_disk import child_environment
from syscalls import Call, Fault, injected, require_strace, traced

from pacekeeper.log.store.sqlite import SqliteStore

CALLS: Final = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "fallocate", "fchmod", "openat", "mmap")
WRITES: Final = ("pwrite64", "fdatasync", "fsync", "ftruncate")
# Not executed, and said to be done: a disk that lies. No store can notice in time; none of these is tried.
HOWS: Final = ("error=EIO", "error=ENOSPC", "signal=KILL")


class Lives:
    """The program that lives lives of a store, one after the other."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, store_child.__file__],
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def begin(self) -> tuple[Path, int]:
        """A new directory, and the process that waits to live there."""
        self._count += 1
        directory = self.directory(self._count)
        directory.mkdir()
        os.mkfifo(directory / "go")
        self._in.write(f"{directory}\n")
        self._in.flush()
        return directory, int(self._out.readline())

    def directory(self, number: int) -> Path:
        """Where the number-th life takes place."""
        return self._directory / str(number)

    def live(self, directory: Path) -> list[str]:
        """Let it live; return what it said."""
        (directory / "go").write_text("go\n")
        said = []
        while (line := self._out.readline().strip()) != "ended":
            assert line or self._process.poll() is None
            said.append(line)
        return said

    def close(self) -> None:
        self._in.close()
        self._process.wait(10)
        self._out.close()


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    require_strace()
    lives = Lives(tmp_path)
    yield lives
    lives.close()


def _survey(lives: Lives) -> list[Call]:
    """The calls of a life without faults, on the store's files."""
    directory, pid = lives.begin()
    with traced(pid, CALLS) as calls:
        said = lives.live(directory)
    assert said[-2:] == ["closed", "done"]
    _check(directory, said)
    return [call for call in calls if str(directory) in call.text and "/go" not in call.text]


def _check(directory: Path, said: list[str]) -> int:
    """Open the store without faults; return by how many entries it holds more than was acknowledged."""
    acknowledged = max((int(line.split()[1]) for line in said if line.startswith("committed")), default=0)
    published = max((int(line.split()[1]) for line in said if line.startswith("published")), default=-1)
    assert "written after a failure" not in said, said
    assert not any(line.startswith("crashed") for line in said), said
    store = SqliteStore(directory / "log.sqlite")
    try:
        assert store.check_file() == []
        head = store.head()
        size = head.size if head else 0
        # What was acknowledged is there, and of what was not at most the batch that was under way, whole.
        assert size in {acknowledged, acknowledged + store_child.ENTRIES}, said
        batches = list(store.batches())
        assert [one.first_index for one in batches] == list(range(0, size, store_child.ENTRIES))
        for one in batches:
            expected = store_child.batch(one.first_index)
            assert one.entries == list(expected.entries)
            assert one.root == expected.head.root
            assert store.known(expected.ids) == dict(zip(expected.ids, range(one.first_index, size), strict=False))
            assert all(store.slot(slot.lab, slot.sequence) == slot.index for slot in expected.slots)
        assert store.counts() == (size, size)
        note = store.published()
        assert note in {None if published < 0 else store_child.note(published), store_child.note(published + 2)}
        # And it goes on from there: the same batch again if it was not kept, the next one if it was.
        store.commit(store_child.batch(size), head)
    finally:
        store.close()
    return size - acknowledged


def test_each_write_of_the_store_fails_in_each_way(
    lives: Lives, record_property: Callable[[str, object], None]
) -> None:
    """SPEC log-2, SPEC log-3, SPEC log-4 (FAULTS 1, 2, 4, 5, 6)."""
    calls = _survey(lives)
    counts = Counter(call.name for call in calls)
    assert counts["fdatasync"] >= store_child.COMMITS, "each commit waits for the disk"
    moved = [call for call in calls if call.name == "pwrite64" and call.path.endswith("log.sqlite")]
    assert moved, "the journal is moved into the file within the life"
    own = [call for call in calls if (call.name, call.path) == ("fsync", str(lives.directory(1)))]
    assert own, "the store has the names of its files on disk itself"
    outcomes: Counter[str] = Counter()
    for call in calls:
        if call.name not in WRITES:
            continue
        for how in HOWS:
            if how == "error=ENOSPC" and call.name != "pwrite64":
                continue
            directory, pid = lives.begin()
            with injected(pid, Fault(call.name, call.number, how)):
                said = lives.live(directory)
            what = f"{how} at {call.name} {call.number} on {Path(call.path).name}"
            try:
                more = _check(directory, said)
            except AssertionError as error:
                raise AssertionError(f"{what}: {error}") from error
            ended = "killed" if "done" not in said else "refused" if "refused" in said else "swallowed"
            outcomes[f"{ended}, {'kept' if more else 'not kept'}"] += 1
            # SQLite says nothing when it cannot make a new file's name durable; the store does that once more itself.
            assert ended != "swallowed" or (call.name == "fdatasync" and call.path == str(lives.directory(1))), what
    record_property("outcomes", dict(outcomes))
    assert all(outcomes[f"{ended}, {kept}"] for ended in ("killed", "refused") for kept in ("kept", "not kept"))
