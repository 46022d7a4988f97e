"""A verifier's statement key: findings are signed by the one in force, what waits is signed again, and is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agreements import signing_key
from cosign_log import CosignLog
from world import World

from pacekeeper.client.keyfiles import create_key
from pacekeeper.client.successors import KeyFiles, open_key_files
from pacekeeper.protocol.envelope import parse_envelope
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay import Applied
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import statements_pb2 as pb
from pacekeeper.verifier.voice import StatementKeys


def rotate(world: World, new: SigningKey) -> None:
    """Norland's verifier goes over to another statement key, on the log."""
    rotation = pb.KeyRotation(
        agreement=world.agreement.fingerprint, role=pb.KEY_ROLE_VERIFIER, holder="norland", epoch=2, key=new.public
    )
    old = world.keys.verifier_statement("norland")
    assert isinstance(world.put(seal(rotation, [old, new]), world.state.last_time_ms), Applied)


def witness(verifier: Any, log: CosignLog) -> None:
    verifier.take()
    verifier.ledger.cosign(log.note(len(log.world.entries)), verifier.now_ms())
    verifier.findings.conclude(verifier.ledger)


def signers(envelope: bytes) -> list[bytes]:
    return [signature.key_id for signature in parse_envelope(envelope).signatures]


async def test_what_waits_is_signed_again_by_the_new_key_and_is_the_same_finding(
    log: CosignLog, world: World, verifier: Any, tmp_path: Path
) -> None:
    """SPEC verifier-34."""
    old = world.keys.verifier_statement("norland")
    path = tmp_path / "statement.next.key"
    verifier.voice = verifier.findings._voice = StatementKeys("norland", KeyFiles([old], [path]), old.public)
    world.put_entry(b"garbage")
    witness(verifier, log)
    [waiting] = verifier.store.findings(0, 10)
    assert signers(waiting.envelope) == [old.key_id]
    new = create_key(path)
    rotate(world, new)
    witness(verifier, log)
    async with verifier.publisher(log) as publisher:
        assert await publisher.publish_some()
    [published] = verifier.store.findings(0, 10)
    assert signers(published.envelope) == [new.key_id]
    assert parse_envelope(published.envelope).payload == parse_envelope(waiting.envelope).payload
    [found] = world.state.findings
    assert found.statement.party == "norland"
    world.put_entry(b"more garbage")
    witness(verifier, log)
    assert signers(verifier.store.findings(1, 1)[0].envelope) == [new.key_id]


def test_without_the_key_in_force_findings_are_still_made_and_wait(log: CosignLog, world: World, verifier: Any) -> None:
    """SPEC verifier-34: and the log refuses them for the key, not for what they say."""
    world.put_entry(b"garbage")
    rotate(world, signing_key("kept elsewhere"))
    witness(verifier, log)
    [waiting] = verifier.store.findings(0, 10)
    assert signers(waiting.envelope) == [world.keys.verifier_statement("norland").key_id]
    outcome = world.put(parse_envelope(waiting.envelope), world.state.last_time_ms)
    assert not isinstance(outcome, Applied)
    assert outcome.code == "key-retired"


def test_a_key_file_that_turns_up_is_used_and_a_bad_one_is_not(world: World, tmp_path: Path) -> None:
    """SPEC verifier-34."""
    first = create_key(tmp_path / "statement.key")
    following = tmp_path / "statement.next.key"
    files = open_key_files([tmp_path / "statement.key", following])
    voice = StatementKeys("norland", files, first.public)
    assert voice.founding_at_hand
    new = create_key(tmp_path / "made.key")
    rotate(world, new)
    following.write_bytes((tmp_path / "made.key").read_bytes())
    following.chmod(0o644)
    assert voice.key_for(world.state).public == first.public
    following.chmod(0o600)
    assert voice.key_for(world.state).public == new.public
    assert voice.renewed(b"", None) == b""


def test_no_key_file_at_all_is_unsafe(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be read"):
        open_key_files([tmp_path / "one", tmp_path / "two"])
