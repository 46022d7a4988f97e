"""A disk that fills up under a running log, on a small file system of its own (needs root, to mount it).

Writers are told, readers do not notice, nothing is half written, and it goes on by itself when there is room again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
from log_invariants import Recorder, check_invariants
from logcopy import LAB
from logsite import LogProcess, LogSite, NotServing
from participants import make_participants
from requirements import missing, require_root

from pacekeeper.client.receipts import Accepted, WitnessedReceipt
from pacekeeper.client.submit import LogClient, TemporaryFailure
from pacekeeper.client.tls import lab_uri
from pacekeeper.log.room import MIN_FREE_BYTES, MIN_FREE_FILES, Room

SIZE: Final = MIN_FREE_BYTES + 16_777_216
FILES: Final = MIN_FREE_FILES + 512
EXIT_UNSAFE: Final = 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    require_root()
    disk = tmp_path / "disk"
    disk.mkdir()
    options = f"size={SIZE},nr_inodes={FILES},mode=0700"
    tried = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, check=False)
    if tried.returncode != 0:
        missing(f"needs leave to mount a tmpfs: {tried.stderr.decode().strip()[:200]}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
def site(small_disk: Path) -> LogSite:
    people = make_participants(period="1 h", due="30 min", tick="1 s", tolerance="30 s", unwitnessed="1 h")
    return LogSite(small_disk / "log", people)


def _fill(disk: Path, leave: int = 0) -> Path:
    """Take all bytes of the disk but some."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        while (free := _free(disk) - leave) > 0:
            with contextlib.suppress(OSError):  # the log has taken some of it meanwhile
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)
    return filler


