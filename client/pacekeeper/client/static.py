"""Following a static log: verified entries from its files, past every change of the verifiers.

    follower = StaticFollower(source, agreement.policy(), policy_now)
    for batch in follower.poll():          # what is new; one request when nothing is
        replay(batch)                      # before the next batch is asked for

A checkpoint that the quorum known so far has cosigned is read up to. One that it has not is beyond a change of the
verifiers: then the next transition checkpoint is read first, which has both quorums, and so on until the newest one is
reached. Nothing is asked for in vain while the verifiers stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pacekeeper.client.fetch import CHECKPOINT, Source
from pacekeeper.client.follow import MAX_HELD_BYTES, VerifiedBatch
from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.follow import TreeReader
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, hash_leaves
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import CheckedCheckpoint, CosignaturePolicy
from pacekeeper.protocol.tlog.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, TilePath, encode_bundle, parse_bundle
from pacekeeper.protocol.tlog.transitions import PolicyChain, transition_path


class StaticFollower:
    """Reads a log from entry 0. founding: its founding policy; own: that of the agreement in force after the replay.

    After a refusal it says the same for ever: whoever wants to try again begins anew, at entry 0.
    """

    def __init__(
        self, source: Source, founding: CosignaturePolicy, own: Callable[[], CosignaturePolicy | None]
    ) -> None:
        self.chain = PolicyChain(founding)
        self._source = source
        self._own = own
        self._newest = 0  # what the newest checkpoint claims
        self._next = 1  # the number of the next transition checkpoint
        self._reader = TreeReader(Checkpoint(founding.origin, 0, EMPTY_ROOT))
        self._frontier = Frontier()
        self._target: tuple[CheckedCheckpoint, str] | None = None  # read up to at present, and its path as a transition
        self._todo: list[TilePath] = []  # what is left to read up to there, last first
        self._read: list[bytes] = []  # entries read, and not handed on before the root is known to be theirs
        self._held = 0  # bytes of these
        self._failed: Refused | None = None

    @property
    def size(self) -> int:
        """Entries verified and handed on."""
        return self._frontier.size

    def poll(self) -> Iterator[VerifiedBatch]:
        """Yield what was published since, each batch to be replayed before the next is asked for.

        Raises Refused where the log does not verify: bad-transition if the verifiers changed and no transition
        checkpoint shows it. TemporaryFailure when the source does not answer: the next poll goes on from there.
        """
        if self._failed is not None:
            raise self._failed
        try:
            note = self._source.read(CHECKPOINT)
            if note is None:
                return
            self._newest = parse_checkpoint(parse_note(note).text).size
            while self._target is not None or self._newest > self.size:
                yield from self._step(note)
        except Refused as refused:
            self._failed = refused
            raise

    def _step(self, note: bytes) -> Iterator[VerifiedBatch]:
        """Read up to the next checkpoint that the quorum known so far vouches for, and pass to its own verifiers."""
        if self._target is None:
            self._target = self._reachable(note)
            self._reader.continue_to(self._target[0].checkpoint)
            self._todo = [*self._reader.wanted()][::-1]
        checked, transition = self._target
        self._read_on()
        first, entries = self.size, tuple(self._read)
        self._frontier.extend(hash_leaves(self._read))
        self._target, self._read, self._held = None, [], 0
        yield VerifiedBatch(first, entries, checked, self._frontier.copy())
        own = self._own() or self.chain.policy
        if transition and own == self.chain.policy:
            raise Refused(Code.BAD_TRANSITION, f"{transition}: the verifiers are the same before it and in it")
        # SPEC transition-11: who follows MUST NOT go on past a change of the verifiers that no transition shows.
        self.chain.settle(checked, own)

    def _reachable(self, note: bytes) -> tuple[CheckedCheckpoint, str]:
        """Return the newest checkpoint if the known quorum vouches for it, else the next transition and its path."""
        try:
            return self.chain.check(note), ""
        except Refused as refused:
            if refused.code is not Code.NO_QUORUM:
                raise
            lacking = refused
        while self._next <= limits.MAX_TRANSITIONS:
            path = transition_path(self._next)
            kept = self._source.read(path)
            if kept is None:
                raise lacking
            self._next += 1
            # One that was passed by a checkpoint with its quorums is behind.
            if parse_checkpoint(parse_note(kept).text).size > self.size:
                return self._open(path, kept), path
        raise lacking

    def _open(self, path: str, kept: bytes) -> CheckedCheckpoint:
        try:
            return self.chain.check(kept)
        except Refused as refused:
            raise Refused(refused.code, f"{path}: {refused.message}") from None

    def _read_on(self) -> None:
        """Read what is left up to the target, and compare the root."""
        reader = self._reader
        while self._todo:
            path = self._todo[-1]
            if path.level == ENTRIES:
                bundle, tile = self._fetch(path), self._fetch(TilePath(0, path.index, path.width))
                self._read += reader.consume_bundle(path.index, path.width, bundle, tile)
                self._held += len(bundle)
                if self._held > MAX_HELD_BYTES:
                    raise Refused(Code.TOO_LARGE, f"more than {MAX_HELD_BYTES} bytes of entries before a checkpoint")
            elif path.level != 0:
                reader.consume_tile(path.level, path.index, path.width, self._fetch(path))
            self._todo.pop()
        reader.finish()

    def _fetch(self, path: TilePath) -> bytes:
        """Return a tile or bundle. Where the tree once ended, a copy of the files has only what it has grown to."""
        data = self._source.read(str(path))
        if data is not None:
            return data
        level = 0 if isinstance(path.level, str) else path.level
        width = min(TILE_WIDTH, (self._newest >> TILE_HEIGHT * level) - path.index * TILE_WIDTH)
        data = self._source.read(str(TilePath(path.level, path.index, width))) if width > path.width else None
        if data is None:
            raise Refused(Code.NOT_FOUND, f"{path} is missing")
        if path.level == ENTRIES:
            return encode_bundle(parse_bundle(data, width)[: path.width])
        return data[: path.width * HASH_BYTES]
