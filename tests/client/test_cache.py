"""The local copy of a log: read in its place, believed no further than its checkpoint, and never a wrong answer."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from published_log import PublishedLog, served
from world import World

from pacekeeper.audit.verify import audit
from pacekeeper.client.cache import EntryCache, follow_on, open_cache
from pacekeeper.client.cache_folder import HEAD
from pacekeeper.client.fetch import open_source
from pacekeeper.client.follow import Follower, VerifiedBatch
from pacekeeper.protocol import keys
from pacekeeper.protocol.envelope import encode_entry
from pacekeeper.protocol.replay import State, genesis
from pacekeeper.protocol.tlog.merkle import Frontier, HashTree, hash_leaves
from pacekeeper.protocol.tlog.note import format_note
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.protocol.tlog.transitions import PolicyChain
from pacekeeper.v1 import envelope_pb2, log_pb2

SIZE = 700  # two bundles and a tail


class Log:
    """A log to follow that counts what was fetched of it, and ends where its entries do."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.published = PublishedLog(world, directory)
        self.fetched = 0

    def checkpoint(self, size: int) -> bytes:
        root = HashTree(hash_leaves(self.world.entries[:size])).root()
        return self.published.note(size, root)

    async def follow(
        self,
        from_index: int = 0,
        *,
        frontier: Frontier | None = None,
        policy: Callable[[], CosignaturePolicy | None] | None = None,
    ) -> AsyncIterator[VerifiedBatch]:
        follower = Follower(PolicyChain(self.world.agreement.policy()), frontier or Frontier(), policy)
        entries = self.world.entries
        for first in range(from_index, len(entries), 90):
            part = entries[first : first + 90]
            self.fetched += len(part)
            entries_of = log_pb2.EntryBatch(first_index=first, entries=part)
            assert list(follower.feed(log_pb2.FollowResponse(batch=entries_of))) == []
            note = self.checkpoint(first + len(part))
            for batch in follower.feed(log_pb2.FollowResponse(checkpoint=note)):
                yield batch


def forged(world: World) -> bytes:
    """A declaration that would be in order if its signature held."""
    good = world.seal(world.declaration("borealis", "forged"), world.keys.lab("borealis"))
    [signature] = good.signatures
    spoilt = bytes([signature.signature[0] ^ 1]) + signature.signature[1:]
    bad = envelope_pb2.Signature(key_id=signature.key_id, signature=spoilt)
    return encode_entry(
        world.state.last_time_ms,
        envelope_pb2.Envelope(payload_type=good.payload_type, payload=good.payload, signatures=[bad]),
    )


@pytest.fixture(scope="module")
def world() -> World:
    """A log with a void entry: its signature does not hold, and without that check it would have an effect."""
    world = World(period="10 s", labs=1)
    world.put_entry(forged(world))
    world.declare("borealis", "run-1", at=world.start(0))
    while len(world.entries) < SIZE:
        world.tick(world.state.last_time_ms + 1)
    assert [void.index for void in world.state.voids] == [1]
    return world


@pytest.fixture
def log(world: World, tmp_path: Path) -> Log:
    return Log(world, tmp_path / "public")


async def read(log: Log, cache: EntryCache | None) -> State:
    """Read a log to its end as every role does."""
    state: State | None = None
    async for batch in follow_on(log, cache):
        for entry in batch.entries:
            if state is None:
                state = genesis(entry)
            else:
                assert cache is not None
                cache.apply(state, entry)
        if cache is not None:
            cache.keep(batch)
    if cache is not None:
        cache.save()
    assert state is not None
    return state


