"""The audit itself: read, verify, replay, compare. It trusts the fingerprint and nothing else.

1. Entry 0 is the agreement with the fingerprint asked for, signed by all its parties.
2. The checkpoint is the log's, cosigned by the quorum of the agreement in force in it, which is reached from entry 0
   by transition checkpoints, each cosigned by the quorum before a change and by that after it.
3. Every entry, tile and the root agree.
4. Every entry is replayed, with every signature verified.
5. Every published finding is checked again from its evidence.

With a copy (client/cache.py) entries that this machine verified before are read from there instead of step 3's source,
hashed into the same root, and their signatures of step 4 taken as verified. `pacekeeper audit` never does so.

Left to the caller: how fresh this is, and whether others have seen the same head (live.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial

from pacekeeper.audit.head import CHECKPOINT, fault_of, judge_head, read_checkpoint
from pacekeeper.audit.reading import TreeWalk, read_resource
from pacekeeper.audit.result import AuditResult, CheckedFinding, Fault
from pacekeeper.audit.signatures import Read, checked
from pacekeeper.audit.steady import SteadySource
from pacekeeper.audit.transitions import Transitions
from pacekeeper.client.cache import EntryCache
from pacekeeper.client.fetch import Source
from pacekeeper.client.fetch_cached import CachedSource
from pacekeeper.protocol import keys
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.evidence import recheck
from pacekeeper.protocol.replay import State, apply, apply_read, genesis
from pacekeeper.protocol.tlog.checkpoint import Checkpoint
from pacekeeper.protocol.tlog.merkle import check_inclusion, leaf_hash, prove_inclusion
from pacekeeper.protocol.tlog.tiles import ENTRIES, TILE_WIDTH, TilePath, parse_bundle, subtree_reader
from pacekeeper.protocol.tlog.transitions import FIRST_RULES

Progress = Callable[[int, int], None]

_CHUNK_BUNDLES = 4  # bundles that go to a worker at once: about a fifth of a second of its time


def audit(
    source: Source,
    fingerprint: bytes,
    *,
    at: int | None = None,
    at_ms: int | None = None,
    jobs: int = 2,
    progress: Progress | None = None,
    copy: EntryCache | None = None,
) -> AuditResult:
    """Audit a log against a fingerprint (32 bytes); `at` replays an earlier size of the same tree, `at_ms` the entries
    up to a log time.

    copy: what was verified before; it is brought up to the head if there is no fault.

    Never raises on hostile bytes and lists every fault. Raises TemporaryFailure when the source does not answer, and
    ValueError when `at` is not within the log.
    SPEC audit-1: an audit MUST fail when there is nothing: no checkpoint, no entry, another fingerprint.
    """
    result = AuditResult(fingerprint)
    copied = None if copy is None else CachedSource(source, copy)
    source = SteadySource(copied or source)
    try:
        note = source.read(CHECKPOINT)
        if note is None:
            raise Refused(Code.NOT_FOUND, "there is no checkpoint")
        claimed = read_checkpoint(note)
        size = claimed.size
        if size == 0:
            raise Refused(Code.BAD_CHECKPOINT, "the log is empty")
    except Refused as refusal:
        result.faults.append(fault_of(CHECKPOINT, refusal))
        return result
    state = _found(source, size, fingerprint, result)
    if state is None:
        _list_rest(source, claimed, result)
        return result
    if at is not None and not 1 <= at <= size:
        raise ValueError(f"the log has {size} entries")
    transitions = Transitions(source, state.agreement, note)
    walk = TreeWalk(source, claimed, vouched=transitions.vouched)
    whole = state
    cut = (at is not None and at < size) or at_ms is not None
    if cut and state.agreement.rules_version >= FIRST_RULES:
        # Who has to sign the head is known only when everything up to it is replayed, and the state asked for is kept.
        whole = deepcopy(state)
    replay = _Replay(state, whole, size if at is None else at, at_ms, copy)
    replay.run(walk, transitions, jobs, progress)
    result.next_ms = replay.next_ms
    result.state = state
    result.audited = state.size
    result.agreement, result.changes, result.transitions = whole.agreement, transitions.changes, transitions.count
    result.head, faults = judge_head(note, whole.agreement)
    if whole.size < size and whole.agreement.rules_version >= FIRST_RULES:
        # Whose quorum the head needs is not known: entries between here and there may have changed it.
        faults = [fault for fault in faults if fault.code != Code.NO_QUORUM]
    result.faults.extend(faults)
    result.faults.extend(walk.faults)
    if not walk.faults:
        transitions.finish()
        transitions.check_roots()
    result.faults.extend(transitions.faults)
    if not result.faults:
        _check_findings(source, claimed, state, result)
        if copied is not None and state.size == size:
            copied.finish(note)
    return result


def _found(source: Source, size: int, fingerprint: bytes, result: AuditResult) -> State | None:
    """Read entry 0 from the first bundle and compare its fingerprint."""
    path = TilePath(ENTRIES, 0, min(size, TILE_WIDTH))
    try:
        first = parse_bundle(read_resource(source, path), path.width)[0]
    except Refused as refusal:
        result.faults.append(fault_of(str(path), refusal))
        return None
    try:
        state = genesis(first)
    except Refused as refusal:
        result.faults.append(fault_of("entry 0", refusal))
        return None
    if state.agreement.fingerprint != fingerprint:
        sentence = f"the agreement's fingerprint is {state.agreement.fingerprint.hex()}, not the one asked for"
        result.faults.append(Fault("entry 0", Code.WRONG_AGREEMENT, sentence))
        return None
    return state


def _list_rest(source: Source, checkpoint: Checkpoint, result: AuditResult) -> None:
    """Without an agreement nothing can be replayed, but files that do not agree with each other are named all the same.

    Another agreement than the one asked for is another log, about which nothing more is said.
    """
    if any(fault.code == Code.WRONG_AGREEMENT for fault in result.faults):
        return
    walk = TreeWalk(source, checkpoint, vouched=0)
    for _ in walk.entries():
        pass
    named = {fault.resource for fault in walk.faults}
    # An altered size calls for files that were never there, and looks like their loss.
    sentence = "its signatures cannot be verified without entry 0; if it was altered, what it calls for is not there"
    unverified = Fault(CHECKPOINT, Code.BAD_CHECKPOINT, sentence)
    result.faults = [*(fault for fault in result.faults if fault.resource not in named), *walk.faults, unverified]


class _Replay:
    """Applies all entries but the first: up to a size or a log time to one state, all to the other; they may be one.


    next_ms: the log time of the entry at which it stopped for the time's sake.
    SPEC audit-13: every entry MUST be replayed with its signatures verified, and one that is refused shown as void.
    SPEC audit-15: memory MUST NOT depend on the number of entries, the replayed state aside.
    """

    def __init__(self, state: State, whole: State, until: int, until_ms: int | None, copy: EntryCache | None) -> None:
        self.next_ms: int | None = None
        self._state, self._whole = state, whole
        self._until = until
        self._until_ms = until_ms
        self._copy = copy

    def run(self, walk: TreeWalk, transitions: Transitions, jobs: int, progress: Progress | None) -> None:
        """Read and replay."""
        state, whole, copy = self._state, self._whole, self._copy
        keyring = {key_id: authority.public_key for key_id, authority in whole.keyring.items()}
        total = walk.size
        seen = 0
        known = None if copy is None else copy.vouches
        unknown = total - (0 if copy is None else copy.verified)
        for chunk, verdicts in checked(_chunks(walk), keyring, total=unknown, jobs=jobs, known=known):
            for entry, vouched in zip(chunk, verdicts, strict=True):
                wanted = 0 < seen < self._until and not self._is_past(entry)
                if wanted:
                    self._step(state, entry, bool(vouched))
                if seen and whole is not state:
                    self._step(whole, entry, bool(vouched))
                if not seen or wanted or whole is not state:
                    transitions.applied(whole)
                seen += 1
            walk.vouched = max(walk.vouched, transitions.vouched)
            # Keys come into being on the log; a key id is the hash of its key, so that no verdict can be about another.
            keyring.update((key_id, who.public_key) for key_id, who in whole.keyring.items() if key_id not in keyring)
            if progress is not None:
                progress(seen, total)

    def _is_past(self, entry: Read) -> bool:
        """Whether an entry comes after the time that is asked for, and with it all that follow."""
        if self.next_ms is None and self._until_ms is not None and not isinstance(entry, bytes):
            self.next_ms = entry[0] if entry[0] > self._until_ms else None
        return self.next_ms is not None

    def _step(self, state: State, entry: Read, vouched: bool) -> None:
        """Apply one entry; what a copy knows of its signatures is taken over, and what is found is noted in it."""
        copy = self._copy
        if isinstance(entry, bytes):
            (apply if copy is None else copy.apply)(state, entry)
            return
        time_ms, signed = entry
        if copy is not None:
            copy.apply_read(state, time_ms, signed, vouched=vouched)
        else:
            apply_read(state, time_ms, signed, verify=_vouched if vouched else keys.verify)


def _vouched(_key: bytes, _message: bytes, _signature: bytes) -> bool:
    """A worker verified this entry's signatures under the keys of the same agreement."""
    return True


