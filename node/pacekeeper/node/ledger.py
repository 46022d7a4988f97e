"""The ledger: what the journal's records add up to. A pure fold; the same records give the same ledger.

It holds what each job used in each period, which runs are declared, which statements are signed and which of them the
log has acknowledged. What to do next (agenda.py) and what a period's account says (accounts.py) are read from it.

Example: ledger = Ledger(); for each record of the journal: ledger.apply(record)
"""

from __future__ import annotations

from bisect import insort

from pacekeeper.node.adoption import adopt
from pacekeeper.node.ledger_parts import Figure, Job, Run, Statement
from pacekeeper.node.parts import KEPT_MS, MAX_MARKS, thin
from pacekeeper.node.records import (
    CHAINED,
    Adopted,
    AnyRecord,
    Beat,
    CheckpointTaken,
    Delivered,
    Inventory,
    JobClosed,
    JobOpened,
    LogSeen,
    Opened,
    Rekeyed,
    Signed,
    SignedAgain,
    Split,
    TurnedDown,
    Uncounted,
    Up,
    Usage,
)
from pacekeeper.protocol.envelope import identity, pae, parse_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.statements import parse_statement
from pacekeeper.v1 import statements_pb2 as pb

__all__ = ["Figure", "Job", "Ledger", "Run", "Statement"]


