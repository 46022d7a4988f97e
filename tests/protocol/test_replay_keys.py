"""Keys rotated by their holders: what the new key signs counts, what the old one signs later does not, in log order."""

from __future__ import annotations

from typing import Any

import pytest
from agreements import signing_key
from key_world import HOLDERS, KeyWorld
from world import World, digest

from pacekeeper.protocol import keys, limits
from pacekeeper.protocol.envelope import read_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.evidence import recheck
from pacekeeper.protocol.replay import Applied, Void, admit
from pacekeeper.protocol.replay.key_life import present
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb


def word_of(world: KeyWorld, role: str, holder: str, text: str) -> Any:
    """A statement that a holder of this role may make at any time."""
    agreement = world.agreement.fingerprint
    match role:
        case "lab":
            return world.declaration(holder, f"run-{text}")
        case "log":
            return pb.Tick(agreement=agreement, index=world.state.size)
        case "verifier":
            evidence = pb.Evidence(void_entry=pb.VoidEntryEvidence(index=1, code=text))
            return pb.Finding(
                agreement=agreement,
                party=holder,
                rule="void-entry",
                subject="log",
                severity=pb.SEVERITY_ANOMALY,
                evidence=evidence,
            )
        case _:
            document = world.replacement(("lab", "meridian", 2), ident=f"keys-{text}")
            return pb.Commitment(agreement=agreement, proposer=holder, document=document)


@pytest.mark.parametrize(("role", "holder"), HOLDERS)
def test_the_new_key_signs_from_its_entry_on_and_the_old_one_signed_until_then(role: str, holder: str) -> None:
    """SPEC keys-6, SPEC keys-7, SPEC keys-9."""
    world = KeyWorld()
    assert isinstance(world.say(word_of(world, role, holder, "a"), role, holder), Applied)
    fingerprint, voids = world.state.agreement.fingerprint, world.state.void_count
    assert isinstance(world.rotate(role, holder), Applied)
    late = world.put(world.seal(word_of(world, role, holder, "b"), world.key(role, holder, 1)), world.now)
    assert isinstance(late, Void)
    assert late.code == Code.KEY_RETIRED
    assert f"entry {world.state.size - 2}" in late.message
    assert isinstance(world.say(word_of(world, role, holder, "c"), role, holder), Applied)
    assert world.state.void_count == voids + 1
    assert present(world.state, role, holder) == (2, world.key(role, holder).public)
    assert world.state.agreement.fingerprint == fingerprint
    world.proved()


def test_each_of_a_thousand_rotations_is_one_more_epoch() -> None:
    """SPEC keys-5."""
    world = KeyWorld()
    for epoch in range(2, 1_002):
        assert isinstance(world.rotate("lab", "borealis"), Applied)
        assert world.state.epochs["lab", "borealis"] == epoch
    assert len(world.state.keyring) == len(KeyWorld().state.keyring)
    world.proved()


