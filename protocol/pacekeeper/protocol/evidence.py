"""Evidence: what convicts, and how anyone re-checks it from bytes alone.

A finding is a verifier's word; its evidence is what makes the word checkable. `recheck` decides, from the evidence, the
replayed state and access to entries by index, whether the finding's rule follows. A finding whose evidence does not
hold speaks against the verifier that signed it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.message import Message

from pacekeeper.protocol.compute.bounds import interval
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.envelope import Signed, read_entry, read_envelope
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.replay.state import State, Verify
from pacekeeper.protocol.statements import parse_statement
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.note import open_note
from pacekeeper.v1 import statements_pb2 as pb


class Rule(StrEnum):
    """The rules that a verifier can find broken, with evidence. Stable codes."""

    VOID_ENTRY = "void-entry"
    LAB_EQUIVOCATION = "lab-equivocation"
    LOG_FORK = "log-fork"
    DISAGREEMENT = "disagreement"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What evidence shows: rule, subject ("log" or a lab's id), severity, whether it holds, and why, in a sentence."""

    rule: Rule
    subject: str
    severity: pb.Severity.ValueType
    holds: bool
    why: str


def recheck(
    evidence: pb.Evidence,
    state: State,
    *,
    entry_at: Callable[[int], bytes],
    verify: Verify,
    found_at: int | None = None,
) -> Verdict:
    """Decide what evidence shows. entry_at(index) gives a logged entry's bytes; it is called with index < state.size.

    found_at: the leaf index of the finding that it is the evidence of; None for one that is not on the log yet.
    Never raises on hostile evidence: what does not parse does not hold. ValueError when there is no evidence at all.
    SPEC evidence-1: a finding MUST be re-checkable from its evidence, the agreement and the log alone.
    """
    now = state.size if found_at is None else found_at
    kind = evidence.WhichOneof("kind")
    if kind == "void_entry":
        return _void_entry(evidence.void_entry, state)
    if kind == "lab_equivocation":
        return _lab_equivocation(evidence.lab_equivocation, state, entry_at, verify, now)
    if kind == "log_fork":
        return check_fork(evidence.log_fork, state.agreement)
    if kind == "disagreement":
        return _disagreement(evidence.disagreement, state, entry_at, verify)
    raise ValueError("no evidence")


def _void_entry(evidence: pb.VoidEntryEvidence, state: State) -> Verdict:
    """SPEC evidence-2: an entry that the replay refuses, with the same code, MUST count against the log."""
    holds = any(void.index == evidence.index and void.code == evidence.code for void in state.voids)
    why = f"the replay {'refuses' if holds else 'does not refuse'} entry {evidence.index} as {evidence.code}"
    return Verdict(Rule.VOID_ENTRY, "log", pb.SEVERITY_ANOMALY, holds, why)


def slot_of(statement: Message) -> tuple[str, int] | None:
    """The slot (lab, sequence) that a chain statement occupies under its agreement; None for other statements."""
    if isinstance(statement, pb.ComputeAttestation | pb.Gap | pb.Correction):
        return statement.lab, statement.link.sequence
    return None


def _lab_equivocation(
    evidence: pb.LabEquivocationEvidence,
    state: State,
    entry_at: Callable[[int], bytes],
    verify: Verify,
    now: int,
) -> Verdict:
    """SPEC evidence-3: two statements of one slot with two identities, both signed by the lab, MUST convict it."""

    def verdict(subject: str, holds: bool, why: str) -> Verdict:
        return Verdict(Rule.LAB_EQUIVOCATION, subject, pb.SEVERITY_BREACH, holds, why)

    if evidence.first_index >= state.size:
        return verdict("", False, "the first statement is not on the log")
    try:
        first, second = read_entry(entry_at(evidence.first_index))[1], read_envelope(evidence.second)
        statements = parse_statement(first), parse_statement(second)
    except Refused as refusal:
        return verdict("", False, f"a statement is refused as {refusal.code}")
    slot = slot_of(statements[0])
    if slot is None or slot != slot_of(statements[1]):
        return verdict("", False, "the two statements are not of one slot")
    lab, sequence = slot
    # A lab may keep its key for another agreement, and has other slots there.
    if any(statement.agreement != state.agreement.fingerprint for statement in statements):  # type: ignore[attr-defined]
        return verdict(lab, False, "a statement is under another agreement")
    if first.id == second.id:
        return verdict(lab, False, "the two statements are one and the same")
    for signed, at in ((first, evidence.first_index), (second, now)):
        if not _signed_by_lab(signed, lab, state, verify, at):
            return verdict(lab, False, "a statement is not signed by the lab")
    return verdict(lab, True, f"lab {lab} signed two statements with sequence {sequence}")