def opener(log: Log, directory: Path) -> tuple[Callable[[], EntryCache], list[str]]:
    said: list[str] = []
    return (lambda: open_cache(directory, log.world.agreement.fingerprint, said.append)), said


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The statements whose signatures are verified during a replay."""
    seen: list[bytes] = []
    real = keys.verify

    def verify(key: bytes, message: bytes, signature: bytes) -> bool:
        if message.startswith(b"DSSEv1"):
            seen.append(message)
        return real(key, message, signature)

    monkeypatch.setattr(keys, "verify", verify)
    return seen


async def test_a_second_reading_fetches_and_verifies_only_what_is_new(
    log: Log, tmp_path: Path, verified: list[bytes]
) -> None:
    """SPEC copy-2: and what had no effect before is verified again, so that it has none now."""
    reopen, said = opener(log, tmp_path / "copy")
    first = await read(log, reopen())
    assert log.fetched == SIZE
    assert len(verified) == SIZE - 1
    verified.clear()
    log.fetched = 0
    again = await read(log, reopen())
    assert log.fetched == 0
    assert len(verified) == 1, "only the forged one"
    assert again.digest() == first.digest() == log.world.state.digest()
    assert "forged" not in [run for lab in again.labs.values() for run in getattr(lab, "runs", ())]
    assert [void.index for void in again.voids] == [1]
    assert said == []
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700


async def test_a_log_that_grows_is_read_on_from_where_the_copy_ends(world: World, tmp_path: Path) -> None:
    grown = World(period="10 s", labs=1)
    log = Log(grown, tmp_path / "public")
    reopen, said = opener(log, tmp_path / "copy")
    for size in (1, 2, 255, 256, 257, 511, 512, 600):
        while len(grown.entries) < size:
            grown.tick(grown.state.last_time_ms + 1)
        log.fetched, before = 0, reopen().size
        state = await read(log, reopen())
        assert (log.fetched, state.size) == (size - before, size)
        assert state.digest() == grown.state.digest()
        assert reopen().size == size
    assert said == []


@pytest.mark.parametrize("where", [HEAD, "tile/entries/000", "tile/entries/001"])
async def test_a_flipped_byte_anywhere_is_said_and_fetched_again(log: Log, tmp_path: Path, where: str) -> None:
    """SPEC copy-1, copy-3: never a wrong answer, and only one sentence about it."""
    reopen, said = opener(log, tmp_path / "copy")
    await read(log, reopen())
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "copy", whole)
    dice = random.Random(where)
    length = (whole / where).stat().st_size
    for at in {0, length - 1, *(dice.randrange(length) for _ in range(25))}:
        shutil.rmtree(tmp_path / "copy")
        shutil.copytree(whole, tmp_path / "copy")
        data = bytearray((whole / where).read_bytes())
        data[at] ^= 1 << dice.randrange(8)
        (tmp_path / "copy" / where).write_bytes(data)
        said.clear()
        log.fetched = 0
        state = await read(log, reopen())
        assert state.digest() == log.world.state.digest()
        assert len(said) == 1, f"byte {at}"
        assert "damaged" in said[0]
        assert log.fetched == SIZE - (256 if where.endswith("001") else 0)
        said.clear()
        log.fetched = 0
        assert (await read(log, reopen())).digest() == log.world.state.digest()
        assert (said, log.fetched) == ([], 0), "what was damaged is whole again"


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
async def test_a_file_that_was_cut_short_or_lost_is_fetched_again(log: Log, tmp_path: Path, cut: int) -> None:
    reopen, said = opener(log, tmp_path / "copy")
    await read(log, reopen())
    for where in (HEAD, "tile/entries/000"):
        path = tmp_path / "copy" / where
        path.write_bytes(path.read_bytes()[:cut])
        assert (await read(log, reopen())).digest() == log.world.state.digest()
        assert len(said) == 1
        said.clear()
    (tmp_path / "copy/tile/entries/001").unlink()
    assert (await read(log, reopen())).digest() == log.world.state.digest()
    assert len(said) == 1
    (tmp_path / "copy" / HEAD).unlink()
    log.fetched = 0
    assert (await read(log, reopen())).size == log.fetched == SIZE
    assert len(said) == 1, "no copy is no damage"


async def test_the_checkpoint_of_a_copy_needs_its_quorum_at_each_start(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC copy-1: what nobody's quorum vouches for is not read, whoever wrote it."""
    reopen, said = opener(log, tmp_path / "copy")
    real = format_note
    monkeypatch.setattr(
        "pacekeeper.client.cache.format_note", lambda note: b"\n".join(real(note).split(b"\n")[:-3]) + b"\n"
    )
    await read(log, reopen())
    monkeypatch.undo()
    log.fetched = 0
    state = await read(log, reopen())
    assert state.digest() == log.world.state.digest()
    assert log.fetched == SIZE
    assert len(said) == 1
    assert "cosignatures" in said[0]


