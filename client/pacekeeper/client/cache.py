"""A local copy of a log as it was fetched and verified, so that the next start fetches and verifies only what is new.

    cache = open_cache(directory, agreement.fingerprint, tell)
    for batch in cache.batches():                 # what is there; then log.follow(frontier.size, frontier=frontier)
        for entry in batch.entries:
            cache.apply(state, entry)             # its signatures are verified unless they were before
    cache.keep(batch)                             # of what came from the log, once it was applied
    cache.save()

The copy is never trusted further than its checkpoint. At each start that one's quorum is verified again under the
agreement in entry 0, and every entry is hashed against its root before it is used. What is trusted is this machine's
own disk for one thing: that the entries which the copy does not call doubtful had their signatures verified when they
were first replayed. An entry that had no effect then, or a signature that did not hold, is doubtful, and verified again
each time.

A directory holds `head` (cache_head.py) and full bundles under their static paths, `tile/entries/000` and so on.
Bundles never change and the head is replaced by a rename, so that processes can share a directory without a lock:
whoever writes last is right, if perhaps shorter. Nothing is synced. What is lost or damaged is said once and fetched
again. It is as large as the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from pacekeeper.client.cache_folder import HEAD, CopyFolder
from pacekeeper.client.cache_head import MAX_HEAD_BYTES, CopyHead, bundle_root, format_head, parse_head
from pacekeeper.client.fetch_path import max_bytes
from pacekeeper.client.follow import VerifiedBatch
from pacekeeper.protocol import keys
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.envelope import Signed
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import Applied, State, Void, apply, apply_read, genesis
from pacekeeper.protocol.tlog.merkle import Frontier, hash_leaves
from pacekeeper.protocol.tlog.note import format_note
from pacekeeper.protocol.tlog.policy import CheckedCheckpoint, CosignaturePolicy, check_checkpoint
from pacekeeper.protocol.tlog.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, encode_bundle, parse_bundle, tile_path

Tell = Callable[[str], None]

_SAVE_EVERY: Final = 65_536  # entries that a process killed in the midst has to fetch again, at most


class LogStream(Protocol):
    """What following takes of a LogClient."""

    def follow(
        self,
        from_index: int = 0,
        *,
        frontier: Frontier | None = None,
        policy: Callable[[], CosignaturePolicy | None] | None = None,
    ) -> AsyncIterator[VerifiedBatch]: ...


class EntryCache:
    """The copy in a directory, and what is added to it. For one thread; other processes may use the directory.

    size: entries in it. verified: those at the front that need no signature verified unless they are doubtful.
    """

    def __init__(self, directory: Path, fingerprint: bytes, tell: Tell) -> None:
        self.directory = directory
        self.verified = 0
        self._folder = CopyFolder(directory)
        self._fingerprint = fingerprint
        self._tell = tell
        self._roots: list[bytes] = []
        self._tail: list[bytes] = []
        self._doubtful: set[int] = set()
        self._checkpoint: CheckedCheckpoint | None = None
        self._unsaved = 0
        self._writable = True
        self._held = True
        self._agreements: list[Agreement] = []  # that were in force so far, and copies of them
        self._founding: CosignaturePolicy | None = None
        self._ended = False

    @property
    def size(self) -> int:
        return len(self._roots) * TILE_WIDTH + len(self._tail)

    @property
    def bundles(self) -> int:
        """Full bundles in it."""
        return len(self._roots)

    # --- what is there

    def load(self) -> None:
        """Take over what the directory holds, if all that vouches for it holds. Anything else is thrown away."""
        try:
            if not self._folder.open():
                self._give_up("is open to others or another user's")
                return
            self._adopt(parse_head(self._folder.read(HEAD, MAX_HEAD_BYTES)))
        except FileNotFoundError:
            return
        except OSError as error:
            self._give_up(f"cannot be read: {error.strerror}")
        except Refused as refusal:
            self._lose(0, refusal.message)

    def _adopt(self, head: CopyHead) -> None:
        """SPEC copy-1: the quorum of the copy's checkpoint MUST be verified again at each start, and no entry of
        it be used before it was hashed against that checkpoint's root.
        """
        if head.fingerprint != self._fingerprint:
            raise Refused(Code.WRONG_AGREEMENT, "it is of another agreement")
        self._roots = list(head.roots)
        first = self.bundle(0) if head.roots else None
        entry0 = head.tail[0] if not head.roots else parse_bundle(first, TILE_WIDTH)[0] if first else b""
        if not entry0:
            return  # said and thrown away by bundle()
        agreement = genesis(entry0).agreement
        if agreement.fingerprint != self._fingerprint:
            raise Refused(Code.WRONG_AGREEMENT, "it is of another agreement")
        checked = check_checkpoint(head.note, agreement.policy())
        if (checked.checkpoint.size, checked.checkpoint.root) != (head.size, head.frontier().root()):
            raise Refused(Code.BAD_PROOF, "its entries are not those of its checkpoint")
        self._tail = list(head.tail)
        self._doubtful = set(head.doubtful)
        self._checkpoint, self.verified = checked, head.size

    def batches(self) -> Iterator[VerifiedBatch]:
        """Yield the entries in order, bundle by bundle, each once it was hashed; less than all if one is damaged."""
        frontier = Frontier()
        for index in range(self.bundles):
            checked, bundle = self._checkpoint, self.bundle(index)
            if bundle is None or checked is None:
                return
            frontier.extend([self._roots[index]], TILE_HEIGHT)
            entries = tuple(parse_bundle(bundle, TILE_WIDTH))
            yield VerifiedBatch(index * TILE_WIDTH, entries, checked, frontier.copy())
        if self._tail and self._checkpoint is not None and self.size == self.verified:
            start = self.bundles * TILE_WIDTH
            frontier.extend(hash_leaves(self._tail))
            yield VerifiedBatch(start, tuple(self._tail), self._checkpoint, frontier)

    def bundle(self, index: int) -> bytes | None:
        """Return a full bundle's bytes if it hashes to what the checkpoint covers; None, and less of a copy, if not."""
        path = tile_path(ENTRIES, index)
        try:
            data = self._folder.read(path, max_bytes(path))
            if bundle_root(data) == self._roots[index]:
                return data
            problem = "is not what was written"
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        except Refused as refusal:
            problem = f"is damaged: {refusal.message}"
        self._lose(index, f"{path} {problem}")
        return None

    def trust_until(self, size: int) -> None:
        """Verify the signatures of all entries from an index on, since they do not come from this copy."""
        self.verified = min(self.verified, size)

    # --- replay

    def vouches(self, index: int) -> bool:
        """Whether an entry's signatures were verified when it was replayed before."""
        return index < self.verified and index not in self._doubtful

    def apply(self, state: State, entry: bytes) -> Applied | Void:
        """Apply the next entry, without verifying its signatures again if they were."""
        self._watch(state)
        if self.vouches(state.size):
            outcome = apply(state, entry, verify=_verified_before)
        else:
            self._held = True
            outcome = self._judge(apply(state, entry, verify=self._verify))
        self._watch(state)
        return outcome

    def apply_read(self, state: State, time_ms: int, signed: Signed, *, vouched: bool = False) -> Applied | Void:
        """As apply, of an entry that was read. vouched: its signatures have just been verified elsewhere."""
        self._watch(state)
        if vouched or self.vouches(state.size):
            outcome = apply_read(state, time_ms, signed, verify=_verified_before)
            outcome = self._judge(outcome) if vouched else outcome
        else:
            self._held = True
            outcome = self._judge(apply_read(state, time_ms, signed, verify=self._verify))
        self._watch(state)
        return outcome

    def _verify(self, key: bytes, message: bytes, signature: bytes) -> bool:
        holds = keys.verify(key, message, signature)
        self._held = self._held and holds
        return holds

    def _judge(self, outcome: Applied | Void) -> Applied | Void:
        """Note an entry as doubtful unless it had an effect and every signature that it was asked for held.

        SPEC copy-2: an entry MUST be replayed with its signatures verified, unless they were when it was replayed
        before and it then had its effect.
        """
        if isinstance(outcome, Void) or not self._held:
            self._doubtful.add(outcome.index)
        else:
            self._doubtful.discard(outcome.index)
        self._held = True
        return outcome

    def _watch(self, state: State) -> None:
        """Keep nothing more once the verifiers are others than at the founding.

        SPEC copy-4: a copy MUST NOT reach past a change of the verifiers: by whom its checkpoint has to be signed is
        known before anything of it is replayed only as long as they are those of entry 0.
        """
        if not any(state.agreement is seen for seen in self._agreements):
            self._agreements.append(state.agreement)
            policy = state.agreement.policy()
            self._founding = self._founding or policy
            self._ended = self._ended or policy != self._founding

    # --- what comes from the log

    def keep(self, batch: VerifiedBatch) -> None:
        """Add a batch that has been applied; without effect on what is there already, and after a write has failed."""
        skipped = self.size - batch.first_index
        if self._ended or not self._writable or not 0 <= skipped < len(batch.entries):
            return
        pending = [*self._tail, *batch.entries[skipped:]]
        while len(pending) >= TILE_WIDTH and self._writable:
            self.add_bundle(self.bundles, encode_bundle(pending[:TILE_WIDTH]))
            pending = pending[TILE_WIDTH:]
        self._tail, self._checkpoint = pending, batch.checkpoint
        self._unsaved += len(batch.entries) - skipped
        if self._unsaved >= _SAVE_EVERY:
            self.save()

    def add_bundle(self, index: int, data: bytes) -> None:
        """Write a full bundle, verified or about to be: it counts for nothing until a head is saved over it."""
        if index == self.bundles and self._write(tile_path(ENTRIES, index), data):
            self._tail = []
            self._roots.append(bundle_root(data))

    def finish(self, note: bytes, tail: bytes, width: int) -> None:
        """Save the head of a tree whose bundles were all added: its checkpoint, and the partial bundle at its end.

        Without effect unless the checkpoint is one over exactly these entries.
        """
        entries = parse_bundle(tail, width) if width else []
        checkpoint = self._genesis_check(note, entries)
        if checkpoint is not None and not self._ended:
            self._tail, self._checkpoint, self._unsaved = entries, checkpoint, 1
            self.save()

    def _genesis_check(self, note: bytes, tail: list[bytes]) -> CheckedCheckpoint | None:
        try:
            entry0 = parse_bundle(self.bundle(0) or b"", TILE_WIDTH)[0] if self._roots else tail[0]
            checked = check_checkpoint(note, genesis(entry0).agreement.policy())
        except (Refused, IndexError):
            return None
        head = self._head(format_note(checked.note), tail)
        covered = (head.size, head.frontier().root()) == (checked.checkpoint.size, checked.checkpoint.root)
        return checked if covered else None

    def save(self) -> None:
        """Write the head over what was kept, so that a later start finds it."""
        checked = self._checkpoint
        if checked is None or not self._unsaved or checked.checkpoint.size != self.size:
            return
        if self._write(HEAD, format_head(self._head(format_note(checked.note), self._tail))):
            self._unsaved = 0

    def _head(self, note: bytes, tail: list[bytes]) -> CopyHead:
        size = len(self._roots) * TILE_WIDTH + len(tail)
        doubtful = frozenset(index for index in self._doubtful if index < size)
        return CopyHead(self._fingerprint, note, tuple(self._roots), tuple(tail), doubtful)

    # --- the directory

    def _write(self, name: str, data: bytes) -> bool:
        """Replace a file whole; say once that it cannot be done, and keep nothing more."""
        if not self._writable:
            return False
        try:
            self._folder.write(name, data)
        except OSError as error:
            self._give_up(f"cannot be written: {error.strerror}")
            return False
        return True

    def _lose(self, bundle: int, problem: str) -> None:
        """Throw away what comes from a bundle on, and say so.

        SPEC copy-3: a damaged copy MUST change nothing but what has to be fetched.
        """
        self._tell(f"the local copy of the log in {self.directory} is damaged ({problem}): it is fetched again")
        del self._roots[bundle:]
        self._tail, self._checkpoint = [], None
        self.verified = min(self.verified, bundle * TILE_WIDTH)
        self._folder.remove(HEAD, tile_path(ENTRIES, bundle))

    def _give_up(self, problem: str) -> None:
        self._writable = False
        self._tell(f"the local copy of the log in {self.directory} {problem}; it is not used")


def open_cache(directory: Path, fingerprint: bytes, tell: Tell) -> EntryCache:
    """Open the copy of an agreement's log in a directory. tell is given each thing that is wrong with it, once."""
    cache = EntryCache(directory, fingerprint, tell)
    cache.load()
    return cache


async def follow_on(
    log: LogStream, cache: EntryCache | None, policy: Callable[[], CosignaturePolicy | None] | None = None
) -> AsyncIterator[VerifiedBatch]:
    """Yield what the copy holds and then what the log has after it, for ever, as LogClient.follow does."""
    frontier = Frontier()
    for batch in cache.batches() if cache is not None else ():
        frontier = batch.frontier
        yield batch
    if cache is not None:
        cache.trust_until(frontier.size)
    async for batch in log.follow(frontier.size, frontier=frontier, policy=policy):
        yield batch


def _verified_before(_key: bytes, _message: bytes, _signature: bytes) -> bool:
    return True
