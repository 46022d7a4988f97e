"""One append by a real log process, with each interesting system call made to fail: by EIO, and by SIGKILL.

The append completes a tile, so that it passes through everything that the log writes: the write-ahead journal, the
mark, full and partial tiles, old partial tiles that go, the published note, the checkpoint file. strace lists its
calls first; then each is made to fail, in a fresh copy of the log. After each fault the four invariants of FAULTS hold
and the log, restarted, gives every statement one index.

By default one call of each name on each kind of file fails, chosen by PACEKEEPER_SEED, which is printed;
PACEKEEPER_SYSCALLS=all has every single one fail in both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from log_invariants import Recorder, check_invariants
from logcopy import LAB, filled_site
from logsite import LogProcess, LogSite
from syscalls import Call, Fault, injected, require_strace, traced

from pacekeeper.client.receipts import WitnessedReceipt
from pacekeeper.client.submit import LogClient, TemporaryFailure
from pacekeeper.client.tls import lab_uri
from pacekeeper.log.server import serve
from pacekeeper.protocol.errors import Code, Refused

CALLS: Final = (
    "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "rmdir", "mkdir", "ftruncate", "openat"
)  # fmt: skip
ALL: Final = os.environ.get("PACEKEEPER_SYSCALLS") == "all"
SEED: Final = int(os.environ.get("PACEKEEPER_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
HOWS: Final = ("error=EIO", "signal=KILL")
EXIT_UNSAFE: Final = 5
BEFORE: Final = 248  # entries, so that the batch of ten completes the first tile
KILLED: Final = -9


@dataclass
class Life:
    """One log, over several processes: everything it was ever seen to acknowledge or to sign."""

    site: LogSite
    acknowledged: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    checkpoints: dict[int, set[bytes]] = field(default_factory=dict)

    async def submit(self, client: LogClient, batch: list[bytes], deadline_s: float = 20) -> None:
        """Submit, and note what is acknowledged: a statement has one place for ever."""
        for data, answer in zip(batch, await client.submit(batch, deadline_s=deadline_s), strict=True):
            assert isinstance(answer, WitnessedReceipt), answer
            place = (answer.index, answer.sequenced_at_ms)
            assert self.acknowledged.setdefault(data, place) == place

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[LogProcess, LogClient]]:
        """A process of this log, its Tick published, with a client. It may be dead at the end."""
        log = await asyncio.to_thread(self.site.start)
        try:
            async with contextlib.AsyncExitStack() as stack:
                people = self.site.people
                # Just the quorum: a late cosignature would be one more publication, at a moment of its own.
                for party in people.keys.party_ids[: people.agreement.policy().quorum]:
                    await stack.enter_async_context(Recorder(self.checkpoints, people, party, log.address))
                client = await stack.enter_async_context(self.site.client(lab_uri(LAB), log))
                await self.submit(client, [self.site.declaration(LAB, "the-first")])
                yield log, client
        finally:
            if log.process.poll() is None:
                log.kill()


async def _threads(life: Life, log: LogProcess, client: LogClient) -> dict[int, str]:
    """The writer's and the publisher's thread, told by what they do: one writes the mark, the other renames."""
    with traced(log.process.pid, ("pwrite64", "rename")) as calls:
        await life.submit(client, [life.site.declaration(LAB, "the-second")])
        await asyncio.sleep(0.1)
    roles = {}
    for call in calls:
        if call.name == "rename":
            roles[call.tid] = "publisher"
        elif call.path.endswith(".head"):
            roles[call.tid] = "writer"
    assert sorted(roles.values()) == ["publisher", "writer"]
    return roles


def _batch(site: LogSite) -> list[bytes]:
    return [site.declaration(LAB, f"new-{number}") for number in range(10)]


@dataclass(frozen=True)
class Point:
    """A call of the append at which something fails."""

    role: str
    call: Call
    kind: str


async def _list_points(site: LogSite, copy: LogSite) -> list[Point]:
    """Every call of the append on the log's own files."""
    life = Life(copy)
    async with life.running() as (log, client):
        roles = await _threads(life, log, client)
        with traced(log.process.pid, CALLS) as calls:
            await life.submit(client, _batch(site))
            await asyncio.sleep(0.2)
    points = []
    for call in calls:
        if call.tid in roles and str(copy.directory) in call.path and "O_RDONLY" not in call.text:
            kind = re.sub(r"\d+", "N", call.path.removeprefix(str(copy.directory)))
            points.append(Point(roles[call.tid], call, kind))
    return points


