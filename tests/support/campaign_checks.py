"""The four invariants, judged from snapshots of what the processes have on disk and from what an observer saw.

1. Every acknowledged entry is in the tree at its index, byte for byte, and its receipt verifies.
2. All checkpoints ever published, cosigned or shown are of one tree: each one's root is that of the entries it covers.
3. fsck finds nothing.
4. No key has signed two different things for one slot: a lab's sequence number, a tick's index, a size of the tree.

Everything accumulates: an entry, a statement or a signature once seen counts against all that is seen later.
"""

from __future__ import annotations

import functools
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from campaign_load import Acknowledged
from processes import Processes
from site_on_disk import Site

from pacekeeper.audit.reading import read_resource
from pacekeeper.client.fetch import open_source
from pacekeeper.log.fsck import fsck
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.node.journal import Journal
from pacekeeper.node.ledger import Ledger
from pacekeeper.node.records import CHAINED, Signed, decode_record
from pacekeeper.protocol.envelope import frame_entry, identity, pae, parse_entry, parse_envelope
from pacekeeper.protocol.statements import parse_statement
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT, Frontier, check_inclusion, leaf_hash, prove_inclusion
from pacekeeper.protocol.tlog.note import parse_note, verify_signatures
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.protocol.tlog.receipt import check_receipt, parse_receipt
from pacekeeper.protocol.tlog.tiles import subtree_reader
from pacekeeper.protocol.units import flop_to_unit
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

_CHAIN = (pb.ComputeAttestation, pb.Gap, pb.Correction)


class Snapshots:
    """Copies of state directories as a power failure at this moment would leave them to a process."""

    def __init__(self, running: Processes, directory: Path) -> None:
        self._running = running
        self._site = running.site
        self.directory = directory

    def take(self, names: Iterable[str]) -> dict[str, Path]:
        """Copy the state of processes, dead or held still meanwhile. Each call replaces the copies of the last."""
        shutil.rmtree(self.directory, ignore_errors=True)
        taken = {}
        for name in names:
            target = self.directory / name
            with self._running.frozen(name):
                # SQLite makes its shared memory anew; the lock and the socket are of the living.
                ignored = shutil.ignore_patterns("*-shm", "lock", "*.sock", "spool")
                shutil.copytree(self._site.state(name), target, ignore=ignored)
            taken[name] = target
        return taken