async def test_a_copy_of_other_entries_under_a_good_checkpoint_is_not_used(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC copy-1: hashed against the root that the quorum signed, not only against what the copy says of itself."""
    reopen, said = opener(log, tmp_path / "copy")
    cache = reopen()
    await read(log, cache)
    cache._tail[-1] = encode_entry(log.world.state.last_time_ms, log.world.sealed_tick(5))
    cache._unsaved = 1
    cache.save()
    assert (await read(log, reopen())).digest() == log.world.state.digest()
    assert len(said) == 1
    assert "not those of its checkpoint" in said[0]


async def test_two_processes_share_a_directory(log: Log, tmp_path: Path) -> None:
    """Both read and write at once, a third was killed while it wrote: what is left is whole."""
    reopen, said = opener(log, tmp_path / "copy")
    one, two = reopen(), reopen()
    readers = [follow_on(log, one), follow_on(log, two)]
    states: list[State | None] = [None, None]
    for _ in range(SIZE):
        for number, (reader, cache) in enumerate(zip(readers, (one, two), strict=True)):
            batch = await anext(reader, None)
            if batch is None:
                continue
            for entry in batch.entries:
                state = states[number]
                if state is None:
                    states[number] = genesis(entry)
                else:
                    cache.apply(state, entry)
            cache.keep(batch)
            cache.save()
    left = tmp_path / "copy/new-killed"
    left.write_bytes(b"half")
    os.utime(left, (time.time() - 7_200,) * 2)
    log.fetched = 0
    assert (await read(log, reopen())).digest() == log.world.state.digest()
    assert log.fetched == 0
    assert said == []
    assert not left.exists()


async def test_a_directory_that_others_can_read_or_write_is_not_used(log: Log, tmp_path: Path) -> None:
    reopen, said = opener(log, tmp_path / "copy")
    await read(log, reopen())
    (tmp_path / "copy").chmod(0o750)
    log.fetched = 0
    assert (await read(log, reopen())).digest() == log.world.state.digest()
    assert log.fetched == SIZE
    assert len(said) == 1
    assert "open to others" in said[0]


async def test_what_cannot_be_written_is_said_once_and_nothing_is_lost(log: Log, tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    directory.mkdir(mode=0o700)
    (directory / "tile").write_text("in the way")
    reopen, said = opener(log, directory)
    assert (await read(log, reopen())).digest() == log.world.state.digest()
    assert len(said) == 1
    assert "cannot be written" in said[0]


def test_an_audit_with_a_copy_reads_the_rest_and_finds_the_same(
    world: World, tmp_path: Path, verified: list[bytes]
) -> None:
    """SPEC copy-2, copy-3: over HTTP, twice; then with a damaged bundle in the copy."""
    fingerprint = world.agreement.fingerprint
    PublishedLog(world, tmp_path / "public")
    said: list[str] = []
    with served(tmp_path / "public") as url:
        for reading in range(3):
            if reading == 2:
                path = tmp_path / "copy/tile/entries/001"
                path.write_bytes(path.read_bytes()[:-1] + b"!")
            asked: list[str] = []
            source = open_source(url)
            real = source.read
            source.read = lambda path, real=real, asked=asked: asked.append(path) or real(path)  # type: ignore[method-assign,misc]
            copy = open_cache(tmp_path / "copy", fingerprint, said.append)
            verified.clear()
            result = audit(source, fingerprint, jobs=0, copy=copy)
            source.close()
            assert result.faults == []
            assert result.state is not None
            assert result.state.digest() == world.state.digest()
            bundles = sorted({path for path in asked if path.startswith("tile/entries") and ".p/" not in path})
            assert bundles == [["tile/entries/000", "tile/entries/001"], [], ["tile/entries/001"]][reading]
            # The forged entry, and what came after the last full bundle of the copy.
            assert len(verified) == [SIZE - 1, 1 + SIZE - 512, 1 + SIZE - 256][reading]
    assert len(said) == 1
    assert open_cache(tmp_path / "copy", fingerprint, said.append).size == SIZE


def test_an_audit_that_finds_a_fault_leaves_the_copy_as_it_was(world: World, tmp_path: Path) -> None:
    published = PublishedLog(world, tmp_path / "public")
    published.put("tile/1/000.p/2", b"x" * 64)
    fingerprint = world.agreement.fingerprint
    copy = open_cache(tmp_path / "copy", fingerprint, pytest.fail)
    with served(tmp_path / "public") as url:
        source = open_source(url)
        assert audit(source, fingerprint, jobs=0, copy=copy).faults
        source.close()
    assert open_cache(tmp_path / "copy", fingerprint, pytest.fail).size == 0


async def test_a_copy_ends_where_the_verifiers_change(log: Log, tmp_path: Path) -> None:
    """SPEC copy-4: what comes after is fetched each time, under whoever has to sign it then."""
    reopen, said = opener(log, tmp_path / "copy")
    cache = reopen()
    state: State | None = None
    async for batch in follow_on(log, cache):
        for entry in batch.entries:
            if state is None:
                state = genesis(entry)
                continue
            cache.apply(state, entry)
            if state.size == 400:
                quorum = replace(state.agreement.quorum, quorum=4, liars=0)
                state.agreement = replace(state.agreement, quorum=quorum)
        cache.keep(batch)
    cache.save()
    log.fetched = 0
    assert reopen().size == 360, "the last batch before"
    assert (await read(log, reopen())).digest() == log.world.state.digest()
    assert log.fetched == SIZE - 360
    assert said == []
