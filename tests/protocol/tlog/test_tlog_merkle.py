"""The tree against RFC 6962 read aloud: a slow recursive model, other people's known answers, and damage."""

from __future__ import annotations

import hashlib
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.merkle import (
    EMPTY_ROOT,
    Frontier,
    HashTree,
    check_consistency,
    check_inclusion,
    hash_leaves,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    subtree_root,
)

SIZES = 130

# The eight leaves and roots that Certificate Transparency's first implementation tested itself with.
CT_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def entry(index: int) -> bytes:
    return b"entry %d" % index


def k_of(n: int) -> int:
    """RFC 6962: the largest power of two smaller than n."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


@cache
def mth(start: int, end: int) -> bytes:
    """MTH(D[start:end]) of RFC 6962, 2.1, for the entries above."""
    n = end - start
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + entry(start)).digest()
    k = k_of(n)
    return hashlib.sha256(b"\x01" + mth(start, start + k) + mth(start + k, end)).digest()


def path(m: int, start: int, end: int) -> list[bytes]:
    """PATH(m, D[start:end]) of RFC 6962, 2.1.1."""
    n = end - start
    if n == 1:
        return []
    k = k_of(n)
    if m < k:
        return [*path(m, start, start + k), mth(start + k, end)]
    return [*path(m - k, start + k, end), mth(start, start + k)]


def subproof(m: int, start: int, end: int, whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[start:end], b) of RFC 6962, 2.1.2."""
    n = end - start
    if m == n:
        return [] if whole else [mth(start, end)]
    k = k_of(n)
    if m <= k:
        return [*subproof(m, start, start + k, whole), mth(start + k, end)]
    return [*subproof(m - k, start + k, end, False), mth(start, start + k)]


def whole_tree(size: int = SIZES) -> HashTree:
    return HashTree(hash_leaves([entry(i) for i in range(size)]))


def refused(*arguments: object) -> bool:
    """Whether the check (first argument) refuses the rest with bad-proof."""
    check, *rest = arguments
    assert callable(check)
    try:
        check(*rest)
    except Refused as refusal:
        return refusal.code is Code.BAD_PROOF
    return False


def test_hashes_are_those_of_the_rfc() -> None:
    """SPEC tree-1, SPEC tree-2, SPEC tree-3: prefixes 0x00 and 0x01, and the root of the empty tree."""
    assert leaf_hash(b"x") == hashlib.sha256(b"\x00x").digest()
    assert node_hash(b"l" * 32, b"r" * 32) == hashlib.sha256(b"\x01" + b"l" * 32 + b"r" * 32).digest()
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Frontier().root() == HashTree().root() == EMPTY_ROOT


def test_roots_known_from_certificate_transparency() -> None:
    """SPEC tree-2: known answers of another implementation."""
    frontier = Frontier()
    for data, root in zip(CT_LEAVES, CT_ROOTS, strict=True):
        frontier.append(leaf_hash(bytes.fromhex(data)))
        assert frontier.root().hex() == root


def test_frontier_and_tree_have_the_models_root_at_every_size() -> None:
    frontier, tree = Frontier(), whole_tree()
    for size in range(SIZES + 1):
        assert frontier.size == size
        assert frontier.root() == tree.root(size) == mth(0, size)
        frontier.append(leaf_hash(entry(size)))


@given(st.lists(st.integers(0, 40), max_size=12))
def test_extending_in_any_pieces_is_appending_one_by_one(pieces: list[int]) -> None:
    one_by_one, in_pieces = Frontier(), Frontier()
    for piece in pieces:
        leaves = hash_leaves([entry(one_by_one.size + i) for i in range(piece)])
        in_pieces.extend(leaves)
        for leaf in leaves:
            one_by_one.append(leaf)
        assert in_pieces.hashes() == one_by_one.hashes()
        rebuilt = Frontier.from_hashes(in_pieces.size, in_pieces.hashes())
        assert (rebuilt.size, rebuilt.root()) == (one_by_one.size, mth(0, one_by_one.size))


def test_a_rebuilt_frontier_grows_like_the_first() -> None:
    for size in range(70):
        first = Frontier()
        first.extend(hash_leaves([entry(i) for i in range(size)]))
        rebuilt, copied = Frontier.from_hashes(size, first.hashes()), first.copy()
        for frontier in (first, rebuilt):
            frontier.extend(hash_leaves([entry(i) for i in range(size, SIZES)]))
            assert frontier.root() == mth(0, SIZES)
        assert (copied.size, copied.root()) == (size, mth(0, size))


