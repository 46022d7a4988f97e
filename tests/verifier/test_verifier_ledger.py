"""Storing, replaying and cosigning as one: the order of a cosignature, and what a restart makes of any moment in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from agreements import signing_key
from world import World

from pacekeeper.protocol.envelope import encode_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import cosignature_time
from pacekeeper.protocol.tlog.merkle import HashTree, leaf_hash
from pacekeeper.protocol.tlog.note import parse_signatures
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.v1 import envelope_pb2
from pacekeeper.verifier.ledger import MAX_HELD_BYTES
from pacekeeper.verifier.store import Store
from pacekeeper.verifier.witness import FRESH, WitnessState

T = 1_767_225_600_000  # 2026-01-01, when the world's calendar begins


def note(world: World, size: int, entries: list[bytes] | None = None) -> bytes:
    tree = HashTree(leaf_hash(entry) for entry in (world.entries if entries is None else entries)[:size])
    origin = world.agreement.origin
    return sign_checkpoint(Checkpoint(origin, size, tree.root()), origin, world.keys.log_checkpoint)


def cosigners(world: World, checkpoint: bytes, line: bytes) -> dict[str, int]:
    """Who has cosigned when, as anyone verifies it."""
    return check_checkpoint(checkpoint + line, world.agreement.policy(), require_quorum=False).cosigners


def bad_entry(world: World, at: int) -> bytes:
    """A tick whose signature is another statement's: well-formed, and void."""
    envelope = world.seal(world.declaration("borealis", "forged"), signing_key("nobody"))
    good = world.seal(world.declaration("borealis", "forged"), world.keys.lab("borealis"))
    good.signatures[0].signature = envelope.signatures[0].signature
    return encode_entry(at, good)


