"""Findings: from what the checks propose to accusations that hold, signed and stored, each made once.

Evidence about an entry waits until a checkpoint over the entry is cosigned: before that the log has signed nothing that
contains it, and could still say that it never was. Then recheck decides, the finding is signed, and stored before
anybody sees it. The same evidence concluded again, after a restart or from another source, is the same finding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import structlog

from pacekeeper.protocol import keys
from pacekeeper.protocol.envelope import encode, identity, pae, parse_envelope
from pacekeeper.protocol.evidence import recheck
from pacekeeper.protocol.replay import Applied, Void
from pacekeeper.protocol.statements import parse_statement, payload_type, seal
from pacekeeper.protocol.text import printable
from pacekeeper.v1 import log_pb2
from pacekeeper.v1 import statements_pb2 as pb
from pacekeeper.verifier.checks import disagreement, equivocation, fork, voids
from pacekeeper.verifier.ledger import Ledger
from pacekeeper.verifier.store import Store
from pacekeeper.verifier.voice import StatementKeys
from pacekeeper.verifier.witness import open_checkpoint

MAX_FINDINGS: Final = 4_096  # a log that lets in more void entries is convicted enough, and the replay shows them all
MAX_WAITING: Final = 65_536  # pieces of evidence about entries that are not cosigned yet
MAX_RELAYED: Final = 64  # those of them that carry a relayed envelope, which may be large
_ENTRY_CHECKS: Final = (voids.check_entry, disagreement.check_entry)
_FINDING: Final = payload_type(pb.Finding)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Evidence that is to be concluded once the tree up to and including this leaf index is cosigned.

    No evidence at all: the entry is a finding of this party itself.
    """

    index: int
    evidence: pb.Evidence


def finding_key(rule: str, subject: str, evidence: pb.Evidence) -> bytes:
    """Return what makes two findings of one party the same: rule, subject and evidence.

    SPEC verifier-32: a run whose estimates go on excluding each other MUST be one finding, the first.
    """
    if evidence.HasField("disagreement"):
        evidence = pb.Evidence(disagreement=pb.DisagreementEvidence(run=evidence.disagreement.run))
    return identity(pae(f"{rule} {subject}", evidence.SerializeToString(deterministic=True)))


class Findings:
    """The findings of one party's verifier. on_new is called when one was stored that is to be published."""

    def __init__(self, store: Store, party: str, voice: StatementKeys, on_new: Callable[[], None]) -> None:
        self._store, self._party, self._voice, self._on_new = store, party, voice, on_new
        self._waiting: list[Waiting] = []

    def observe(self, outcome: Applied | Void) -> None:
        """Run the checks on one replayed entry."""
        if isinstance(outcome, Applied) and outcome.signed.payload_type == _FINDING:
            if cast(pb.Finding, outcome.statement).party == self._party:
                self._wait(Waiting(outcome.index, pb.Evidence()))
            return
        for check in _ENTRY_CHECKS:
            for evidence in check(outcome):
                self._wait(Waiting(outcome.index, evidence))

    def relayed(self, conflict: log_pb2.ConflictingEnvelope) -> None:
        """Take an envelope that the log refused since it conflicts with a logged one, which may be yet to come."""
        if sum(waiting.evidence.HasField("lab_equivocation") for waiting in self._waiting) >= MAX_RELAYED:
            _log.warning("relayed envelope dropped, too many wait", limit=MAX_RELAYED)
            return
        self._wait(Waiting(conflict.first_index, equivocation.check_conflict(conflict)))

    def _wait(self, waiting: Waiting) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(waiting)

    def forget_uncosigned(self, size: int) -> None:
        """Drop what waits about entries from size on, since these are dropped too."""
        self._waiting = [waiting for waiting in self._waiting if waiting.index < size]

    def conclude(self, ledger: Ledger) -> None:
        """Conclude all evidence about entries that are cosigned, and settle checkpoints kept from before."""
        cosigned = ledger.witness.size
        ready = [waiting for waiting in self._waiting if waiting.index < cosigned]
        self._waiting = [waiting for waiting in self._waiting if waiting.index >= cosigned]
        # What this party has said already comes first, or a new store would say it again.
        for waiting in ready:
            if waiting.evidence.WhichOneof("kind") is None:
                self._note_own(ledger, waiting.index)
        for waiting in ready:
            if waiting.evidence.WhichOneof("kind") is not None:
                self._conclude(ledger, waiting.evidence)
        suspects = self._store.suspects(cosigned)
        for note in suspects:
            self._compare(ledger, note, open_checkpoint(note, ledger.terms.policy).checkpoint.size)
        if suspects:
            self._store.drop_suspects(cosigned)

    def compare(self, ledger: Ledger, note: bytes) -> None:
        """Compare a checkpoint, from the log or another verifier, with those cosigned. Refused if it is not the log's.

        SPEC verifier-24: a checkpoint that the log signed over a tree not cosigned yet MUST be kept until it can be
        compared.
        """
        size = open_checkpoint(note, ledger.terms.policy).checkpoint.size
        signed = fork.log_signed(note, ledger.terms.policy)
        if size > ledger.witness.size:
            self._store.keep_suspect(size, signed)
        else:
            self._compare(ledger, signed, size)

    def _compare(self, ledger: Ledger, note: bytes, size: int) -> None:
        mine = self._store.head(size)
        if mine is None:
            return
        evidence = fork.check_pair(fork.log_signed(mine, ledger.terms.policy), note)
        if evidence is not None:
            self._conclude(ledger, evidence)

    def _conclude(self, ledger: Ledger, evidence: pb.Evidence) -> None:
        state = ledger.state
        assert state is not None, "something is cosigned, so the agreement is replayed"
        verdict = recheck(evidence, state, entry_at=ledger.entry_at, verify=keys.verify)
        # SPEC verifier-25: a finding MUST NOT be signed unless its own evidence, rechecked, holds.
        if not verdict.holds:
            _log.warning("evidence does not hold", rule=verdict.rule.value, why=printable(verdict.why))
            return
        key = finding_key(verdict.rule, verdict.subject, evidence)
        # SPEC verifier-26: a finding with the rule, subject and evidence of an earlier one MUST NOT be made again.
        if self._store.has_finding(key):
            return
        if self._store.count_findings() >= MAX_FINDINGS:
            _log.warning("finding not made, there are too many", rule=verdict.rule.value, limit=MAX_FINDINGS)
            return
        finding = pb.Finding(
            agreement=ledger.agreement.fingerprint,
            party=self._party,
            rule=verdict.rule,
            subject=verdict.subject,
            severity=verdict.severity,
            as_of=ledger.witness.size,
            evidence=evidence,
            note=verdict.why,
        )
        self._store.add_finding(key, encode(seal(finding, [self._voice.key_for(state)])))
        _log.warning("finding", rule=verdict.rule.value, subject=printable(verdict.subject), why=printable(verdict.why))
        self._on_new()

    def _note_own(self, ledger: Ledger, index: int) -> None:
        """Take note that a finding of this party is on the log, also one that an earlier store signed."""
        envelope = ledger.envelope_at(index)
        finding = parse_statement(parse_envelope(envelope))
        assert isinstance(finding, pb.Finding), "the replay has applied it as one"
        key = finding_key(finding.rule, finding.subject, finding.evidence)
        if not self._store.has_finding(key, logged=True):
            self._store.add_finding(key, envelope, index)
