"""Logs above the size from which worker processes check signatures: the same report, in memory that does not grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from published_log import PublishedLog
from world import World

from pacekeeper.audit import signatures
from pacekeeper.audit.report import write_report
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.audit.verify import audit
from pacekeeper.client.fetch import DirectorySource
from pacekeeper.protocol.envelope import encode_entry
from pacekeeper.v1 import statements_pb2 as pb

LONG, SHORT = 20_000, 2_100


def tick_entries(world: World, count: int) -> list[bytes]:
    """Entry 0 and then ticks, ten milliseconds apart; not replayed here."""
    entries = [world.entries[0]]
    founded_ms = world.state.founded_ms
    for index in range(1, count):
        tick = pb.Tick(agreement=world.agreement.fingerprint, index=index)
        entries.append(encode_entry(founded_ms + 10 * index, world.seal(tick, world.keys.log_statement)))
    return entries


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> PublishedLog:
    world = World(period="1 d")
    world.entries = tick_entries(world, LONG)
    return PublishedLog(world, tmp_path_factory.mktemp("long"))


def test_workers_and_no_workers_print_the_same(
    long_log: PublishedLog, run_audit: Callable[..., AuditResult], tmp_path: Path
) -> None:
    """SPEC audit-11, with entries that the workers cannot vouch for: forged, foreign, unreadable."""
    world = long_log.world
    entries = world.entries[:SHORT]
    forged = bytearray(entries[1_500])
    forged[-1] ^= 1
    entries[1_500] = bytes(forged)
    entries[1_600] = b"\xff\xff"
    entries[700], entries[701] = entries[701], entries[700]
    tick = pb.Tick(agreement=world.agreement.fingerprint, index=2_000)
    entries[2_000] = encode_entry(world.state.founded_ms + 20_000, world.seal(tick, world.keys.lab("borealis")))
    log = PublishedLog(world, tmp_path / "log", entries=entries)
    results = [run_audit(log, jobs=jobs) for jobs in (0, 1, 2)]
    reports = {write_report(result) for result in results}
    assert len(reports) == 1
    assert results[0].state is not None
    assert [(void.index, str(void.code)) for void in results[0].state.voids] == [
        (700, "bad-tick"),
        (701, "time-runs-back"),
        (1_500, "bad-signature"),
        (1_600, "not-canonical"),
        (2_000, "wrong-role"),
    ]
    assert len({result.state.digest() for result in results if result.state}) == 1


def test_worker_processes_really_run() -> None:
    """What a chunk's verdicts are does not depend on where they were made, and above the threshold it is elsewhere."""
    import os

    world = World(period="1 d")
    entries = tick_entries(world, 50)
    keyring = {key_id: authority.public_key for key_id, authority in world.state.keyring.items()}
    expected = bytes([0] + [1] * 49)  # entry 0 has many signatures, and is verified by itself
    before = _children(os.getpid())
    seen: set[int] = set()
    verdicts = []
    for _, verdict in signatures.checked([entries] * 9, keyring, total=10_000, jobs=2):
        verdicts.append(verdict)
        seen |= _children(os.getpid()) - before
    assert verdicts == [expected] * 9
    assert len(seen) >= 1
    alone = [v for _, v in signatures.checked([entries], keyring, total=10_000, jobs=0)]
    assert alone == [bytes(50)], "without workers nobody vouches, and the replay verifies"


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()} | {
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }


def test_memory_does_not_grow_with_the_length_of_the_log(long_log: PublishedLog, tmp_path: Path) -> None:
    """SPEC audit-15: what is held is a few chunks, the tree's edge, and the replayed state."""
    short = PublishedLog(long_log.world, tmp_path / "short", entries=long_log.world.entries[:SHORT])
    peaks = []
    for log, size in ((short, SHORT), (short, SHORT), (long_log, LONG)):
        source = DirectorySource(log.directory)
        tracemalloc.start()
        result = audit(source, log.fingerprint, jobs=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        source.close()
        assert result.status == Exit.COMPLIANT
        assert result.audited == size
    assert peaks[2] < 1.15 * peaks[1] + 100_000, f"peaks of {peaks[1]} and {peaks[2]} bytes"


def test_progress_goes_to_the_end(long_log: PublishedLog) -> None:
    source = DirectorySource(long_log.directory)
    calls: list[tuple[int, int]] = []
    audit(source, long_log.fingerprint, jobs=2, progress=lambda done, total: calls.append((done, total)))
    source.close()
    assert calls[-1] == (LONG, LONG)
    assert calls == sorted(calls)