def test_a_pushed_tree_is_stored_and_cosigned(world: World, verifier: Any) -> None:
    """SPEC verifier-4: cosigned, stored and replayed are the same entries."""
    world.declare("borealis", "run-1", at=T + 10)
    verifier.take()
    assert verifier.store.size == 0, "entries wait for their checkpoint, so that one commit does"
    checkpoint = note(world, 2)
    line = verifier.ledger.cosign(checkpoint, T + 500)
    assert cosigners(world, checkpoint, line) == {"norland": (T + 500) // 1000}
    assert verifier.store.size == 2
    assert verifier.store.witness == WitnessState(2, verifier.ledger.tree().root, T + 10, T + 500, checkpoint)
    assert verifier.marker.mark.size == 2
    assert verifier.ledger.state.describe() == world.state.describe()


def test_the_decision_is_on_disk_before_the_key_signs(
    world: World, verifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC verifier-9, FAULTS 14: shown by the trace of what a commit, the marker and the signer did, in order."""
    trace: list[Any] = []
    keep = Store.keep

    def traced_keep(self: Store, entries: Any, voids: Any, *, before: Any, after: Any) -> None:
        keep(self, entries, voids, before=before, after=after)
        trace.append(("committed", after.size))

    def signer(text: str, time_ms: int) -> bytes:
        # What another process would find on the disk at the moment of the signature.
        reader = sqlite3.connect(verifier.store.path)
        (size,) = reader.execute("SELECT size FROM witness").fetchone()
        (stored,) = reader.execute("SELECT sum(count) FROM bundles").fetchone()
        reader.close()
        marked = verifier.key_path.with_name("norland.key.witness").read_text()
        trace.append(("signing", size, stored, int(marked.rsplit(" ", 1)[1])))
        return b"signature of " + text.split("\n")[1].encode()

    monkeypatch.setattr(Store, "keep", traced_keep)
    verifier.close()
    verifier.open(signer)
    for size in (1, 3):
        while len(world.entries) < size:
            world.tick(T + len(world.entries))
        verifier.take()
        assert verifier.ledger.cosign(note(world, size), T) == b"signature of %d" % size
    assert trace == [("committed", 1), ("signing", 1, 1, 1), ("committed", 3), ("signing", 3, 3, 3)]


def test_a_refused_checkpoint_reaches_neither_disk_nor_key(world: World, verifier: Any) -> None:
    """SPEC verifier-9"""
    signed: list[str] = []

    def signer(text: str, time_ms: int) -> bytes:
        signed.append(text)
        return b""

    verifier.close()
    verifier.open(signer)
    verifier.take()
    for data in (b"", note(world, 1, [b"another entry"]), note(world, 5)):
        with pytest.raises(Refused):
            verifier.ledger.cosign(data, T)
    assert signed == []
    assert (verifier.store.size, verifier.store.witness, verifier.marker.mark.size) == (0, FRESH, 0)


class Killed(BaseException):
    """Stands for the process ending at this very point."""


def test_crash_between_persist_and_reply(world: World, verifier: Any) -> None:
    """SPEC verifier-3, FAULTS 13: the same checkpoint is cosigned after the restart, a conflicting one is refused."""

    def killed(text: str, time_ms: int) -> bytes:
        raise Killed

    world.tick(T + 5)
    verifier.close()
    verifier.open(killed)
    verifier.take()
    with pytest.raises(Killed):
        verifier.ledger.cosign(note(world, 2), T)
    verifier.restart()
    assert (verifier.ledger.size, verifier.ledger.witness.size) == (2, 2)
    with pytest.raises(Refused, match="another tree of 2") as refused:
        verifier.ledger.cosign(note(world, 2, [world.entries[0], b"another second entry"]), T)
    assert refused.value.code == Code.WRONG_ROOT
    an_hour_later = T + 3_600_000
    line = verifier.ledger.cosign(note(world, 2), an_hour_later)
    assert cosigners(world, note(world, 2), line) == {"norland": an_hour_later // 1000}


def test_crash_before_persist_leaves_nothing(world: World, verifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Store, *args: Any, **more: Any) -> None:
        raise Killed

    verifier.take()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "keep", killed)
        with pytest.raises(Killed):
            verifier.ledger.cosign(note(world, 1), T)
    verifier.restart()
    assert (verifier.ledger.size, verifier.ledger.witness) == (0, FRESH)


def test_restart_replays_to_the_same_state_voids_included(world: World, verifier: Any) -> None:
    """SPEC verifier-14, SPEC verifier-20: also where an entry is void for its signature."""
    world.declare("borealis", "run-1", at=T + 10)
    world.put_entry(bad_entry(world, T + 20))
    world.put_entry(b"garbage")
    world.put_entry(b"")
    world.attest("borealis", 0, {"run-1": 500}, at=T + 10_000)
    assert [void.code for void in world.state.voids] == [Code.BAD_SIGNATURE, Code.NOT_CANONICAL, Code.MISSING_SIGNATURE]
    verifier.take()
    verifier.ledger.cosign(note(world, 6), T + 10_000)
    before = verifier.ledger.state.describe()
    assert before == world.state.describe()
    verifier.restart()
    assert verifier.ledger.state.describe() == before
    assert verifier.ledger.tree().root == HashTree(leaf_hash(entry) for entry in world.entries).root()


def test_uncosigned_entries_are_verified_again_at_restart(world: World, verifier: Any) -> None:
    """SPEC verifier-14: no persisted root vouches for them."""
    verifier.take()
    verifier.ledger.cosign(note(world, 1), T)
    world.declare("borealis", "run-1", at=T + 10)
    verifier.take()
    verifier.ledger.flush()
    verifier.close()
    altered = world.entries[1].replace(b"run-1", b"run-2")
    db = sqlite3.connect(verifier.store.path)
    db.execute("UPDATE bundles SET entries = ? WHERE first = 1", (len(altered).to_bytes(2, "big") + altered,))
    db.commit()
    db.close()
    verifier.open()
    assert [void.code for void in verifier.ledger.state.voids] == [Code.BAD_SIGNATURE]


def test_altered_cosigned_entries_are_not_built_on(world: World, verifier: Any) -> None:
    """SPEC verifier-14: FAULTS 10, as it befalls a verifier."""
    world.declare("borealis", "run-1", at=T + 10)
    verifier.take()
    verifier.ledger.cosign(note(world, 2), T)
    verifier.close()
    db = sqlite3.connect(verifier.store.path)
    (blob,) = db.execute("SELECT entries FROM bundles").fetchone()
    db.execute("UPDATE bundles SET entries = ?", (blob.replace(b"run-1", b"run-2"),))
    db.commit()
    db.close()
    with pytest.raises(Refused, match="not the 2 that were cosigned") as refused:
        verifier.open()
    assert refused.value.code == Code.UNSAFE_STATE
    db = sqlite3.connect(verifier.store.path)
    db.execute("UPDATE bundles SET entries = ?", (blob,))
    db.commit()
    db.close()
    verifier.open()


def test_fewer_entries_than_were_cosigned_are_refused(world: World, verifier: Any) -> None:
    """SPEC verifier-14"""
    world.tick(T + 1)
    verifier.take(1)
    verifier.ledger.cosign(note(world, 1), T)
    verifier.take()
    verifier.ledger.cosign(note(world, 2), T)
    verifier.close()
    db = sqlite3.connect(verifier.store.path)
    db.execute("DELETE FROM bundles WHERE first = 1")
    db.commit()
    db.close()
    with pytest.raises(Refused, match="1 of 2 cosigned entries left"):
        verifier.open()
    db = sqlite3.connect(verifier.store.path)
    db.execute("DELETE FROM bundles")
    db.commit()
    db.close()
    with pytest.raises(Refused, match="0 of 2 cosigned entries left"):
        verifier.open()
    (verifier.store.path).unlink()
    with pytest.raises(Refused, match="from another store"):
        verifier.open()
    verifier.key_path.with_name("norland.key.witness").unlink()
    verifier.open()


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm")])
@pytest.mark.parametrize("empty", [False, True])
def test_a_lost_witness_state_never_becomes_size_zero(
    world: World, verifier: Any, suffixes: tuple[str, ...], empty: bool
) -> None:
    """SPEC verifier-12, FAULTS 15: missing or empty, the key that has cosigned refuses, and keeps refusing."""
    verifier.take()
    verifier.ledger.cosign(note(world, 1), T)
    verifier.close()
    for suffix in suffixes:
        path = verifier.store.path.with_name(verifier.store.path.name + suffix)
        if path.exists():
            path.write_bytes(b"") if empty else path.unlink()
    for _ in range(2):
        with pytest.raises(Refused, match="cosigned 1 entries from another store") as refused:
            verifier.open()
        assert refused.value.code == Code.UNSAFE_STATE


def test_a_restored_backup_does_not_sign(world: World, verifier: Any) -> None:
    """SPEC verifier-12, FAULTS 15: the store of yesterday, under the key of today."""
    verifier.take()
    verifier.ledger.cosign(note(world, 1), T)
    verifier.close()
    backup = verifier.store.path.read_bytes()
    verifier.open()
    world.tick(T + 1)
    verifier.take()
    verifier.ledger.cosign(note(world, 2), T)
    verifier.close()
    verifier.store.path.write_bytes(backup)
    with pytest.raises(Refused, match="rolled back"):
        verifier.open()


def test_two_processes_cannot_share_a_key_or_a_state(make_verifier: Callable[[str], Any], verifier: Any) -> None:
    """SPEC verifier-13, FAULTS 16"""
    with pytest.raises(Refused, match="another process uses this key"):
        make_verifier("norland")


@pytest.mark.parametrize(
    ("first", "entries", "code"),
    [
        (0, [b"again"], Code.BAD_FIELD),
        (2, [b"skipped one"], Code.BAD_FIELD),
        (1, [], Code.BAD_FIELD),
        (1, [b"x" * 65_536], Code.TOO_LARGE),
        (1, [encode_entry(T + 5_001, envelope_pb2.Envelope())], Code.CLOCK_DISAGREES),
        (1, [b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f"], Code.CLOCK_DISAGREES),
    ],
)
def test_batches_that_may_not_follow(world: World, verifier: Any, first: int, entries: list[bytes], code: Code) -> None:
    """SPEC verifier-15, SPEC verifier-7: nothing of such a batch is replayed or stored."""
    verifier.take()
    with pytest.raises(Refused) as refused:
        verifier.ledger.check_batch(first, entries, T + 3_000)
    assert refused.value.code == code
    assert verifier.ledger.size == 1


def test_a_log_of_another_agreement_is_not_followed(world: World, verifier: Any) -> None:
    """SPEC verifier-16: however well-founded it is."""
    other = World(period="10 s", title="Another agreement", salt="other")
    with pytest.raises(Refused, match="another agreement") as refused:
        verifier.ledger.take(other.entries)
    assert refused.value.code == Code.WRONG_AGREEMENT
    with pytest.raises(Refused):
        verifier.ledger.take([b"no entry at all"])
    assert verifier.ledger.size == 0
    verifier.take()
    assert verifier.ledger.size == 1


def test_log_time_that_runs_back_is_never_cosigned(world: World, verifier: Any) -> None:
    """SPEC verifier-6: nor after entries with proper times have covered it up, nor after a restart."""
    world.tick(T + 1_000)
    world.tick(T + 999)
    world.tick(T + 1_001)
    verifier.take()
    for _ in range(2):
        with pytest.raises(Refused, match="at entry 2") as refused:
            verifier.ledger.cosign(note(world, 4), T + 1_001)
        assert refused.value.code == Code.TIME_RUNS_BACK
        verifier.ledger.flush()
        verifier.restart()


def test_a_long_catch_up_is_stored_on_the_way(world: World, verifier: Any) -> None:
    """Memory is bounded by what waits between two commits, not by the length of the log."""
    filler = [b"\x00" * 65_000] * (MAX_HELD_BYTES // 65_000 + 1)
    verifier.take()
    verifier.ledger.take(filler)
    assert verifier.store.size == len(filler) + 1
    assert verifier.ledger.entry_at(len(filler)) == filler[0]
    verifier.ledger.take([b"waits"])
    assert verifier.ledger.entry_at(len(filler) + 1) == b"waits"
    assert verifier.store.size == len(filler) + 1


def test_going_back_to_what_was_cosigned(world: World, verifier: Any) -> None:
    """SPEC verifier-5: what the log pushed and did not sign is given up, and nothing of it remains."""
    verifier.take()
    verifier.ledger.cosign(note(world, 1), T)
    founded = verifier.ledger.state.describe()
    verifier.ledger.take([b"junk", b"more junk"])
    verifier.ledger.flush()
    verifier.ledger.take([b"and more"])
    assert verifier.ledger.drop_uncosigned()
    for _ in verifier.ledger.replay_stored():
        pass
    assert (verifier.ledger.size, verifier.store.size) == (1, 1)
    assert verifier.ledger.state.describe() == founded
    assert not verifier.ledger.drop_uncosigned(), "nothing is left to drop"


def test_the_shown_checkpoint_is_the_one_cosigned(world: World, verifier: Any) -> None:
    """SPEC verifier-29: with the log's signature and this verifier's, also after a restart, byte for byte."""
    assert verifier.ledger.cosigned_note() == b""
    verifier.take()
    line = verifier.ledger.cosign(note(world, 1), T)
    shown = verifier.ledger.cosigned_note()
    assert shown == note(world, 1) + line
    assert cosignature_time(parse_signatures(line)[0]) == T // 1000
    verifier.restart()
    assert verifier.ledger.cosigned_note() == shown
