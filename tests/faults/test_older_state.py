"""A log whose state is older than what it has signed: a restored backup, a copied directory, an old machine image.

Going on from any of them would sign a second tree of a size, by accident and for ever. What guards against it lies
outside of the backup set (the mark beside the checkpoint key) or on other machines (the verifiers).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from cosigner import Cosigner
from logcopy import LAB, Copy, filled_site, submit
from logsite import LogSite

from pacekeeper.client.receipts import Accepted
from pacekeeper.client.submit import LogClient, TemporaryFailure
from pacekeeper.client.tls import lab_uri
from pacekeeper.log.fsck import fsck
from pacekeeper.log.mark import HeadMark
from pacekeeper.log.server import initialise
from pacekeeper.log.store.port import Head
from pacekeeper.protocol.errors import Code, Refused

EXIT_UNSAFE = 5


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[LogSite, Path]:
    """A log, and a backup of its state from before its last entries."""
    directory = tmp_path_factory.mktemp("original")
    site = filled_site(directory / "log", 40)
    backup = directory / "backup"
    shutil.copytree(site.state, backup)
    submit(site, [f"later-{number}" for number in range(20)])
    return site, backup


@pytest.fixture
def restored(original: tuple[LogSite, Path], tmp_path: Path) -> Copy:
    """The log's directory with the state from the backup; the keys are where they were."""
    site, backup = original
    copy = Copy(site, tmp_path / "log")
    shutil.rmtree(copy.state)
    shutil.copytree(backup, copy.state)
    return copy


def _set_mark(copy: Copy, pattern: str, value: str) -> None:
    text = copy.mark.read_text()
    changed = re.sub(pattern, value, text)
    assert changed != text
    copy.mark.write_text(changed)


def _age_mark(copy: Copy) -> Head:
    """Make the mark as old as the store is."""
    head = _head(copy)
    _set_mark(copy, r"size .*\nroot .*", f"size {head.size:020d}\nroot {head.root.hex()}")
    return head


def test_an_old_backup_of_the_state_does_not_start(restored: Copy) -> None:
    """SPEC log-25 (FAULTS 9): the backup is sound in itself, and still nothing is signed from it."""
    assert fsck(restored.state) == []
    before = (restored.public / "checkpoint").read_bytes()
    assert "older backup" in restored.refusal()
    assert "older backup" in restored.refusal(), "it keeps failing"
    assert (restored.public / "checkpoint").read_bytes() == before


def test_an_old_store_beside_newer_public_files_does_not_unpublish_them(
    original: tuple[LogSite, Path], tmp_path: Path
) -> None:
    """SPEC log-29 (FAULTS 9): also without the mark."""
    site, backup = original
    copy = Copy(site, tmp_path / "log")
    for name in ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm"):
        (copy.state / name).unlink(missing_ok=True)
        if (backup / name).exists():
            shutil.copy(backup / name, copy.state / name)
    copy.mark.unlink()
    newest = (copy.public / "checkpoint").read_bytes()
    assert "older backup" in copy.refusal()
    assert (copy.public / "checkpoint").read_bytes() == newest


def test_a_lost_state_is_not_founded_a_second_time(original: tuple[LogSite, Path], tmp_path: Path) -> None:
    """SPEC log-25 (FAULTS 9): entry 0 with another time would be another tree of size 1."""
    copy = Copy(original[0], tmp_path / "log")
    shutil.rmtree(copy.state)
    with pytest.raises(Refused) as refused:
        initialise(copy.config)
    assert refused.value.code is Code.UNSAFE_STATE
    assert "fork" in refused.value.message


def test_a_tree_that_went_on_differently_does_not_start(original: tuple[LogSite, Path], restored: Copy) -> None:
    """SPEC log-25 (FAULTS 8): larger than what the key has committed, but not its continuation."""
    mark = restored.mark.read_text()
    _age_mark(restored)
    # Let the backup go on by itself, as a second instance would, past the size that the key remembers.
    site = restored.site()
    submit(site, [f"other-{number}" for number in range(60)])
    assert fsck(restored.state) == []
    restored.mark.write_text(mark)
    assert re.search("tree of .* entries is not the one", restored.refusal())


@pytest.mark.parametrize("damage", ["", "size", "cut", "origin"])
def test_a_damaged_or_foreign_mark_is_not_a_missing_one(
    original: tuple[LogSite, Path], tmp_path: Path, damage: str
) -> None:
    copy = Copy(original[0], tmp_path / "log")
    match damage:
        case "size":
            _set_mark(copy, r"size \d", "size x")
        case "cut":
            copy.mark.write_bytes(copy.mark.read_bytes()[:100])
        case "origin":
            _set_mark(copy, r"origin .*", "origin other.example/log")
        case _:
            copy.starts()
            return
    assert str(copy.mark) in copy.refusal()