def test_frontier_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="does not have"):
        Frontier.from_hashes(3, [bytes(32)])
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier.from_hashes(1, [bytes(31)])
    with pytest.raises(ValueError, match="cannot start"):
        Frontier.from_hashes(3, [bytes(32)] * 2).extend([bytes(32)], height=2)
    with pytest.raises(ValueError, match="largest size"):
        Frontier.from_hashes(limits.MAX_TREE_SIZE, [bytes(32)] * 63).extend([bytes(32)])


def test_every_inclusion_proof_is_the_models_and_checks() -> None:
    """SPEC tree-4: for every index of every size up to 130."""
    tree = whole_tree()
    for size in range(1, SIZES + 1):
        root = mth(0, size)
        for index in range(size):
            proof = tree.prove_inclusion(index, size)
            assert proof == path(index, 0, size)
            check_inclusion(leaf_hash(entry(index)), index, size, proof, root)


def test_every_consistency_proof_is_the_models_and_checks() -> None:
    """SPEC tree-5: for every pair of sizes up to 130."""
    tree = whole_tree()
    for new in range(SIZES + 1):
        for old in range(new + 1):
            proof = tree.prove_consistency(old, new)
            assert proof == (subproof(old, 0, new, True) if old else [])
            check_consistency(old, mth(0, old), new, mth(0, new), proof)


@settings(max_examples=60)
@given(st.data())
def test_larger_trees_prove_and_check(data: st.DataObject) -> None:
    size = data.draw(st.integers(131, 3000))
    index = data.draw(st.integers(0, size - 1))
    tree = whole_tree(size)
    assert tree.root() == mth(0, size)
    assert tree.prove_inclusion(index) == path(index, 0, size)
    check_inclusion(leaf_hash(entry(index)), index, size, tree.prove_inclusion(index), tree.root())
    assert tree.prove_consistency(index + 1) == subproof(index + 1, 0, size, True)
    check_consistency(index + 1, tree.root(index + 1), size, tree.root(), tree.prove_consistency(index + 1))


def test_an_inclusion_proof_is_good_for_one_index_only() -> None:
    tree = whole_tree(20)
    for size in range(1, 21):
        for index in range(size):
            proof, leaf = tree.prove_inclusion(index, size), leaf_hash(entry(index))
            for other in range(-1, size + 2):
                assert refused(check_inclusion, leaf, other, size, proof, mth(0, size)) == (other != index)


def test_any_changed_bit_of_an_inclusion_proof_is_refused() -> None:
    """SPEC tree-4: a flipped bit, a hash too many, too few, or in another order."""
    tree, size, index = whole_tree(21), 21, 13
    proof, leaf, root = tree.prove_inclusion(index), leaf_hash(entry(index)), mth(0, 21)
    for at in range(len(proof)):
        for bit in range(256):
            damaged = proof.copy()
            damaged[at] = flip(proof[at], bit)
            assert refused(check_inclusion, leaf, index, size, damaged, root)
        assert refused(check_inclusion, leaf, index, size, proof[:at] + proof[at + 1 :], root)
        assert refused(check_inclusion, leaf, index, size, [*proof[:at], bytes(32), *proof[at:]], root)
    assert refused(check_inclusion, leaf, index, size, proof[::-1], root)
    assert refused(check_inclusion, leaf, index, size, [*proof, root], root)
    assert refused(check_inclusion, flip(leaf, 0), index, size, proof, root)
    assert refused(check_inclusion, leaf, index, size, proof, flip(root, 255))


@pytest.mark.parametrize(("old", "new"), [(1, 2), (4, 7), (5, 8), (6, 21), (8, 21), (20, 21), (16, 64)])
def test_any_changed_bit_of_a_consistency_proof_is_refused(old: int, new: int) -> None:
    """SPEC tree-5: a flipped bit, a hash too many or too few, other sizes, other roots."""
    proof = prove_consistency(old, new, whole_tree(new).read_subtree)
    roots = mth(0, old), mth(0, new)
    check_consistency(old, roots[0], new, roots[1], proof)
    for at in range(len(proof)):
        for bit in range(256):
            damaged = proof.copy()
            damaged[at] = flip(proof[at], bit)
            assert refused(check_consistency, old, roots[0], new, roots[1], damaged)
        assert refused(check_consistency, old, roots[0], new, roots[1], proof[:at] + proof[at + 1 :])
        assert refused(check_consistency, old, roots[0], new, roots[1], [*proof[:at], bytes(32), *proof[at:]])
    assert refused(check_consistency, old, roots[0], new, roots[1], [*proof, bytes(32)])
    assert refused(check_consistency, old, flip(roots[0], 7), new, roots[1], proof)
    assert refused(check_consistency, old, roots[0], new, flip(roots[1], 7), proof)
    assert refused(check_consistency, new, roots[1], old, roots[0], proof)
    assert refused(check_consistency, old, roots[0], new, roots[1], [])


