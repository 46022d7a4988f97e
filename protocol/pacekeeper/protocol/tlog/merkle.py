"""The append-only tree: RFC 6962 Merkle hashes over SHA-256, its growth, and the proofs that it grew honestly.

A leaf's hash is SHA-256(0x00 || entry), a node's SHA-256(0x01 || left || right); a tree of n leaves splits at the
largest power of two below n. Provers read hashes of complete subtrees through a ReadSubtree; checkers need nothing but
the proof, and follow RFC 9162, sections 2.1.3.2 and 2.1.4.2, which accept exactly one proof for each question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

# (level, index) -> hash of the complete subtree over the leaves [index * 2**level, (index + 1) * 2**level)
ReadSubtree = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf. SPEC tree-1: it MUST be SHA-256 of 0x00 and the entry's bytes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node. SPEC tree-2: it MUST be SHA-256 of 0x01, the left and the right hash."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def hash_leaves(entries: Iterable[bytes]) -> list[bytes]:
    """Return the leaf hashes of many entries; the same as leaf_hash of each, in one tight loop."""
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + entry).digest() for entry in entries]


class Frontier:
    """A growing tree of which only the right edge is kept: one hash for each one-bit of its size.

    Example: a tree of 6 leaves is kept as the hashes of its subtrees [0, 4) and [4, 6).
    """

    __slots__ = ("_levels", "size")

    def __init__(self) -> None:
        self.size = 0
        # Level h holds the hash of the complete subtree of height h on the edge, or b"" where the size has a zero bit.
        self._levels: list[bytes] = []

    @classmethod
    def from_hashes(cls, size: int, hashes: Sequence[bytes]) -> Frontier:
        """Rebuild a frontier from its size and hashes(); ValueError if they cannot belong together."""
        if not 0 <= size <= limits.MAX_TREE_SIZE or len(hashes) != size.bit_count():
            raise ValueError(f"a frontier of size {size} does not have {len(hashes)} hashes")
        if any(len(value) != HASH_BYTES for value in hashes):
            raise ValueError("a frontier's hashes have 32 bytes each")
        frontier = cls()
        frontier.size = size
        smallest_first = iter(reversed(hashes))
        frontier._levels = [next(smallest_first) if size >> h & 1 else b"" for h in range(size.bit_length())]
        return frontier

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        levels, height, carry = self._levels, 0, leaf
        while height < len(levels) and levels[height]:
            carry = node_hash(levels[height], carry)
            levels[height] = b""
            height += 1
        if height == len(levels):
            levels.append(carry)
        else:
            levels[height] = carry
        self.size += 1

    def extend(self, hashes: Sequence[bytes], height: int = 0) -> None:
        """Add many leaf hashes, or hashes of complete subtrees of 2**height leaves, left to right.

        The size must be a multiple of 2**height, else ValueError: complete subtrees start at multiples of their size.
        """
        if self.size & ((1 << height) - 1):
            raise ValueError(f"a subtree of height {height} cannot start at {self.size}")
        size = self.size + (len(hashes) << height)
        if size > limits.MAX_TREE_SIZE:
            raise ValueError("tree over its largest size")
        levels = self._levels
        levels.extend([b""] * (size.bit_length() - len(levels)))
        carry = list(hashes)
        while carry:
            if levels[height]:
                carry.insert(0, levels[height])
            levels[height] = carry.pop() if len(carry) & 1 else b""
            carry = _parents(carry)
            height += 1
        self.size = size

    def hashes(self) -> list[bytes]:
        """Return the hashes of the complete subtrees on the edge, largest (leftmost) first."""
        return [value for value in reversed(self._levels) if value]

    def root(self) -> bytes:
        """Return the root hash. SPEC tree-3: that of the empty tree MUST be SHA-256 of nothing."""
        return _join(self.hashes()) if self.size else EMPTY_ROOT

    def copy(self) -> Frontier:
        """Return an independent copy."""
        other = Frontier()
        other.size = self.size
        other._levels = self._levels.copy()
        return other


class HashTree:
    """A whole tree in memory, about 64 bytes a leaf: for tests, tools and small proofs."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        self.extend(leaves)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes, left to right."""
        self._levels[0].extend(leaves)
        level = 0
        while len(self._levels[level]) > 1:
            if level + 1 == len(self._levels):
                self._levels.append([])
            below, here = self._levels[level], self._levels[level + 1]
            here.extend(_parents(below[2 * len(here) : len(below) & ~1]))
            level += 1

    def read_subtree(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree: the ReadSubtree of this tree."""
        return self._levels[level][index]

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first size leaves (of all of them by default)."""
        return subtree_root(0, self.size if size is None else size, self.read_subtree)

    def prove_inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Prove leaf index in the tree of the first size leaves (of all of them by default)."""
        return prove_inclusion(index, self.size if size is None else size, self.read_subtree)

    def prove_consistency(self, old_size: int, new_size: int | None = None) -> list[bytes]:
        """Prove that the first old_size leaves are a prefix of the first new_size (of all of them by default)."""
        return prove_consistency(old_size, self.size if new_size is None else new_size, self.read_subtree)


def subtree_root(start: int, end: int, read_subtree: ReadSubtree) -> bytes:
    """Return the root over the leaves [start, end), where start is a multiple of a power of two >= end - start."""
    parts = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(read_subtree(level, start >> level))
        start += 1 << level
    return _join(parts) if parts else EMPTY_ROOT


def prove_inclusion(index: int, size: int, read_subtree: ReadSubtree) -> list[bytes]:
    """Return the proof that leaf index is in the tree of size leaves, the leaf's sibling first (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of size {size}")
    proof = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(subtree_root(middle, end, read_subtree))
            end = middle
        else:
            proof.append(subtree_root(start, middle, read_subtree))
            start = middle
    return proof[::-1]


def prove_consistency(old_size: int, new_size: int, read_subtree: ReadSubtree) -> list[bytes]:
    """Return the proof that the tree of old_size is a prefix of that of new_size (RFC 6962, 2.1.2)."""
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of size {old_size} is no prefix of one of size {new_size}")
    if old_size in {0, new_size}:
        return []
    proof = []
    start, end = 0, new_size
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            proof.append(subtree_root(middle, end, read_subtree))
            end = middle
        else:
            proof.append(subtree_root(start, middle, read_subtree))
            start = middle
    if start:  # where the old tree is itself a node of the new one, the checker knows that node already
        proof.append(subtree_root(start, end, read_subtree))
    return proof[::-1]


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise Refused(bad-proof) unless proof shows leaf hash `leaf` at index in the tree of that size and root.

    SPEC tree-4: an inclusion proof MUST lead to the root and have exactly the hashes that index and size call for.
    """
    _check_shape(index, size, proof)
    if not 0 <= index < size:
        raise Refused(Code.BAD_PROOF, f"no leaf {index} in a tree of size {size}")
    node, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise Refused(Code.BAD_PROOF, "inclusion proof is too long")
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise Refused(Code.BAD_PROOF, "inclusion proof is too short")
    if result != root:
        raise Refused(Code.BAD_PROOF, f"inclusion proof of leaf {index} does not lead to the root of size {size}")


def check_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raise Refused(bad-proof) unless proof shows the old tree to be a prefix of the new one.

    SPEC tree-5: a consistency proof MUST lead to both roots and have exactly the hashes that the sizes call for.
    SPEC tree-6: between equal sizes, and from size 0, the proof MUST be empty and the known root MUST be the right one.
    """
    _check_shape(old_size, new_size, proof)
    if old_size > new_size:
        raise Refused(Code.BAD_PROOF, f"a tree of size {old_size} is no prefix of one of size {new_size}")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise Refused(Code.BAD_PROOF, "root of the empty tree is not the one it has")
    if old_size in {0, new_size}:
        if proof:
            raise Refused(Code.BAD_PROOF, "consistency proof where none is needed")
        if old_size == new_size and old_root != new_root:
            raise Refused(Code.BAD_PROOF, f"two roots for one tree of size {new_size}")
        return
    # An old size that is a power of two is a node of the new tree: the proof starts from the old root itself.
    hashes = iter([old_root, *proof] if old_size & (old_size - 1) == 0 else proof)
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_result = new_result = next(hashes, b"")
    for sibling in hashes:
        if last == 0:
            raise Refused(Code.BAD_PROOF, "consistency proof is too long")
        if node & 1 or node == last:
            old_result, new_result = node_hash(sibling, old_result), node_hash(sibling, new_result)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new_result = node_hash(new_result, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise Refused(Code.BAD_PROOF, "consistency proof is too short")
    if old_result != old_root:
        raise Refused(Code.BAD_PROOF, f"consistency proof does not lead to the root of size {old_size}")
    if new_result != new_root:
        raise Refused(Code.BAD_PROOF, f"consistency proof does not lead to the root of size {new_size}")


def _check_shape(first: int, size: int, proof: Sequence[bytes]) -> None:
    """SPEC tree-7: sizes MUST be at most 2^63 - 1, and a proof at most 63 hashes of 32 bytes."""
    if first < 0 or not 0 <= size <= limits.MAX_TREE_SIZE:
        raise Refused(Code.BAD_PROOF, "index or size out of range")
    if len(proof) > limits.MAX_PROOF_HASHES:
        raise Refused(Code.BAD_PROOF, f"proof of {len(proof)} hashes, at most {limits.MAX_PROOF_HASHES}")
    if any(len(value) != HASH_BYTES for value in proof):
        raise Refused(Code.BAD_PROOF, "a proof's hashes have 32 bytes each")


def _split(size: int) -> int:
    """Return the largest power of two below size."""
    return 1 << (size - 1).bit_length() - 1


def _parents(hashes: Sequence[bytes]) -> list[bytes]:
    sha256 = hashlib.sha256
    pairs = iter(hashes)
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]


def _join(parts: Sequence[bytes]) -> bytes:
    """Fold the subtrees of a ragged edge, smallest (rightmost) first, into its root."""
    result = parts[-1]
    for part in reversed(parts[:-1]):
        result = node_hash(part, result)
    return result
