"""No two views of one log get a quorum: every placement of liars, for 4 to 7 verifiers and every admissible quorum.

The log is the adversary: it knows who lies, shows each honest verifier the view it likes, in the order it likes, and
asks again. Honest verifiers decide with the production code (`witness.judge`) and sign with real keys; a view counts as
published if a reader's check (`check_checkpoint`) takes it. One liar more than the agreement allows is shown to break
it, so that the arithmetic is seen to be tight.

SPEC verifier-2, SPEC verifier-3, SPEC verifier-4, SPEC note-21, SPEC documents-17.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

import pytest

from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, format_checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.merkle import HashTree, hash_leaves
from pacekeeper.protocol.tlog.note import COSIGNATURE_V1, ED25519, NoteKey
from pacekeeper.protocol.tlog.policy import CosignaturePolicy, check_checkpoint
from pacekeeper.verifier.witness import FRESH, OwnTree, Terms, WitnessState, judge

ORIGIN = "example.org/log"
NOW_MS = 1_800_000_000_000
COMMON = [b"entry %d" % index for index in range(5)]


def key_of(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(name.encode()).digest())


PARTIES = tuple(f"party-{number}" for number in range(7))
KEYS = {party: key_of(party) for party in PARTIES}
NOTE_KEYS = {party: NoteKey(f"{party}.example/v", COSIGNATURE_V1, KEYS[party].public) for party in PARTIES}
LOG_KEY = NoteKey(ORIGIN, ED25519, key_of("log").public)


@dataclass(frozen=True)
class View:
    """A tree that the log shows: its leaves, and the checkpoint that it signs over them."""

    name: str
    leaves: HashTree
    tree: OwnTree
    note: bytes
    text: str


def view(name: str, entries: Iterable[bytes]) -> View:
    leaves = HashTree(hash_leaves(entries))
    checkpoint = Checkpoint(ORIGIN, leaves.size, leaves.root())
    note = sign_checkpoint(checkpoint, ORIGIN, key_of("log"))
    own = OwnTree(leaves.size, leaves.root(), NOW_MS, None)
    return View(name, leaves, own, note, format_checkpoint(checkpoint))


EARLIER = view("earlier", COMMON)
A = view("A", [*COMMON, b"a"])
B = view("B", [*COMMON, b"b"])
LONGER_B = view("longer B", [*COMMON, b"b", b"b too"])


@cache
def signature(party: str, text: str) -> bytes:
    return sign_cosignature(text, NOTE_KEYS[party].name, KEYS[party], NOW_MS // 1000).encode()


def policy(verifiers: int, quorum: int) -> CosignaturePolicy:
    return CosignaturePolicy(ORIGIN, LOG_KEY, tuple((party, NOTE_KEYS[party]) for party in PARTIES[:verifiers]), quorum)


def admissible() -> Iterator[tuple[int, int, int]]:
    """(n, q, f): 2q - n > f, so that two quorums share an honest one, and q <= n - f, so that liars cannot block."""
    for n in range(4, 8):
        for q in range(1, n + 1):
            for f in range(n):
                if 2 * q - n > f and q <= n - f:
                    yield n, q, f


@cache
def signed_by_honest(shown: tuple[View, ...]) -> frozenset[str]:
    """The names of the views that an honest verifier cosigns when it is shown these, one after the other.

    The log pushes the entries of whichever view it shows, but a verifier never drops what it has cosigned: it has them
    all only where the view continues that (verifier-4, tests/verifier/test_verifier_ledger.py).
    """
    terms = Terms(policy(4, 3), 2_000)
    state: WitnessState = FRESH
    own = EARLIER.tree
    signed = set()
    for each in (EARLIER, *shown, *shown):
        if state.size <= each.leaves.size and (not state.size or each.leaves.root(state.size) == state.root):
            own = each.tree
        try:
            decision = judge(state, own, each.note, NOW_MS, terms)
        except Refused:
            continue
        state = decision.witness
        signed.add(each.name)
    return frozenset(signed)


def published(each: View, signers: Iterable[str], rules: CosignaturePolicy) -> bool:
    note = each.note + b"".join(signature(party, each.text) for party in signers)
    try:
        check_checkpoint(note, rules)
    except Refused:
        return False
    return True


def test_an_honest_verifier_signs_one_of_two_views_in_whatever_order() -> None:
    """SPEC verifier-3: of one size; and of different sizes the ones after the first only if they have its entries."""
    assert signed_by_honest((A, B)) == {"earlier", "A"}
    assert signed_by_honest((B, A)) == {"earlier", "B"}
    assert signed_by_honest((B, LONGER_B)) == {"earlier", "B", "longer B"}
    assert signed_by_honest((LONGER_B, A)) == {"earlier", "longer B"}
    assert signed_by_honest((A, LONGER_B)) == {"earlier", "A"}


@pytest.mark.parametrize("other", [B, LONGER_B], ids=["of one size", "of two sizes"])
@pytest.mark.parametrize(("n", "q", "f"), list(admissible()))
def test_up_to_f_liars_publish_one_view_at_most(n: int, q: int, f: int, other: View) -> None:
    """Every set of at most f liars, and every way in which the log shows the others the two views first."""
    rules = policy(n, q)
    parties = PARTIES[:n]
    for count in range(f + 1):
        for liars in combinations(parties, count):
            honest = [party for party in parties if party not in liars]
            for order in product(((A, other), (other, A)), repeat=len(honest)):
                signed = dict(zip(honest, map(signed_by_honest, order), strict=True))
                both = [
                    published(each, [*liars, *(party for party in honest if each.name in signed[party])], rules)
                    for each in (A, other)
                ]
                assert both != [True, True], (liars, order)


@pytest.mark.parametrize(("n", "q", "f"), list(admissible()))
def test_f_absences_or_lies_do_not_block_what_is_true(n: int, q: int, f: int) -> None:
    """q <= n - f: with f verifiers silent, or signing something else, the honest ones publish."""
    rules = policy(n, q)
    for away in combinations(PARTIES[:n], f):
        signers = [party for party in PARTIES[:n] if party not in away]
        assert published(A, signers, rules)


@pytest.mark.parametrize("n", range(4, 8))
def test_one_lie_too_many_publishes_two_views(n: int) -> None:
    """The bound is tight: with 2q - n liars there is a placement in which both views get their quorum."""
    for q in range(n // 2 + 1, n + 1):
        rules = policy(n, q)
        liars, honest = PARTIES[: 2 * q - n], PARTIES[2 * q - n : n]
        half = len(honest) // 2
        for_a, for_b = honest[:half], honest[half:]
        assert published(A, (*liars, *for_a), rules)
        assert published(B, (*liars, *for_b), rules)
        # And with one liar less there is none, whatever is shown to whom.
        fewer = PARTIES[: 2 * q - n - 1]
        rest = PARTIES[2 * q - n - 1 : n]
        for shown in product("AB", repeat=len(rest)):
            signers = {name: [p for p, view_ in zip(rest, shown, strict=True) if view_ == name] for name in "AB"}
            both = [published(each, (*fewer, *signers[each.name]), rules) for each in (A, B)]
            assert both != [True, True]


def test_a_checkpoint_over_other_entries_than_were_pushed_is_not_signed() -> None:
    """SPEC verifier-4, SPEC verifier-5: the log pushes the entries of one tree and shows the checkpoint of another."""
    terms = Terms(policy(4, 3), 2_000)
    state = judge(FRESH, EARLIER.tree, EARLIER.note, NOW_MS, terms).witness
    for pushed, shown in ((A, B), (B, A), (A, LONGER_B), (LONGER_B, A), (EARLIER, A)):
        with pytest.raises(Refused):
            judge(state, pushed.tree, shown.note, NOW_MS, terms)
