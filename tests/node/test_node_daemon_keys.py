"""The real daemon as a process, killed at random moments around rotations of its key; and one that was wrong."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

from daemon_site import Site, refuse_to_run
from lab_bench import LAB, eventually, lab_key

from pacekeeper.client.keyfiles import create_key
from pacekeeper.node.journal import Journal
from pacekeeper.node.records import Rekeyed, Signed, SignedAgain, decode_record
from pacekeeper.protocol.envelope import encode, identity, pae, parse_entry, parse_envelope
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import statements_pb2 as pb

SEED = 20261124
ROUNDS = 6


def rotate(site: Site, old: SigningKey, new: SigningKey) -> None:
    """The rotation lands on the log."""
    epoch = site.log.state.epochs.get(("lab", LAB), 1) + 1
    statement = pb.KeyRotation(
        agreement=site.people.agreement.fingerprint, role=pb.KEY_ROLE_LAB, holder=LAB, epoch=epoch, key=new.public
    )
    site.log.append(encode(seal(statement, [old, new])))


def put_in_order(site: Site) -> None:
    """The key files after a rotation, as the command leaves them; retired keys are destroyed."""
    assert site.settings.next_key is not None
    site.settings.next_key.replace(site.settings.key)


async def test_killed_around_rotations_the_daemon_signs_every_slot_once(tmp_path: Path) -> None:
    """SPEC node-4, SPEC node-35: a rotation comes before the kill, while the daemon is down, or as it starts."""
    chance = random.Random(SEED)
    async with Site(tmp_path) as site:
        key = lab_key(site.people, LAB)
        assert site.settings.next_key is not None
        await site.start()
        for _ in range(ROUNDS):
            await asyncio.sleep(chance.uniform(0.5, 2.5))
            new = create_key(site.settings.next_key)
            moment = chance.choice(["running", "down", "starting"])
            if moment == "running":
                rotate(site, key, new)
                await asyncio.sleep(chance.uniform(0, 0.5))
            site.kill()
            if moment == "down":
                rotate(site, key, new)
            if moment != "starting" and chance.random() < 0.5:
                put_in_order(site)
            starting = asyncio.create_task(site.start())
            if moment == "starting":
                await asyncio.sleep(chance.uniform(0, 1))
                rotate(site, key, new)
            await starting
            before, key = site.lab.sequence, new
            await eventually(lambda before=before: site.lab.sequence > before, 20)  # type: ignore[misc]
            if site.settings.next_key.exists():
                put_in_order(site)
        assert await site.stop() == 0
        assert site.log.state.void_count == 0
        assert site.log.state.epochs["lab", LAB] == ROUNDS + 1
        last = parse_entry(site.log.entries[site.lab.last_index]).envelope
        assert [signature.key_id for signature in last.signatures] == [key.key_id]
        check_journal(Path(shutil.copy(site.settings.state / "journal", tmp_path / "copy")), key)


def check_journal(path: Path, key: SigningKey) -> None:
    """No slot has two payloads, and the journal ends with the key in force."""
    journal = Journal(path)
    records = [decode_record(payload) for _, payload in journal.recover()]
    journal.close()
    slots: dict[int, set[bytes]] = {}
    known = set()
    for record in records:
        if isinstance(record, Signed | SignedAgain):
            envelope = parse_envelope(record.envelope)
            ident = identity(pae(envelope.payload_type, envelope.payload))
            if isinstance(record, Signed):
                known.add(ident)
                if record.sequence:
                    slots.setdefault(record.sequence, set()).add(envelope.payload)
            assert ident in known, "what is signed again was signed before"
    assert sorted(slots) == list(range(1, len(slots) + 1))
    assert all(len(payloads) == 1 for payloads in slots.values())
    assert [record for record in records if isinstance(record, Rekeyed)][-1].key_id == key.key_id


async def test_a_daemon_with_a_key_that_is_not_the_labs_ends_with_status_5(tmp_path: Path) -> None:
    """SPEC node-35: once it has read the log, and says which file it is about."""
    async with Site(tmp_path) as site:
        site.settings.key.unlink()
        create_key(site.settings.key)
        status, said = await asyncio.to_thread(refuse_to_run, site.config)
        assert status == 5
        assert b"no key file holds the key of lab borealis in the agreement" in said