class Invariants:
    """Judges snapshots. Every check raises AssertionError that says which promise was broken, and where."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._policy = site.agreement.policy()
        self._signers = {self._policy.log_key: "log"} | {key: party for party, key in self._policy.witnesses}
        self.entries: list[bytes] = []
        self._tree = Frontier()
        self._roots = [EMPTY_ROOT]
        self._index_of: dict[bytes, int] = {}
        self._acknowledged = 0
        self._signed_roots: dict[tuple[str, int], bytes] = {}
        self._slots: dict[tuple[str, int], bytes] = {}
        self._notes: set[bytes] = set()
        self.receipts = 0

    @property
    def checkpoints(self) -> int:
        """How many different signatures over a checkpoint were compared."""
        return len(self._signed_roots)

    @property
    def slots(self) -> int:
        """How many slots of labs and of the log's ticks were seen signed."""
        return len(self._slots)

    def check(self, snapshots: dict[str, Path], acknowledged: list[Acknowledged], notes: Iterable[bytes]) -> None:
        """Check everything; acknowledged and notes were known before the snapshots were taken."""
        problems = fsck(snapshots["log"])
        assert not problems, f"invariant 3: fsck of the log: {problems}"
        self._grow(_stored_entries(snapshots["log"]))
        self._check_acknowledged(acknowledged)
        published = (snapshots["log"] / "public/checkpoint").read_bytes()
        self._check_notes([*notes, published])
        for name, directory in snapshots.items():
            if name.startswith("verifier-"):
                self._check_notes(_cosigned_notes(directory, name))
            elif name.startswith("lab-"):
                self._check_journal(name, directory)

    def check_published(self, acknowledged: Iterable[Acknowledged]) -> None:
        """Prove acknowledged entries anew in the tree that is published now, as an outsider would, from the tiles."""
        source = open_source(self._site.url)
        try:
            note = source.read("checkpoint")
            assert note is not None, "nothing is published"
            head = check_checkpoint(note, self._policy).checkpoint
            read_tile = functools.cache(functools.partial(read_resource, source))
            read_subtree = functools.cache(subtree_reader(head.size, read_tile))
            for item in acknowledged:
                leaf = leaf_hash(frame_entry(item.sequenced_at_ms, item.envelope))
                assert item.index < head.size, (
                    f"invariant 1: entry {item.index} was witnessed, {head.size} are published"
                )
                proof = prove_inclusion(item.index, head.size, read_subtree)
                check_inclusion(leaf, item.index, head.size, proof, head.root)
        finally:
            source.close()

    def _grow(self, entries: list[bytes]) -> None:
        """Invariant 2: a tree only ever grows; what was stored once stays as it was."""
        known = len(self.entries)
        # What a killed log had stored and never acknowledged, signed or showed is in the snapshot, so it counts too.
        assert entries[:known] == self.entries, "invariant 2: stored entries have changed or are gone"
        for index, entry in enumerate(entries[known:], known):
            self._tree.append(leaf_hash(entry))
            self._roots.append(self._tree.root())
            envelope = parse_entry(entry).envelope
            other = self._index_of.setdefault(_identity(envelope), index)
            assert other == index, f"one statement is on the log twice, at {other} and {index}"
            self._note_statement(envelope, f"entry {index}")
        self.entries = entries

    def _check_acknowledged(self, acknowledged: list[Acknowledged]) -> None:
        """Invariant 1. Entries never change (see _grow), so each acknowledgement is looked at once."""
        for item in acknowledged[self._acknowledged :]:
            assert item.index < len(self.entries), f"invariant 1: acknowledged entry {item.index} is lost"
            entry = frame_entry(item.sequenced_at_ms, item.envelope)
            assert self.entries[item.index] == entry, f"invariant 1: entry {item.index} is not what was acknowledged"
            if item.proof:
                receipt = parse_receipt(item.proof)
                assert receipt.index == item.index
                check_receipt(receipt, entry, self._policy)
                self._check_notes([receipt.checkpoint_note])
                self.receipts += 1
        self._acknowledged = len(acknowledged)

    def _check_notes(self, notes: Iterable[bytes]) -> None:
        """Invariants 2 and 4, of every signature on a checkpoint, by whomever."""
        for note_bytes in notes:
            if note_bytes in self._notes:
                continue
            self._notes.add(note_bytes)
            note = parse_note(note_bytes)
            checkpoint = parse_checkpoint(note.text)
            size, root = checkpoint.size, checkpoint.root
            for key, _ in verify_signatures(note, self._signers):
                other = self._signed_roots.setdefault((self._signers[key], size), root)
                assert other == root, f"invariant 4: {self._signers[key]} signed two trees of {size} entries"
            assert size < len(self._roots), (
                f"invariant 2: a checkpoint covers {size} entries, {len(self.entries)} exist"
            )
            assert root == self._roots[size], f"invariant 2: a checkpoint of {size} entries is of another tree"

    def _check_journal(self, name: str, directory: Path) -> None:
        """Invariant 4, of everything that a lab has ever signed, sent or not."""
        journal = Journal(directory / "journal")
        try:
            for _, payload in journal.recover():
                record = decode_record(payload)
                if isinstance(record, Signed) and record.kind in CHAINED:
                    self._note_statement(parse_envelope(record.envelope), f"the journal of {name}")
        finally:
            journal.close()

    def _note_statement(self, envelope: envelope_pb2.Envelope, where: str) -> None:
        statement = parse_statement(envelope)
        if isinstance(statement, _CHAIN):
            slot = (statement.lab, statement.link.sequence)
        elif isinstance(statement, pb.Tick):
            slot = ("log", statement.index)
        else:
            return
        first = self._slots.setdefault(slot, _identity(envelope))
        assert first == _identity(envelope), f"invariant 4: {slot} was signed twice, the second is in {where}"


