"""What an audit found, before it is put into words: all of it follows from the log's bytes and the fingerprint."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.evidence import Verdict
from pacekeeper.protocol.replay.state import FindingEntry, State
from pacekeeper.protocol.tlog.checkpoint import Checkpoint
from pacekeeper.v1 import statements_pb2 as pb


class Exit(IntEnum):
    """Exit statuses of the audit."""

    COMPLIANT = 0
    VIOLATIONS = 1
    USAGE = 2
    FAILED = 3
    TEMPORARY = 4


@dataclass(frozen=True, order=True)
class Fault:
    """Why the log does not verify: the resource at fault (a path, or "entry N"), a stable code and a sentence."""

    resource: str
    code: str
    message: str


@dataclass(frozen=True)
class Head:
    """The checkpoint that was audited: who cosigned it when (seconds since the epoch), and whose line is unusable."""

    checkpoint: Checkpoint
    cosigners: dict[str, int]
    absent: tuple[str, ...]
    invalid: tuple[str, ...]


@dataclass(frozen=True)
class CheckedFinding:
    """A published finding, and what its evidence shows when it is checked again."""

    entry: FindingEntry
    verdict: Verdict
    agrees: bool

    @property
    def accuses(self) -> bool:
        """Whether it shows a breach or an anomaly; an observation or discrepancy asks for an answer, no more."""
        return self.verdict.holds and self.verdict.severity >= pb.SEVERITY_ANOMALY


@dataclass(frozen=True)
class CrossCheck:
    """What one verifier answered when it was asked for its last cosigned checkpoint: agrees, or why not."""

    party: str
    agrees: bool
    message: str
    forked: bool = False


@dataclass(frozen=True)
class Change:
    """The verifiers or their quorum changed with the entry of this index."""

    index: int
    before: Agreement
    after: Agreement


@dataclass
class AuditResult:
    """state is None when the founding agreement could not be read; otherwise the replay of all that was audited.

    next_ms: the log time of the first entry that was left out, where entries up to a time were asked for.
    agreement: the one in force at the head, also where an earlier size was replayed. changes: those of the verifiers,
    up to the head. transitions: how many transition checkpoints there are in the audited tree.
    """

    fingerprint: bytes
    head: Head | None = None
    state: State | None = None
    agreement: Agreement | None = None
    changes: list[Change] = field(default_factory=list)
    transitions: int = 0
    audited: int = 0
    next_ms: int | None = None
    faults: list[Fault] = field(default_factory=list)
    findings: list[CheckedFinding] = field(default_factory=list)

    @property
    def status(self) -> Exit:
        """The exit status that these facts call for, freshness aside."""
        if self.faults or self.state is None or self.head is None:
            return Exit.FAILED
        broken = self.state.violations or self.state.void_count or any(f.accuses for f in self.findings)
        disagreeing = any(not f.agrees for f in self.findings)
        return Exit.VIOLATIONS if broken or disagreeing else Exit.COMPLIANT