def _free(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


class Scene:
    """A running log with verifiers and a client, and what it has acknowledged and signed."""

    def __init__(self, site: LogSite) -> None:
        self.site = site
        self.acknowledged: dict[bytes, tuple[int, int]] = {}
        self.checkpoints: dict[int, set[bytes]] = {}

    @contextlib.asynccontextmanager
    async def running(self, quorum: int | None = None) -> AsyncIterator[tuple[LogProcess, LogClient]]:
        people = self.site.people
        log = await asyncio.to_thread(self.site.start)
        try:
            async with contextlib.AsyncExitStack() as stack:
                for party in people.keys.party_ids[:quorum]:
                    await stack.enter_async_context(Recorder(self.checkpoints, people, party, log.address))
                yield log, await stack.enter_async_context(self.site.client(lab_uri(LAB), log))
        finally:
            if log.process.poll() is None:
                log.kill()

    async def submit(self, client: LogClient, run: str, *, unwitnessed: bool = False) -> None:
        data = self.site.declaration(LAB, run)
        [answer] = await client.submit([data], unwitnessed=unwitnessed)
        assert isinstance(answer, (WitnessedReceipt, Accepted))
        place = (answer.index, answer.sequenced_at_ms)
        assert self.acknowledged.setdefault(data, place) == place

    async def taken_again(self, client: LogClient, run: str) -> None:
        """Submit until it is taken, which is soon."""
        for _ in range(200):
            with contextlib.suppress(TemporaryFailure):
                return await self.submit(client, run)
            await asyncio.sleep(0.05)
        raise AssertionError("there is room, and still nothing is taken")


async def _readers_do_not_notice(scene: Scene, log: LogProcess, client: LogClient) -> None:
    def fetch(path: str) -> bytes:
        with urllib.request.urlopen(f"http://{log.http_address}/{path}", timeout=10) as answer:
            return bytes(answer.read())

    note = await asyncio.to_thread(fetch, "checkpoint")
    size = int(note.split(b"\n")[1])
    assert len(await asyncio.to_thread(fetch, f"tile/0/000.p/{size}")) == 32 * size
    for data, place in list(scene.acknowledged.items()):
        # Submitting is writing, even of what is on the log already: it is asked for by its proof.
        with pytest.raises(TemporaryFailure, match="nearly full"):
            await client.submit([data])
        assert place[0] < size


async def test_a_disk_that_fills_up_stops_writers_and_not_readers(small_disk: Path, site: LogSite) -> None:
    """SPEC log-16 (FAULTS 4): not even a Tick is written, and it goes on by itself."""
    scene = Scene(site)
    async with scene.running() as (log, client):
        await scene.submit(client, "before")
        filler = _fill(small_disk)
        assert _free(small_disk) == 0
        with pytest.raises(TemporaryFailure, match="nearly full"):
            await client.submit([site.declaration(LAB, "while it is full")])
        await asyncio.sleep(1.5)  # several ticks would have been due
        await _readers_do_not_notice(scene, log, client)
        assert log.process.poll() is None
        filler.unlink()
        await scene.taken_again(client, "after")
    check_invariants(site.state, scene.acknowledged, scene.checkpoints)


async def test_what_is_sequenced_when_the_disk_fills_up_is_published_when_there_is_room(
    small_disk: Path, site: LogSite
) -> None:
    """SPEC log-16 (FAULTS 4): the quorum comes while the disk is full."""
    scene = Scene(site)
    people = site.people
    async with scene.running(quorum=2) as (log, client):
        await scene.submit(client, "before", unwitnessed=True)
        filler = _fill(small_disk)
        async with contextlib.AsyncExitStack() as stack:
            for party in people.keys.party_ids[2:]:
                verifier = Recorder(scene.checkpoints, people, party, log.address)
                await stack.enter_async_context(verifier)
            await asyncio.sleep(1)
            assert log.process.poll() is None
            assert not (site.state / "public/checkpoint").exists()
            filler.unlink()
            await scene.taken_again(client, "before")
            assert (site.state / "public/checkpoint").exists()
    check_invariants(site.state, scene.acknowledged, scene.checkpoints)


async def test_a_start_on_a_full_disk_serves_readers_or_says_why_not(small_disk: Path, site: LogSite) -> None:
    """SPEC log-16 (FAULTS 4): wherever the room ends, no marker is left for an operator, and with room it starts."""
    scene = Scene(site)
    async with scene.running() as (_, client):
        await scene.submit(client, "before")
    outcomes = []
    for left in (0, 8_192, 32_768, 65_536, 1_048_576):
        (site.state / "ready").unlink(missing_ok=True)
        filler = _fill(small_disk, left)
        try:
            async with scene.running() as (log, client):
                await _readers_do_not_notice(scene, log, client)
            outcomes.append("served")
        except NotServing as refused:
            said_why = refused.status == EXIT_UNSAFE and str(site.state) in str(refused)
            outcomes.append("refused" if said_why else str(refused))
        assert not (site.state / "unsafe").exists()
        filler.unlink()
    assert set(outcomes) == {"served", "refused"}
    check_invariants(site.state, scene.acknowledged, scene.checkpoints)
    async with scene.running() as (_, client):
        await scene.taken_again(client, "after")


async def test_a_disk_without_room_for_another_file_is_a_full_one(small_disk: Path, site: LogSite) -> None:
    """SPEC log-16: inodes run out before bytes do."""
    scene = Scene(site)
    async with scene.running() as (log, client):
        await scene.submit(client, "before")
        many = small_disk / "many"
        many.mkdir()
        with contextlib.suppress(OSError):
            for number in range(FILES):
                (many / str(number)).touch()
        with pytest.raises(TemporaryFailure, match="nearly full"):
            await client.submit([site.declaration(LAB, "while it is full")])
        await asyncio.sleep(1.2)
        assert log.process.poll() is None
        for file in many.iterdir():
            file.unlink()
        await scene.taken_again(client, "after")
    check_invariants(site.state, scene.acknowledged, scene.checkpoints)


def test_a_disk_that_does_not_answer_has_no_room(tmp_path: Path) -> None:
    assert Room(tmp_path).for_publication()
    assert not Room(tmp_path / "gone").for_entries()
