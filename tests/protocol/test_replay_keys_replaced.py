"""Keys replaced by the parties: decided by a quorum, done once and whole, and no thief is in time."""

from __future__ import annotations

from typing import Any

import pytest
from agreements import signing_key
from hypothesis import given, settings
from hypothesis import strategies as st
from key_world import HOLDERS, KeyWorld

from pacekeeper.protocol.documents.commitment_lint import lint_commitment
from pacekeeper.protocol.envelope import encode_entry, read_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import Applied, Void, admit, apply
from pacekeeper.protocol.replay.key_life import present
from pacekeeper.protocol.statements import seal

OTHERS = ("sudland", "westmere", "eastholm")
LAB = ("lab", "borealis", 2)


@pytest.mark.parametrize(("role", "holder"), HOLDERS)
def test_the_parties_replace_a_key_that_its_holder_may_not_have_any_more(role: str, holder: str) -> None:
    """SPEC keys-7, SPEC keys-9, SPEC keys-13."""
    world = KeyWorld()
    stolen = world.key(role, holder)
    world.decide((role, holder, 2), by=OTHERS)
    assert present(world.state, role, holder) == (1, stolen.public)
    world.done((role, holder, 2))
    assert world.state.void_count == 0
    assert present(world.state, role, holder) == (2, world.key(role, holder).public)
    assert world.state.commitments.standing("new-keys").how_ended == "performed"
    assert world.state.retired[stolen.key_id].replaced
    world.tick(world.now)
    assert world.state.void_count == 0
    world.proved()


def test_the_thief_is_heard_no_more_and_what_came_before_stays() -> None:
    """SPEC keys-7."""
    world = KeyWorld()
    stolen = world.key("lab", "borealis")
    theft = world.put(world.seal(world.declaration("borealis", "thiefs"), stolen), world.now)
    assert isinstance(theft, Applied), "the log cannot tell"
    world.decide(LAB, by=OTHERS)
    world.done(LAB)
    late = world.put(world.seal(world.declaration("borealis", "more"), stolen), world.now)
    assert isinstance(late, Void)
    assert late.code == Code.KEY_RETIRED
    assert "replaced by the parties" in late.message
    assert "thiefs" in world.state.labs["borealis"].runs
    assert isinstance(world.say(world.declaration("borealis", "ours"), "lab", "borealis"), Applied)
    world.proved()


def test_the_logs_own_key_is_replaced_by_its_own_last_tick() -> None:
    """SPEC keys-13: as admitted, so applied; and the key is of use for that one entry only."""
    world = KeyWorld()
    world.decide(("log", "log", 2), by=OTHERS)
    at = world.now + 10_000
    new = world.next_key("log", "log")
    tick = world.sealed_tick()
    admit(world.state, read_envelope(tick), at)
    world.entries.append(encode_entry(at, tick))
    world.proved()
    again = world.sealed_tick()
    with pytest.raises(Refused, match="key-retired"):
        admit(world.state, read_envelope(again), at)
    world.held["log", "log"].append(new)
    assert isinstance(world.tick(at), Applied)
    assert world.state.void_count == 0
    world.proved()


def rotate_meanwhile(world: KeyWorld) -> None:
    assert isinstance(world.rotate("lab", "meridian"), Applied)


def use_its_key(world: KeyWorld) -> None:
    """Another holder takes the very key that is to be put in place."""
    taken = world.next_key("lab", "meridian")
    statement = world.rotation("verifier", "norland", taken.public)
    assert isinstance(world.put(seal(statement, [world.key("verifier", "norland"), taken]), world.now), Applied)


@pytest.mark.parametrize("meanwhile", [rotate_meanwhile, use_its_key])
def test_what_cannot_be_done_any_more_is_not_done_at_all(meanwhile: Any) -> None:
    """SPEC keys-11, SPEC commitments-46: neither of the two keys is replaced, and the record says so."""
    world = KeyWorld()
    document = world.replacement(LAB, ("lab", "meridian", 2))
    assert isinstance(world.propose(document, "westmere"), Applied)
    meanwhile(world)
    for who in OTHERS:
        assert isinstance(world.pledge(document, who), Applied)
    before: dict[str, Any] = world.state.describe()["keys"]  # type: ignore[assignment]
    world.tick(world.now + 10_000)
    assert world.state.describe()["keys"] == before
    assert [moment.what for moment in world.state.commitments.timeline("new-keys")][-1] == "not-performed"
    world.proved()


def test_a_thief_cannot_keep_a_key_by_rotating_first() -> None:
    """SPEC keys-12: not once the lab's own country has proposed its replacement, nor once the parties have decided."""
    world = KeyWorld()
    document = world.replacement(LAB)
    assert isinstance(world.propose(document, "norland"), Applied)
    refused = world.rotate("lab", "borealis")
    assert isinstance(refused, Void)
    assert refused.code == Code.REPLACEMENT_PENDING
    world = KeyWorld()
    document = world.replacement(LAB)
    assert isinstance(world.propose(document, "sudland"), Applied)
    assert isinstance(world.rotate("lab", "borealis"), Applied), "another country alone keeps nobody from rotating"
    world = KeyWorld()
    world.decide(LAB, by=OTHERS)
    refused = world.rotate("lab", "borealis")
    assert isinstance(refused, Void)
    assert refused.code == Code.REPLACEMENT_PENDING
    assert isinstance(world.rotate("lab", "meridian"), Applied), "who is not named is not concerned"
    world.done(LAB)
    assert isinstance(world.rotate("lab", "borealis"), Applied), "and it is over when it is done"
    world.proved()


