"""Proving a fork: from two copies or views of one log, read where they are, to a proof that convicts it anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pacekeeper.client.errors import ConfigError
from pacekeeper.client.fetch import CHECKPOINT, Source, max_bytes, open_source
from pacekeeper.client.reading import read_bounded
from pacekeeper.protocol.documents.agreement import Agreement, compile_agreement
from pacekeeper.protocol.envelope import read_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.fork_proof import ForkProof, prove_fork
from pacekeeper.protocol.statements import parse_statement
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.merkle import ReadSubtree
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.tiles import ENTRIES, TILE_WIDTH, TilePath, parse_bundle, subtree_reader
from pacekeeper.v1 import statements_pb2 as pb


class View:
    """One view of a log: a checkpoint, and where its tree can be read, if anywhere."""

    def __init__(self, location: str) -> None:
        self.location = location
        path = Path(location)
        if "://" not in location and path.is_file():
            self._source: Source | None = None
            self.note = read_bounded(path, max_bytes(CHECKPOINT))
        else:
            self._source = open_source(location)
            note = self._source.read(CHECKPOINT)
            if note is None:
                raise Refused(Code.BAD_CHECKPOINT, f"{location} has no checkpoint")
            self.note = note
        self._tiles: dict[TilePath, bytes] = {}

    @property
    def has_tree(self) -> bool:
        return self._source is not None

    def agreement(self, fingerprint: bytes) -> Agreement:
        """Return the agreement that the log was founded on, if it is the one of this fingerprint."""
        size = self._size()
        bundle = self._read(TilePath(ENTRIES, 0, min(TILE_WIDTH, size)))
        statement = parse_statement(read_entry(parse_bundle(bundle, min(TILE_WIDTH, size))[0])[1])
        if not isinstance(statement, pb.Agreement):
            raise Refused(Code.NOT_FIRST, f"{self.location}: entry 0 is not an agreement")
        agreement = compile_agreement(statement.document)
        if agreement.fingerprint != fingerprint:
            raise Refused(Code.WRONG_AGREEMENT, f"{self.location} is the log of another agreement")
        return agreement

    def subtrees(self) -> ReadSubtree:
        """Return the tree's hashes, from its tiles. Not verified here: a proof made of them is."""
        return subtree_reader(self._size(), self._read)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()

    def _size(self) -> int:
        return parse_checkpoint(parse_note(self.note).text).size

    def _read(self, path: TilePath) -> bytes:
        if path not in self._tiles:
            data = self._source.read(str(path)) if self._source is not None else None
            if data is None:
                raise Refused(Code.BAD_TILE, f"{self.location} has no {path}")
            self._tiles[path] = data
        return self._tiles[path]


def prove(one: str, other: str, fingerprint: bytes) -> ForkProof | None:
    """Return the proof that two views of a log cannot both be true, None if they can.

    Each is a URL, a directory or a checkpoint's file. The agreement is read from the first that has entries.
    ConfigError if neither has, or the larger tree's cannot be read; Refused if a view is not what it should be.
    SPEC audit-20: a fork MUST be proved from any two views of which the larger tree, where sizes differ, can be read.
    """
    views: list[View] = []
    try:
        views.extend(View(location) for location in (one, other))
        founded = next((view for view in views if view.has_tree), None)
        if founded is None:
            raise ConfigError("two checkpoints alone do not say whose they are: name a directory or URL of the log")
        return prove_fork(founded.agreement(fingerprint), views[0].note, views[1].note, _tree_of(views))
    finally:
        for view in views:
            view.close()


def _tree_of(views: list[View]) -> Callable[[bytes], ReadSubtree]:
    def read_subtree(note: bytes) -> ReadSubtree:
        view = next(view for view in views if view.note == note)
        if not view.has_tree:
            raise ConfigError(f"{view.location} is the larger tree's checkpoint; name where that tree can be read")
        return view.subtrees()

    return read_subtree