def _chosen(every: list[Point], rng: random.Random) -> list[tuple[Point, str]]:
    """What is to fail, and how: everything in both ways, or one call of each name on each kind of file.

    What the promise to a submitter hangs on, the writer's own calls, fails in both ways each time.
    """
    if ALL:
        return [(point, how) for point in every for how in HOWS]
    groups: dict[tuple[str, str, str], list[Point]] = {}
    for point in every:
        groups.setdefault((point.role, point.call.name, point.kind.split("/")[1:3][-1]), []).append(point)
    chosen = []
    for number, ((role, _, _), group) in enumerate(groups.items()):
        both = role == "writer"
        chosen += [(rng.choice(group), how) for how in (HOWS if both else HOWS[number % 2 :][:1])]
    return chosen


def _copy(original: LogSite, directory: Path) -> LogSite:
    shutil.copytree(original.directory, directory)
    return LogSite.over(directory, original.people)


async def _fail_at(life: Life, point: Point, how: str) -> int | None:
    """Have the append fail there; return the process's exit status, None if it lives on."""
    site = life.site
    async with life.running() as (log, client):
        roles = await _threads(life, log, client)
        tid = next(tid for tid, role in roles.items() if role == point.role)
        with injected(tid, Fault(point.call.name, point.call.number, how)):
            # An answer may come before the fault does, or never.
            with contextlib.suppress(TemporaryFailure, Refused):
                await life.submit(client, _batch(site), deadline_s=4)
            for _ in range(100):
                if log.process.poll() is not None:
                    break
                await asyncio.sleep(0.02)
        return log.process.poll()


def _refuses_until_an_operator_has_looked(site: LogSite) -> None:
    with pytest.raises(Refused, match="run fsck, then remove that file") as refused:
        serve(site.config)
    assert refused.value.code is Code.UNSAFE_STATE
    (site.state / "unsafe").unlink()


@pytest.mark.timeout(1200)
async def test_each_system_call_of_an_append_may_fail(tmp_path: Path) -> None:
    """SPEC log-2, SPEC log-4, SPEC log-11, SPEC log-18 (FAULTS 1, 2, 5): EIO and SIGKILL, then fsck and a restart."""
    require_strace()
    sys.stderr.write(f"PACEKEEPER_SEED={SEED}\n")  # shown when the test fails
    original = await asyncio.to_thread(filled_site, tmp_path / "original", BEFORE)
    every = await _list_points(original, _copy(original, tmp_path / "listed"))
    names = {(point.role, point.call.name) for point in every}
    assert names >= {("writer", "pwrite64"), ("writer", "fdatasync"), ("publisher", "fdatasync")}
    assert names >= {("publisher", name) for name in ("openat", "write", "fsync", "rename", "unlink", "mkdir")}
    for number, (point, how) in enumerate(_chosen(every, random.Random(SEED))):
        what = f"{how} at {point.role}'s {point.call.name} {point.call.number} on {point.kind}"
        site = _copy(original, tmp_path / str(number))
        life = Life(site)
        status = await _fail_at(life, point, how)
        # After an error of the disk the log has stopped, and says so at the next start.
        assert status == (KILLED if how == "signal=KILL" else EXIT_UNSAFE), f"{status}: {what}"
        if how == "error=EIO":
            _refuses_until_an_operator_has_looked(site)
        await _goes_on(life, what)
        shutil.rmtree(site.directory)


async def _goes_on(life: Life, what: str) -> None:
    try:
        check_invariants(life.site.state, life.acknowledged, life.checkpoints)
        async with life.running() as (log, client):
            await life.submit(client, _batch(life.site))
            log.kill()
        check_invariants(life.site.state, life.acknowledged, life.checkpoints)
    except AssertionError as error:
        raise AssertionError(f"after {what}: {error}") from error