def _chunks(walk: TreeWalk) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    for entries in walk.entries():
        chunk.extend(entries)
        if len(chunk) >= _CHUNK_BUNDLES * TILE_WIDTH:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _check_findings(source: Source, checkpoint: Checkpoint, state: State, result: AuditResult) -> None:
    """SPEC audit-6: every published finding MUST be checked again from its evidence, and the outcome stated."""
    entry_at = partial(read_entry, source, checkpoint)
    for entry in state.findings:
        finding = entry.statement
        try:
            verdict = recheck(finding.evidence, state, entry_at=entry_at, verify=keys.verify, found_at=entry.index)
        except ChangedSource as changed:
            result.faults.append(Fault(str(changed), Code.BAD_TILE, "it is not what it was when it was verified"))
            return
        agrees = (
            verdict.holds
            and verdict.rule == finding.rule
            and verdict.subject == finding.subject
            and verdict.severity == finding.severity
        )
        result.findings.append(CheckedFinding(entry, verdict, agrees))


class ChangedSource(Exception):
    """A source now serves, at the path that is the message, other bytes than those that were verified."""


def read_entry(source: Source, checkpoint: Checkpoint, index: int) -> bytes:
    """Return one entry's bytes from a tree that was verified. Raises ChangedSource if they are not that any more.

    SPEC audit-14: what is read again after verification MUST be verified again.
    """
    size = checkpoint.size
    bundle_index = index // TILE_WIDTH
    path = TilePath(ENTRIES, bundle_index, min(TILE_WIDTH, size - bundle_index * TILE_WIDTH))
    try:
        entry = parse_bundle(read_resource(source, path), path.width)[index % TILE_WIDTH]
        proof = prove_inclusion(index, size, subtree_reader(size, partial(read_resource, source)))
        check_inclusion(leaf_hash(entry), index, size, proof, checkpoint.root)
    except Refused:
        raise ChangedSource(str(path)) from None
    return entry