def test_a_holder_has_so_many_keys_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC keys-5."""
    monkeypatch.setattr("pacekeeper.protocol.replay.key_life.MAX_KEY_EPOCH", 3)
    assert limits.MAX_KEY_EPOCH == 10_000
    world = KeyWorld()
    assert [type(world.rotate("lab", "borealis")) for _ in range(3)] == [Applied, Applied, Void]
    assert world.state.voids[-1].code == Code.TOO_LARGE


def test_the_chain_goes_on_under_the_new_key() -> None:
    """SPEC keys-7: links are to identities, which hold no signature, so a slot may be signed again by the successor."""
    world = KeyWorld()
    world.to(world.end(1))
    statement = pb.ComputeAttestation(
        agreement=world.agreement.fingerprint, lab="borealis", link=world.link("borealis"), account=world.account(1, {})
    )
    old = world.seal(statement, world.key("lab", "borealis"))
    assert isinstance(world.rotate("lab", "borealis"), Applied)
    assert isinstance(world.put(old, world.now), Void)
    again = world.seal(statement, world.key("lab", "borealis"))
    assert read_envelope(again).id == read_envelope(old).id
    assert isinstance(world.put(again, world.now), Applied)
    world.proved()


def test_of_a_rotation_and_a_statement_that_race_the_order_of_the_log_decides() -> None:
    for statement_first in (True, False):
        world = KeyWorld()
        old = world.seal(world.declaration("borealis", "run-2"), world.key("lab", "borealis"))
        if statement_first:
            assert isinstance(world.put(old, world.now), Applied)
            assert isinstance(world.rotate("lab", "borealis"), Applied)
        else:
            assert isinstance(world.rotate("lab", "borealis"), Applied)
            assert isinstance(world.put(old, world.now), Void)
        world.proved()


def bad(name: str, world: KeyWorld) -> envelope_pb2.Envelope:
    """A rotation of borealis' key that must be refused."""
    old, new = world.key("lab", "borealis"), world.next_key("lab", "borealis")
    other = signing_key("somebody")
    good = world.rotation("lab", "borealis", new.public)
    match name:
        case "only the present key":
            return seal(good, [old])
        case "only the new key":
            return seal(good, [new])
        case "a third signature":
            return seal(good, [old, new, world.key("lab", "meridian")])
        case "a stranger's signature":
            return seal(good, [old, new, other])
        case "another's present key":
            return seal(good, [world.key("party", "norland"), new])
        case "the present key's signature damaged" | "the new key's signature damaged":
            envelope = seal(good, [old, new])
            key = old if "present" in name else new
            [signature] = [found for found in envelope.signatures if found.key_id == key.key_id]
            signature.signature = signature.signature[:32] + bytes(32)
            return envelope
        case "the same epoch" | "an epoch too far":
            epoch = 3 if "far" in name else 2
            world.rotate("lab", "meridian")
            statement = world.rotation("lab", "meridian", new.public, epoch if "same" in name else 4)
            return seal(statement, [world.key("lab", "meridian"), new])
        case "to itself":
            return seal(world.rotation("lab", "borealis", old.public), [old])
        case "another's key":
            key = world.key("lab", "meridian")
            return seal(world.rotation("lab", "borealis", key.public), [old, key])
        case "a key that was used once":
            world.rotate("lab", "meridian")
            former = world.key("lab", "meridian", 1)
            return seal(world.rotation("lab", "borealis", former.public), [old, former])
        case "a verifier's cosigning key":
            key = world.keys.verifier_cosign("norland")
            return seal(world.rotation("lab", "borealis", key.public), [old, key])
        case "a lab that is not there":
            statement = world.rotation("lab", "borealis", new.public)
            statement.holder = "nowhere"
            return seal(statement, [old, new])
        case "a party by a lab's name" | "a log by a party's name":
            statement = world.rotation("lab", "borealis", new.public)
            statement.role = pb.KEY_ROLE_PARTY if "party by" in name else pb.KEY_ROLE_LOG
            return seal(statement, [old, new])
        case "another agreement's":
            statement = world.rotation("lab", "borealis", new.public)
            statement.agreement = digest("another")
            return seal(statement, [old, new])
        case _:
            raise AssertionError(name)


