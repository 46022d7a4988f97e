"""Chains of checkpoints across changes of the verifiers: which are accepted, and that no two can be."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_chains import NEW, OLD, PARTIES, ROOT, note, policy

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.protocol.tlog.transitions import PolicyChain, parse_transition_path, transition_path


def test_a_transition_needs_the_quorum_before_and_the_one_after() -> None:
    """SPEC transition-1, SPEC transition-2: one without the other leaves the chain where it was."""
    for signers, code in (("abc", Code.BAD_TRANSITION), ("cde", Code.NO_QUORUM), ("e", Code.NO_QUORUM)):
        chain = PolicyChain(OLD)
        with pytest.raises(Refused) as refused:
            chain.settle(chain.check(note(7, signers)), NEW)
        assert refused.value.code is code
        assert (chain.policy, chain.size, chain.transitions) == (OLD, 0, 0)
    chain = PolicyChain(OLD)
    assert chain.settle(chain.check(note(7, "bcd")), NEW) is True
    assert (chain.policy, chain.transitions) == (NEW, 1)
    with pytest.raises(Refused) as refused:
        chain.check(note(8, "abd"))
    assert refused.value.code is Code.NO_QUORUM
    assert chain.settle(chain.check(note(8, "cde")), NEW) is False


def test_what_is_known_of_the_verifiers_at_each_size() -> None:
    """SPEC transition-12: a receipt over an earlier tree is judged by who were verifiers then."""
    chain = PolicyChain(OLD)
    chain.settle(chain.check(note(3, "abc")), OLD)
    chain.settle(chain.check(note(7, "bcd")), NEW)
    chain.settle(chain.check(note(9, "cde")), NEW)
    assert [chain.policy_at(size) for size in (0, 3, 6, 7, 9, 10**9)] == [OLD, OLD, OLD, NEW, NEW, NEW]


def test_a_kept_transition_checkpoint_is_the_next_over_another_policy_and_of_the_tree() -> None:
    """SPEC transition-3."""
    chain = PolicyChain(OLD)
    with pytest.raises(Refused) as same:
        chain.cross(note(7, "abcd"), ROOT, OLD)
    assert same.value.code is Code.BAD_TRANSITION
    with pytest.raises(Refused) as other:
        chain.cross(note(7, "bcd"), bytes(32), NEW)
    assert other.value.code is Code.WRONG_ROOT
    chain.cross(note(7, "bcd"), ROOT, NEW)
    for size in (6, 7):
        with pytest.raises(Refused) as backwards:
            chain.cross(note(size, "abcde"), ROOT, OLD)
        assert backwards.value.code is Code.BAD_TRANSITION
    assert chain.policy == NEW


@pytest.mark.parametrize("path", ["transition/0", "transition/01", "transition/", "transition/1/", "transition/+1"])
def test_a_transition_has_one_path(path: str) -> None:
    """SPEC transition-4."""
    with pytest.raises(Refused) as refused:
        parse_transition_path(path)
    assert refused.value.code is Code.MALFORMED
    with pytest.raises(Refused):
        parse_transition_path(transition_path(limits.MAX_TRANSITIONS + 1))
    assert parse_transition_path(transition_path(limits.MAX_TRANSITIONS)) == limits.MAX_TRANSITIONS


@dataclass(frozen=True)
class Step:
    """A published checkpoint of a random log: who signed it, and the policy in force in its tree."""

    signers: str
    parties: str
    quorum: int

    @property
    def own(self) -> CosignaturePolicy:
        return policy(self.parties, self.quorum)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    parties = "".join(sorted(draw(st.sets(st.sampled_from(PARTIES), min_size=2, max_size=5))))
    signers = "".join(sorted(draw(st.sets(st.sampled_from(PARTIES), min_size=1))))
    return Step(signers, parties, draw(st.integers(1, len(parties))))


@settings(max_examples=150, deadline=None)
@given(founding=steps(), chain=st.lists(steps(), max_size=4))
def test_a_chain_is_accepted_exactly_if_every_link_has_both_quorums(founding: Step, chain: list[Step]) -> None:
    """SPEC transition-1, SPEC transition-2: over random sequences of verifiers, quorums and cosigners."""

    def has_quorum(step: Step, of: Step) -> bool:
        return len(set(step.signers) & set(of.parties)) >= of.quorum

    expected = all(
        has_quorum(step, before) and has_quorum(step, step) for before, step in itertools.pairwise([founding, *chain])
    )
    followed = PolicyChain(founding.own)
    try:
        for size, step in enumerate(chain, start=1):
            followed.settle(followed.check(note(size, step.signers)), step.own)
        accepted = True
    except Refused:
        accepted = False
    assert accepted is expected
    if accepted:
        assert followed.policy == (chain[-1] if chain else founding).own


def _sets(parties: tuple[str, ...]) -> list[frozenset[str]]:
    return [frozenset(some) for count in range(len(parties) + 1) for some in itertools.combinations(parties, count)]


def test_no_two_conflicting_chains_with_at_most_f_liars_in_each_set() -> None:
    """Exhaustive over a small model: two sets of verifiers, every set of liars, every pair of forked checkpoints.

    An honest verifier cosigns one of two trees of a size. So two transitions that fork need, in each set that both ask,
    more liars than the agreement assumes: 2q - n > f. That holds for whichever set either side of the fork ends in.
    """
    old = (frozenset("abcd"), 3, 1)
    checked = 0
    for new in (
        (frozenset("abcd"), 4, 0),
        (frozenset("bcde"), 3, 1),
        (frozenset("abcde"), 4, 1),
        (frozenset("abc"), 2, 0),
    ):
        for liars in _sets(PARTIES):
            if any(len(liars & members) > assumed for members, _, assumed in (old, new)):
                continue
            honest = frozenset(PARTIES) - liars
            for left in _sets(tuple(sorted(honest))):
                # The honest ones that are not on the left side may all be on the right; liars sign both.
                sides = (left | liars, (honest - left) | liars)
                assert not all(_is_transition(side, old, new) for side in sides), (new, liars, left)
                # Nor does one side pass for a change that the other one denies: both need the old quorum.
                assert not (_is_transition(sides[0], old, new) and _meets(sides[1], old)), (new, liars, left)
                checked += 1
    assert checked > 300


def test_the_model_notices_more_liars_than_the_agreement_assumes() -> None:
    """The same search with one liar more finds two chains: the bound is what keeps them apart."""
    old = (frozenset("abcd"), 3, 1)
    liars = frozenset("bc")
    forks = [
        left
        for left in _sets(("a", "d", "e"))
        if _meets(left | liars, old) and _meets((frozenset("ade") - left) | liars, old)
    ]
    assert forks


Terms = tuple[frozenset[str], int, int]


def _meets(signers: frozenset[str], terms: Terms) -> bool:
    """Decided by the production code, on real signatures."""
    members, quorum, _ = terms
    key = (frozenset(signers), members, quorum)
    if key not in _known:
        chain = PolicyChain(policy("".join(sorted(members)), quorum))
        try:
            chain.check(note(5, "".join(sorted(signers))))
            _known[key] = True
        except Refused:
            _known[key] = False
    return _known[key]


def _is_transition(signers: frozenset[str], old: Terms, new: Terms) -> bool:
    return _meets(signers, old) and _meets(signers, new)


_known: dict[tuple[frozenset[str], frozenset[str], int], bool] = {}


def test_a_long_random_chain_is_followed_to_its_end() -> None:
    dice = random.Random(7)
    chain, members = PolicyChain(OLD), set("abcd")
    for size in range(1, 40):
        before = set(members)
        members = set(dice.sample(PARTIES, dice.randint(2, 5)))
        own = policy("".join(sorted(members)), len(members) // 2 + 1)
        chain.settle(chain.check(note(size, "".join(sorted(before | members)))), own)
        assert chain.policy_at(size) == own == chain.policy