def test_a_proposal_that_fails_holds_up_nobody_for_longer() -> None:
    """SPEC keys-12."""
    world = KeyWorld()
    assert isinstance(world.propose(world.replacement(LAB), "norland"), Applied)
    world.to(world.start(3))
    assert isinstance(world.rotate("lab", "borealis"), Applied)


REFUSED: dict[str, tuple[dict[str, Any], list[tuple[str, str, int]], str]] = {
    "too few parties": ({"parties": 2}, [LAB], "at least a quorum of the parties, 3"),
    "too few by name": (
        {"parties": None, "named": ["sudland", "eastholm"]},
        [LAB],
        "at least a quorum of the parties, 3",
    ),
    "labs alone": ({"parties": None, "labs": 1}, [("lab", "meridian", 2)], "at least a quorum of the parties, 3"),
    "the party whose key it is": ({"parties": 4}, [("party", "norland", 2)], "cannot be met without a holder"),
    "that party by name": (
        {"parties": 3, "named": ["norland"]},
        [("party", "norland", 2)],
        "cannot be met without a holder",
    ),
    "the lab by name": ({"named": ["borealis"]}, [LAB], "cannot be met without a holder"),
    "one holder twice": ({}, [LAB, LAB], "replaced above already"),
    "nobody's key": ({}, [("lab", "nowhere", 2)], 'there is no lab "nowhere"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_replacement_that_makes_no_sense_is_not_proposed(name: str) -> None:
    """SPEC keys-10, SPEC commitments-14."""
    entry, replaced, message = REFUSED[name]
    world = KeyWorld()
    keys = [signing_key(f"new {number}").public for number in range(len(replaced))]
    document = world.replacement(*replaced, keys=keys, **entry)
    outcome = world.propose(document, "norland")
    assert isinstance(outcome, Void)
    assert outcome.code == Code.BAD_COMMITMENT
    assert message in outcome.message
    problems = [problem for problem in lint_commitment(document, world.state.members) if problem.severity == "error"]
    assert any(message in problem.message for problem in problems)


def test_two_holders_do_not_get_one_key() -> None:
    """SPEC commitments-14."""
    world = KeyWorld()
    key = signing_key("one for two").public
    outcome = world.propose(world.replacement(LAB, ("lab", "meridian", 2), keys=[key, key]))
    assert isinstance(outcome, Void)
    assert "it is in use, or was" in outcome.message


def test_a_verifiers_key_is_replaced_with_its_own_partys_word_if_need_be() -> None:
    """SPEC keys-10: the party still has its own key."""
    world = KeyWorld()
    assert isinstance(world.propose(world.replacement(("verifier", "norland", 2), parties=4)), Applied)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 8), max_size=14), st.randoms(use_true_random=False))
def test_any_story_of_keys_replays_to_one_state(steps: list[int], random: Any) -> None:
    """SPEC replay-2, SPEC replay-12: rotations, replacements, thefts and repeats in any order; each holder has one key
    at a time, and none twice."""
    world = KeyWorld()
    for number, step in enumerate(steps):
        role, holder = random.choice(HOLDERS)
        match step:
            case 0 | 1 | 2:
                world.rotate(role, holder)
            case 3:
                world.put(world.sealed_rotation(role, holder), world.now)
                world.held[role, holder].append(world.next_key(role, holder))
            case 4:
                document = world.replacement((role, holder, random.randint(2, 4)), ident=f"keys-{number}")
                world.propose(document, "sudland")
                for who in OTHERS:
                    world.pledge(document, who, f"keys-{number}")
            case 5:
                world.tick(world.now + 10_000)
            case 6:
                world.put_entry(random.choice(world.entries))
            case 7:
                former = random.choice(world.held["lab", "borealis"])
                world.put(world.seal(world.declaration("borealis", f"run-{number}x"), former), world.now)
            case _:
                world.tick(world.now)
    keyring = [(authority.role, authority.owner) for authority in world.state.keyring.values()]
    assert len(keyring) == len(set(keyring)) == 11
    for ident, authority in world.state.keyring.items():
        assert ident not in world.state.retired
        assert present(world.state, authority.role, authority.owner)[1] == authority.public_key  # type: ignore[index]
    world.proved()


def test_a_void_rotation_leaves_the_state_as_it_is() -> None:
    world = KeyWorld()
    before = world.state.describe()["keys"]
    for cut in range(1, 200, 7):
        apply(world.state, encode_entry(world.now, world.sealed_rotation("lab", "borealis"))[:-cut])
    assert world.state.describe()["keys"] == before
