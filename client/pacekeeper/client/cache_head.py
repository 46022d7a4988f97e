"""The head of a local copy of a log: which checkpoint it reaches, what its bundles hash to, and the entries after them.

One file, replaced whole. After its first line come five fields, each a length (4 bytes, big-endian) and so many bytes,
and then the SHA-256 of all before:

    fingerprint   of the agreement
    note          the checkpoint, as it was served
    roots         32 bytes for each full bundle: the root of its 256 entries
    tail          the entries after the last full bundle, as a bundle; nothing if there are none
    doubtful      8 bytes, big-endian, for each entry whose signatures have to be verified again, ascending
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.merkle import HASH_BYTES, Frontier, hash_leaves
from pacekeeper.protocol.tlog.tiles import TILE_HEIGHT, TILE_WIDTH, encode_bundle, parse_bundle

MAX_HEAD_BYTES: Final = 134_217_728  # some 3.6 million bundles, 900 million entries
_MAGIC: Final = b"pacekeeper-log-copy-1\n"
_LENGTH: Final = 4
_INDEX: Final = 8


@dataclass(frozen=True)
class CopyHead:
    """What a head file says. tail has at most 255 entries; doubtful are indices of entries."""

    fingerprint: bytes
    note: bytes
    roots: tuple[bytes, ...]
    tail: tuple[bytes, ...]
    doubtful: frozenset[int]

    @property
    def size(self) -> int:
        """Entries up to the end of the tail."""
        return len(self.roots) * TILE_WIDTH + len(self.tail)

    def frontier(self) -> Frontier:
        """Return the edge of the tree that roots and tail make."""
        frontier = Frontier()
        frontier.extend(self.roots, TILE_HEIGHT)
        frontier.extend(hash_leaves(self.tail))
        return frontier


def format_head(head: CopyHead) -> bytes:
    """Write a head file."""
    fields = (
        head.fingerprint,
        head.note,
        b"".join(head.roots),
        encode_bundle(head.tail) if head.tail else b"",
        b"".join(index.to_bytes(_INDEX, "big") for index in sorted(head.doubtful)),
    )
    body = _MAGIC + b"".join(len(field).to_bytes(_LENGTH, "big") + field for field in fields)
    return body + hashlib.sha256(body).digest()


def parse_head(data: bytes) -> CopyHead:
    """Read a head file that format_head wrote; Refused(malformed) for any other. Nothing in it is verified by that."""
    body, digest = data[:-HASH_BYTES], data[-HASH_BYTES:]
    if not body.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        raise Refused(Code.MALFORMED, "its head is not what was written")
    fields = _fields(body[len(_MAGIC) :])
    if len(fields) != 5 or len(fields[2]) % HASH_BYTES or len(fields[4]) % _INDEX:
        raise Refused(Code.MALFORMED, "its head is of another form")
    fingerprint, note, roots, tail, doubtful = fields
    head = CopyHead(
        fingerprint=fingerprint,
        note=note,
        roots=tuple(roots[at : at + HASH_BYTES] for at in range(0, len(roots), HASH_BYTES)),
        tail=tuple(_parse_tail(tail)),
        doubtful=frozenset(int.from_bytes(doubtful[at : at + _INDEX], "big") for at in range(0, len(doubtful), _INDEX)),
    )
    if not 0 < head.size <= limits.MAX_TREE_SIZE:
        raise Refused(Code.MALFORMED, "its head is of no tree")
    return head


def bundle_root(bundle: bytes) -> bytes:
    """Return the root of a full bundle's entries. Refused(bad-tile) if it is none."""
    frontier = Frontier()
    frontier.extend(hash_leaves(parse_bundle(bundle, TILE_WIDTH)))
    return frontier.root()


def _fields(data: bytes) -> list[bytes]:
    fields, at = [], 0
    while at < len(data):
        end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "big")
        if end > len(data):
            raise Refused(Code.MALFORMED, "its head ends inside a field")
        fields.append(data[at + _LENGTH : end])
        at = end
    return fields


def _parse_tail(data: bytes) -> list[bytes]:
    """The entries of the tail, as many as there are."""
    count, at = 0, 0
    while at < len(data):
        at += 2 + int.from_bytes(data[at : at + 2], "big")
        count += 1
    if count >= TILE_WIDTH:
        raise Refused(Code.MALFORMED, "its head has a whole bundle as its tail")
    return parse_bundle(data, count) if count else []