def _identity(envelope: envelope_pb2.Envelope) -> bytes:
    return identity(pae(envelope.payload_type, envelope.payload))


def _stored_entries(state: Path) -> list[bytes]:
    store = SqliteStore(state / "log.sqlite", read_only=True)
    try:
        return [entry for batch in store.batches() for entry in batch.entries]
    finally:
        store.close()


def _cosigned_notes(state: Path, name: str) -> list[bytes]:
    """The checkpoints that a verifier has decided to cosign, each persisted before the signature was made."""
    if not (state / "verifier.db").exists():
        return []
    database = sqlite3.connect(state / "verifier.db")
    try:
        [found] = database.execute("PRAGMA integrity_check").fetchone()
        assert found == "ok", f"invariant 3: the store of {name}: {found}"
        return [note for (note,) in database.execute("SELECT note FROM heads UNION SELECT note FROM witness")]
    finally:
        database.close()


Used = tuple[int, int]  # operations or gigaFLOP, and steps


def attested_usage(entries: Iterable[bytes]) -> dict[tuple[str, str, int], Used]:
    """What the log says: (lab, run, period) -> gigaFLOP by framework count, and steps; corrections replace."""
    accounts: dict[tuple[str, int], pb.PeriodAccount] = {}
    for entry in entries:
        statement = parse_statement(parse_entry(entry).envelope)
        if isinstance(statement, (pb.ComputeAttestation, pb.Correction)):
            accounts[statement.lab, statement.account.period] = statement.account
    return {
        (lab, figure.run, period): (
            sum(one.amount for one in figure.estimates if one.method == pb.METHOD_FRAMEWORK_COUNT),
            figure.steps,
        )
        for (lab, period), account in accounts.items()
        for figure in account.figures
    }


def journalled_usage(state: Path) -> dict[tuple[str, int], Used]:
    """What a lab's journal says: (run, period) -> FLOP and steps."""
    ledger = Ledger()
    journal = Journal(state / "journal")
    try:
        for _, payload in journal.recover():
            ledger.apply(decode_record(payload))
    finally:
        journal.close()
    return {
        (run.name, period): (sum(job.flop for job in jobs.values()), sum(job.steps for job in jobs.values()))
        for run in ledger.runs.values()
        for period, jobs in run.usage.items()
    }


def check_metered(
    lab: str, counted: dict[str, Used], journalled: dict[tuple[str, int], Used], attested: dict[tuple[str, int], Used]
) -> None:
    """Nothing metered is lost, and nothing counted twice: the jobs' own count is the journal's, to the operation, and
    the log's figures are the journal's, rounded up to gigaFLOP period by period.
    """
    totals: dict[str, Used] = {}
    for (run, _), (flop, steps) in journalled.items():
        before = totals.get(run, (0, 0))
        totals[run] = (before[0] + flop, before[1] + steps)
    wrong = {run: (counted.get(run), totals.get(run)) for run in counted.keys() | totals.keys()}
    wrong = {run: pair for run, pair in wrong.items() if pair[0] != pair[1]}
    assert not wrong, f"{lab}: run -> what its jobs counted, what the journal has: {wrong}"
    rounded = {key: (flop_to_unit(flop), steps) for key, (flop, steps) in journalled.items() if flop or steps}
    told = {key: used for key, used in attested.items() if used != (0, 0)}
    assert rounded == told, f"{lab}: what is attested is not what is in the journal: {rounded.items() ^ told.items()}"