def test_trivial_consistency_needs_no_proof_and_takes_none() -> None:
    """SPEC tree-6: size 0, and equal sizes."""
    root = mth(0, 5)
    check_consistency(0, EMPTY_ROOT, 5, root, [])
    check_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    check_consistency(5, root, 5, root, [])
    assert refused(check_consistency, 0, EMPTY_ROOT, 5, root, [root])
    assert refused(check_consistency, 0, root, 5, root, [])
    assert refused(check_consistency, 0, root, 0, root, [])
    assert refused(check_consistency, 5, root, 5, root, [root])
    assert refused(check_consistency, 5, root, 5, mth(0, 6), [])


def test_shapes_out_of_range_are_refused() -> None:
    """SPEC tree-7: sizes, numbers of hashes, and lengths of hashes."""
    root = mth(0, 2)
    assert refused(check_inclusion, mth(0, 1), -1, 2, [mth(1, 2)], root)
    assert refused(check_inclusion, mth(0, 1), 0, -1, [], root)
    assert refused(check_inclusion, mth(0, 1), 0, 2**63, [mth(1, 2)] * 63, root)
    assert refused(check_inclusion, mth(0, 1), 0, 2**63 - 1, [mth(1, 2)] * 64, root)
    assert refused(check_inclusion, mth(0, 1), 0, 2, [mth(1, 2) + b"\0"], root)
    assert refused(check_consistency, -1, root, 2, root, [])
    assert refused(check_consistency, 1, root, 2**63, root, [bytes(32)] * 63)
    assert refused(check_consistency, 3, root, 2**62 + 1, root, [bytes(32)] * 64)
    assert refused(check_consistency, 1, mth(0, 1), 2, root, [b""])


def test_refusals_say_what_is_wrong() -> None:
    """SPEC tree-4, SPEC tree-5, SPEC tree-7: the wrong number or length of hashes is told from a wrong hash."""
    tree, leaf = whole_tree(7), leaf_hash(entry(3))
    inclusion, consistency, root = tree.prove_inclusion(3), tree.prove_consistency(5), tree.root()
    for proof, sentence in (([*inclusion, root], "too long"), (inclusion[:-1], "too short"), ([b""], "32 bytes")):
        with pytest.raises(Refused, match=sentence):
            check_inclusion(leaf, 3, 7, proof, root)
    for proof, sentence in (([*consistency, root], "too long"), (consistency[:-1], "too short"), ([b""], "32 bytes")):
        with pytest.raises(Refused, match=sentence):
            check_consistency(5, tree.root(5), 7, root, proof)


def test_provers_tell_a_caller_who_asks_for_what_is_not_there() -> None:
    read = whole_tree(4).read_subtree
    for index, size in ((4, 4), (-1, 4), (0, 0)):
        with pytest.raises(ValueError, match="no leaf"):
            prove_inclusion(index, size, read)
    for old, new in ((5, 4), (-1, 4)):
        with pytest.raises(ValueError, match="no prefix"):
            prove_consistency(old, new, read)


def test_the_largest_trees_have_proofs_of_63_hashes() -> None:
    """SPEC tree-7: in a tree of 2^63 - 1 equal leaves, whose subtrees need no storage."""
    level_hashes = [leaf_hash(b"same")]
    for _ in range(63):
        level_hashes.append(node_hash(level_hashes[-1], level_hashes[-1]))

    def read(level: int, _index: int) -> bytes:
        return level_hashes[level]

    size = limits.MAX_TREE_SIZE
    frontier = Frontier()
    for height in reversed(range(63)):
        frontier.extend([level_hashes[height]], height)
    assert frontier.size == size
    root = frontier.root()
    assert root == subtree_root(0, size, read)
    for index in (0, 1, 2**62 - 1, 2**62, size - 2, size - 1):
        proof = prove_inclusion(index, size, read)
        assert len(proof) <= limits.MAX_PROOF_HASHES
        check_inclusion(level_hashes[0], index, size, proof, root)
    assert len(prove_inclusion(0, size, read)) == limits.MAX_PROOF_HASHES
    longest = prove_consistency(3, size, read)
    assert len(longest) == limits.MAX_PROOF_HASHES + 1
    assert refused(check_consistency, 3, subtree_root(0, 3, read), size, root, longest)
    for old in (1, 2**40, 2**62, size - 1):
        check_consistency(old, subtree_root(0, old, read), size, root, prove_consistency(old, size, read))


def flip(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)