REFUSED = {
    "only the present key": Code.MISSING_SIGNATURE,
    "only the new key": Code.MISSING_SIGNATURE,
    "a third signature": Code.WRONG_ROLE,
    "a stranger's signature": Code.UNKNOWN_SIGNER,
    "another's present key": Code.WRONG_ROLE,
    "the present key's signature damaged": Code.BAD_SIGNATURE,
    "the new key's signature damaged": Code.BAD_SIGNATURE,
    "the same epoch": Code.BAD_EPOCH,
    "an epoch too far": Code.BAD_EPOCH,
    "to itself": Code.KEY_USED,
    "another's key": Code.KEY_USED,
    "a key that was used once": Code.KEY_USED,
    "a verifier's cosigning key": Code.KEY_USED,
    "a lab that is not there": Code.UNKNOWN_PARTICIPANT,
    "a party by a lab's name": Code.UNKNOWN_PARTICIPANT,
    "a log by a party's name": Code.UNKNOWN_PARTICIPANT,
    "another agreement's": Code.WRONG_AGREEMENT,
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_rotation_is_refused_by_its_code_and_changes_nothing(name: str) -> None:
    """SPEC keys-5, SPEC keys-6, SPEC keys-8."""
    world = KeyWorld()
    envelope = bad(name, world)
    before: dict[str, Any] = world.state.describe()
    with pytest.raises(Refused) as refused:
        admit(world.state, read_envelope(envelope), world.now)
    assert refused.value.code == REFUSED[name]
    assert world.state.describe() == before
    outcome = world.put(envelope, world.now)
    assert isinstance(outcome, Void)
    assert outcome.code == REFUSED[name]
    assert world.state.describe()["keys"] == before["keys"]


def test_a_rotation_that_comes_again_is_refused() -> None:
    """SPEC replay-13."""
    world = KeyWorld()
    envelope = world.sealed_rotation("lab", "borealis")
    assert isinstance(world.put(envelope, world.now), Applied)
    again = world.put(envelope, world.now)
    assert isinstance(again, Void)
    assert again.code == Code.KEY_RETIRED


@pytest.mark.parametrize("version", [1, 2])
def test_earlier_rules_know_no_rotation(version: int) -> None:
    """SPEC replay-9."""
    world = World()
    old = b"rules = 4"
    document = world.document.replace(old, f"rules = {version}".encode())
    assert document != world.document
    from pacekeeper.protocol.envelope import encode_entry
    from pacekeeper.protocol.replay import apply, genesis

    founding = seal(pb.Agreement(document=document), world.keys.parties())
    state = genesis(encode_entry(world.start(0), founding))
    assert "keys" not in state.describe()
    new = signing_key("new")
    rotation = pb.KeyRotation(
        agreement=state.agreement.fingerprint, role=pb.KEY_ROLE_LAB, holder="borealis", epoch=2, key=new.public
    )
    outcome = apply(state, encode_entry(world.start(0), seal(rotation, [world.keys.lab("borealis"), new])))
    assert isinstance(outcome, Void)
    assert outcome.code == Code.UNKNOWN_PAYLOAD_TYPE


def equivocation(world: KeyWorld, second_key: keys.SigningKey) -> pb.Evidence:
    """The account of period 0, and another statement in its slot."""
    index = world.state.labs["borealis"].accounts[0].index
    second = pb.Gap(
        agreement=world.agreement.fingerprint,
        lab="borealis",
        link=pb.Link(sequence=1),
        reason=pb.GAP_REASON_LATE,
    )
    envelope = seal(second, [second_key])
    return pb.Evidence(lab_equivocation=pb.LabEquivocationEvidence(first_index=index, second=envelope))


def holds(world: KeyWorld, evidence: pb.Evidence, found_at: int | None = None) -> bool:
    return recheck(
        evidence, world.state, entry_at=world.entries.__getitem__, verify=keys.verify, found_at=found_at
    ).holds


def test_a_lab_answers_for_its_former_key_until_the_parties_replace_it() -> None:
    """SPEC evidence-7: a rotation is no way out of a conviction, and a theft no way into one."""
    world = KeyWorld()
    evidence = equivocation(world, world.key("lab", "borealis"))
    assert holds(world, evidence)
    assert isinstance(world.rotate("lab", "borealis"), Applied)
    assert holds(world, evidence)
    stolen = world.key("lab", "borealis")
    world.decide(("lab", "borealis", 3), by=("sudland", "westmere", "eastholm"))
    by_thief = equivocation(world, stolen)
    assert holds(world, by_thief)
    before = world.state.size
    world.done(("lab", "borealis", 3))
    assert holds(world, evidence), "the first key was rotated out by its holder"
    assert not holds(world, by_thief)
    assert holds(world, by_thief, found_at=before - 1), "a finding that was logged before stays what it was"
    assert not holds(world, by_thief, found_at=before)