def _signed_by_lab(signed: Signed, lab: str, state: State, verify: Verify, at: int) -> bool:
    """Whether a lab answers for a statement that was there at a leaf index.

    SPEC evidence-7: a lab MUST answer for what its former keys signed, but not for what turns up after the entry with
    which the parties replaced the key: from then on others may have it.
    """
    if len(signed.signatures) != 1:
        return False
    [(key_id, signature)] = signed.signatures
    # SPEC commitments-55: who has left MUST answer for what its key signed.
    authority = state.keyring.get(key_id) or state.former_keys.get(key_id)
    retired = state.retired.get(key_id)
    if retired is not None and not (retired.replaced and at >= retired.index):
        authority = retired.authority
    return (
        authority is not None
        and (authority.role, authority.owner) == ("lab", lab)
        and verify(authority.public_key, signed.message, signature)
    )


def check_fork(evidence: pb.LogForkEvidence, agreement: Agreement) -> Verdict:
    """Whether two notes of the log convict it: both signed by its key, one size, two roots.

    SPEC evidence-4: two checkpoints of one origin and size with two roots, both signed by the log, MUST convict it.
    """
    first = _signed_checkpoint(evidence.checkpoint_a, agreement)
    second = _signed_checkpoint(evidence.checkpoint_b, agreement)
    if first is None or second is None:
        holds, why = False, "a checkpoint is not signed by the log"
    elif first.size != second.size:
        holds, why = False, "the two trees differ in size"
    else:
        holds = first.root != second.root
        why = f"the log signed {'two trees' if holds else 'one tree'} of size {first.size}"
    return Verdict(Rule.LOG_FORK, "log", pb.SEVERITY_BREACH, holds, why)


def _signed_checkpoint(note_bytes: bytes, agreement: Agreement) -> Checkpoint | None:
    try:
        note, signers = open_note(note_bytes, [agreement.log.key])
        checkpoint = parse_checkpoint(note.text)
    except Refused:
        return None
    return checkpoint if signers and checkpoint.origin == agreement.origin else None


def disagreeing_runs(account: pb.PeriodAccount) -> list[str]:
    """Runs of an account with two estimates whose intervals do not meet."""
    found: list[str] = []
    for figure in account.figures:
        intervals = [interval(estimate.amount, estimate.margin_ppm) for estimate in figure.estimates]
        if intervals and max(i.low for i in intervals) > min(i.high for i in intervals):
            found.append(figure.run)
    return found


def _disagreement(
    evidence: pb.DisagreementEvidence, state: State, entry_at: Callable[[int], bytes], verify: Verify
) -> Verdict:
    """SPEC evidence-5: two estimates of one figure whose intervals do not meet MUST count as a discrepancy."""

    def verdict(subject: str, holds: bool, why: str) -> Verdict:
        return Verdict(Rule.DISAGREEMENT, subject, pb.SEVERITY_DISCREPANCY, holds, why)

    if evidence.index >= state.size:
        return verdict("", False, f"entry {evidence.index} is not on the log")
    try:
        signed = read_entry(entry_at(evidence.index))[1]
        statement = parse_statement(signed)
    except Refused as refusal:
        return verdict("", False, f"the entry is refused as {refusal.code}")
    if not isinstance(statement, pb.ComputeAttestation | pb.Correction):
        return verdict("", False, f"entry {evidence.index} is not an account")
    lab = statement.lab
    # The log may have let in what the lab never signed, or signed for another log.
    own = _signed_by_lab(signed, lab, state, verify, evidence.index)
    if statement.agreement != state.agreement.fingerprint or not own:
        return verdict(lab, False, "the account is not signed by the lab under this agreement")
    holds = evidence.run in disagreeing_runs(statement.account)
    return verdict(
        lab, holds, f'the estimates of run "{evidence.run}" {"exclude" if holds else "do not exclude"} each other'
    )