class Ledger:
    """The fold's result. Only apply changes it."""

    def __init__(self) -> None:
        self.opened: Opened | None = None
        self.key_id = b""  # of the key that the journal is kept with
        self.inventories: list[Inventory] = []
        self.up: list[tuple[int, int]] = []
        self.jobs: dict[str, Job] = {}
        self.runs: dict[str, Run] = {}
        self.runs_in: dict[int, set[str]] = {}
        self.digests: dict[bytes, list[CheckpointTaken]] = {}
        self.statements: dict[bytes, Statement] = {}
        self.unsent: dict[bytes, Statement] = {}
        self.refusals: list[TurnedDown] = []
        self.last_delivered: Delivered | None = None
        self.sequence = 0
        self.head = b""
        self.as_of = 0
        self.tree_size = 0
        self.seen: LogSeen | None = None
        self.next_period: int | None = None  # None until something of the chain is signed
        self.account_ids: dict[int, bytes] = {}
        self.owed: set[int] = set()  # gaps that promised an account
        self.touched: dict[int, int] = {}  # attested period -> when its usage last went up, or was split, afterwards
        self.splits: dict[int, list[int]] = {}  # period -> the moments at which its figures are split, ascending
        self.changed: set[int] = set()  # periods of which an account would say something new; budgets.py takes them
        self._marked: dict[int, None] = {}  # periods with marks that have not been thinned for good

    def apply(self, record: AnyRecord) -> None:
        """Add one record."""
        match record:
            case Opened():
                self.opened = record
                self.key_id = record.key_id
            case Rekeyed():
                self.key_id = record.key_id
            case Inventory():
                self.inventories.append(record)
            case Up(at_ms=at_ms):
                self.up.append((at_ms, at_ms))
            case Beat(at_ms=at_ms):
                start, end = self.up[-1]
                self.up[-1] = (start, max(end, at_ms))
            case JobOpened():
                self._apply_job(record)
            case Usage():
                self._apply_usage(record)
            case Split():
                self._apply_split(record)
            case Uncounted():
                self._apply_uncounted(record)
            case CheckpointTaken():
                self.digests.setdefault(record.digest, []).append(record)
            case JobClosed(job=job):
                self.jobs[job].closed = True
            case Signed():
                self._apply_signed(record)
            case Adopted():
                adopt(self, record)
            case SignedAgain():
                self._apply_signed_again(record)
            case Delivered():
                self._apply_delivered(record)
            case TurnedDown():
                self.unsent.pop(record.id).turned_down = record
                self.refusals.append(record)
            case LogSeen():
                self.seen = record
                self.tree_size = max(self.tree_size, record.size)

    def _apply_job(self, record: JobOpened) -> None:
        self.jobs[record.job] = Job(
            record.job,
            record.run,
            record.chips,
            record.pool,
            record.method,
            record.margin_ppm,
            record.at_ms,
            record.at_ms,
        )
        self.runs.setdefault(record.run, Run(record.run))

    def _apply_usage(self, record: Usage) -> None:
        job = self.jobs[record.job]
        figure = self.runs[job.run].usage.setdefault(record.period, {}).setdefault(record.job, Figure())
        job.last_period = max(job.last_period, record.period)
        job.last_ms = max(job.last_ms, record.at_ms)
        self.runs_in.setdefault(record.period, set()).add(job.run)
        flop, as_of_ms = int.from_bytes(record.flop, "big"), record.as_of_ms or record.at_ms
        raised = figure.raise_to(flop, record.steps, record.chip_ms, as_of_ms)
        self._marked[record.period] = None
        self.changed.add(record.period)
        if len(figure.marks) > MAX_MARKS:
            thin(figure.marks, self.splits.get(record.period, ()), figure.marks[-1].as_of_ms - KEPT_MS)
        if raised and record.period in self.account_ids:
            self.touched[record.period] = record.at_ms

    def _apply_split(self, record: Split) -> None:
        known = self.splits.setdefault(record.period, [])
        if record.time_ms in known:
            return
        insort(known, record.time_ms)
        self.changed.add(record.period)
        # SPEC node-33: an account that was made before its boundary was known MUST be split by a correction.
        if record.period in self.account_ids and self.runs_in.get(record.period):
            self.touched[record.period] = record.at_ms

    def _thin_marks(self, now_ms: int) -> None:
        """Forget how attested periods came to their figures, but for what their boundaries need."""
        for period in [period for period in self._marked if period in self.account_ids]:
            figures = [figure for run in self.runs_in.get(period, ()) for figure in self._figures(run, period)]
            if all(figure.marks[-1].as_of_ms < now_ms - KEPT_MS for figure in figures if figure.marks):
                for figure in figures:
                    thin(figure.marks, self.splits.get(period, ()), now_ms)
                del self._marked[period]

    def _figures(self, run: str, period: int) -> list[Figure]:
        return list(self.runs[run].usage.get(period, {}).values())

    def _apply_uncounted(self, record: Uncounted) -> None:
        job = self.jobs[record.job]
        job.notes += tuple(note for note in record.notes if note not in job.notes)
        job.last_ms = max(job.last_ms, record.at_ms)
        if not job.counted_whole(record.since_period):
            return
        for period, figures in self.runs[job.run].usage.items():
            said = record.since_period <= period and job.counted_whole(period) and job.id in figures
            if said:
                self.changed.add(period)
            if said and job.method == pb.METHOD_FRAMEWORK_COUNT and period in self.account_ids:
                self.touched[period] = record.at_ms
        job.uncounted_since = record.since_period

    def _apply_signed(self, record: Signed) -> None:
        envelope = parse_envelope(record.envelope)
        statement = parse_statement(envelope)
        statement_id = identity(pae(envelope.payload_type, envelope.payload))
        entry = Statement(statement_id, record.kind, record.sequence, record.envelope, record.at_ms, "")
        self.statements[statement_id] = self.unsent[statement_id] = entry
        match statement:
            case pb.RunDeclaration():
                entry.about = f"run {statement.run}"
                run = self.runs.setdefault(statement.run, Run(statement.run))
                run.declared, run.initial_digest = True, statement.initial_digest
                run.initial_state = statement.initial_state
            case pb.CheckpointRecord():
                entry.about = f"checkpoint of run {statement.run}"
                run = self.runs[statement.run]
                run.recorded_steps, run.recorded_period = statement.steps, statement.period
                run.recorded_id = statement_id
            case pb.ComputeAttestation() | pb.Correction():
                entry.about = f"period {statement.account.period}"
                self._extend(record, statement_id, statement.link)
                self._apply_account(statement.account.period, statement_id)
                self._thin_marks(record.at_ms)
            case pb.Gap():
                entry.about = f"periods {statement.first_period} to {statement.last_period}"
                self._extend(record, statement_id, statement.link)
                self.next_period = statement.last_period + 1
                if statement.reason == pb.GAP_REASON_LATE:
                    self.owed.update(range(statement.first_period, statement.last_period + 1))
            case _:
                raise Refused(Code.UNSAFE_STATE, f"a lab does not sign {envelope.payload_type}")

    def _apply_signed_again(self, record: SignedAgain) -> None:
        envelope = parse_envelope(record.envelope)
        # SPEC node-4: a slot MUST be signed once, ever: by whichever key, it is the same statement.
        if identity(pae(envelope.payload_type, envelope.payload)) != record.id:
            raise Refused(Code.UNSAFE_STATE, "what was signed again is another statement")
        self.unsent[record.id].envelope = record.envelope

    def _apply_account(self, period: int, statement_id: bytes) -> None:
        self.account_ids[period] = statement_id
        self.owed.discard(period)
        self.touched.pop(period, None)
        self.next_period = max(self.next_period or 0, period + 1)

    def _extend(self, record: Signed, statement_id: bytes, link: pb.Link) -> None:
        # SPEC node-4: a sequence MUST be signed once, ever; a journal that says otherwise is not one of ours.
        if record.sequence != link.sequence or link.sequence != self.sequence + 1 or link.previous != self.head:
            raise Refused(Code.UNSAFE_STATE, f"sequence {link.sequence} does not continue the chain")
        self.sequence, self.head, self.as_of = link.sequence, statement_id, link.as_of

    def _apply_delivered(self, record: Delivered) -> None:
        statement = self.unsent.pop(record.id)
        statement.delivered = self.last_delivered = record
        statement.envelope = b""
        self.tree_size = max(self.tree_size, record.tree_size)

    @property
    def chain_pending(self) -> Statement | None:
        """The chain's last statement while the log has not acknowledged it: nothing is linked to it before that."""
        return next((item for item in self.unsent.values() if item.kind in CHAINED), None)

    def checkpoint_index(self, taken: CheckpointTaken) -> int | None:
        """The leaf index of the record that stands for a checkpoint, once it is acknowledged."""
        statement = self.statements.get(taken.statement)
        return statement.delivered.index if statement is not None and statement.delivered is not None else None