async def test_one_key_leads_one_log_process_whatever_its_state(original: tuple[LogSite, Path], tmp_path: Path) -> None:
    """SPEC log-5 (FAULTS 8): a copied state directory with the same key is refused while the first one runs."""
    site, _ = original
    copy = Copy(site, tmp_path / "log")
    copy.mark.unlink()
    shutil.rmtree(copy.state.parent / "keys")
    (copy.state.parent / "keys").symlink_to(site.directory / "keys")
    log = await asyncio.to_thread(site.start)
    try:
        with pytest.raises(AssertionError, match="another log process uses this key"):
            await asyncio.to_thread(copy.site().start)
    finally:
        log.kill()


async def _accepted_unwitnessed(client: LogClient, data: bytes) -> bool:
    try:
        [answer] = await client.submit([data], unwitnessed=True, deadline_s=5)
    except TemporaryFailure as failure:
        if "has not said yet" in str(failure):
            return False
        raise
    assert isinstance(answer, Accepted)
    return True


@pytest.mark.parametrize("image", ["no mark", "a mark of another boot", "a mark of this boot"])
async def test_an_old_image_asks_a_quorum_before_it_sequences(
    original: tuple[LogSite, Path], restored: Copy, image: str
) -> None:
    """SPEC log-27 (FAULTS 9): where the mark is as old as the state, or gone, only others know how far the log came."""
    people = original[0].people
    site = restored.site()
    head = _age_mark(restored)
    if image == "no mark":
        restored.mark.unlink()
    elif image == "a mark of another boot":
        _set_mark(restored, r"boot .*", "boot 00000000-0000-0000-0000-000000000000")
    log = await asyncio.to_thread(site.start)
    try:
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(site.client(lab_uri(LAB), log))
            asks = image != "a mark of this boot"
            assert await _accepted_unwitnessed(client, site.declaration(LAB, "new-1")) is not asks
            if not asks:
                return
            for party in people.keys.party_ids[:2]:
                await stack.enter_async_context(Cosigner(people, party, log.address))
            await asyncio.sleep(0.3)
            assert not await _accepted_unwitnessed(client, site.declaration(LAB, "new-1")), "two of four are no quorum"
            # No verifier knows of more: it was no old image, or nobody was ever told of what came after.
            await stack.enter_async_context(Cosigner(people, people.keys.party_ids[2], log.address))
            async with asyncio.timeout(20):
                while not await _accepted_unwitnessed(client, site.declaration(LAB, "new-1")):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert f"size {head.size + 2:020d}" in restored.mark.read_text(), "a Tick and the declaration"
    finally:
        log.kill()


class Ahead(Cosigner):
    """A verifier that holds more entries than the backup has."""

    def __init__(self, held: int, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.entries = [b""] * held


async def test_an_old_image_that_its_verifiers_have_outgrown_stops_and_stays_down(
    original: tuple[LogSite, Path], restored: Copy
) -> None:
    """SPEC log-28 (FAULTS 9): exit 5, a marker, and not one signature after the backup."""
    people = original[0].people
    site = restored.site()
    restored.mark.unlink()
    head = _head(restored)
    log = await asyncio.to_thread(site.start)
    async with contextlib.AsyncExitStack() as stack:
        behind = await stack.enter_async_context(Cosigner(people, people.keys.party_ids[0], log.address))
        for party in people.keys.party_ids[1:3]:
            await stack.enter_async_context(Ahead(head.size + 1, people, party, log.address))
        assert await asyncio.to_thread(log.process.wait, 30) == EXIT_UNSAFE
        assert max(behind.sizes, default=0) <= head.size
    assert _head(restored) == head
    assert "restored from a backup" in (restored.state / "unsafe").read_text()
    assert "run fsck, then remove that file" in restored.refusal()


def _head(copy: Copy) -> Head:
    with contextlib.closing(sqlite3.connect(copy.state / "log.sqlite")) as db:
        return Head(*db.execute("SELECT size, root, time_ms FROM head").fetchone())


def test_the_mark_never_goes_back_and_is_not_followed_through_a_link(tmp_path: Path) -> None:
    """SPEC log-26."""
    path = tmp_path / "key.head"
    with HeadMark(path, "example.org/log") as mark:
        mark.bind(Head(3, bytes(32), 0))
        mark.advance(Head(5, bytes(32), 0))
        for size in (4, 5):
            with pytest.raises(Refused, match="committed already"):
                mark.advance(Head(size, bytes(32), 0))
    with HeadMark(path, "example.org/log") as again:
        assert again.mark is not None
        assert again.mark.size == 5
    link = tmp_path / "link.head"
    link.symlink_to(path)
    with pytest.raises(Refused, match="cannot be opened"):
        HeadMark(link, "example.org/log")
