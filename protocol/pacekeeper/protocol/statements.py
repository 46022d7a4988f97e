"""Statements: which payload type is which message, who signs it, and what its fields may hold.

Shape only: what a statement may say given the log before it is decided by the replay. A statement that passes here has
every field within its definition, so that the replay need not look twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, cast

from google.protobuf.message import Message

from pacekeeper.protocol import limits
from pacekeeper.protocol.canonical import parse_canonical
from pacekeeper.protocol.commitments.statements import CHECKS as COMMITMENT_CHECKS
from pacekeeper.protocol.envelope import PAYLOAD_TYPE_PREFIX, Signed, Signer, sign_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.readings import (
    AttestationReading,
    LinkReading,
    Reading,
    RecordReading,
    bad_field,
    check_ascending,
    is_id,
    read_account,
    read_estimates,
    read_link,
)
from pacekeeper.protocol.text import is_plain
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

_CODE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")


def payload_type(message_class: type[Message]) -> str:
    """Return the payload type of a statement class."""
    return PAYLOAD_TYPE_PREFIX + message_class.DESCRIPTOR.name


def seal(statement: Message, signers: Iterable[Signer]) -> envelope_pb2.Envelope:
    """Serialize a statement in canonical form and sign it."""
    return sign_envelope(payload_type(type(statement)), statement.SerializeToString(deterministic=True), signers)


def parse_statement(envelope: envelope_pb2.Envelope | Signed) -> Message:
    """Parse an envelope's payload as the statement that its type names, and check its shape.

    Raises Refused: unknown-payload-type, not-canonical, too-large, bad-field and what the statement's shape forbids.
    """
    return read_statement(envelope.payload_type, envelope.payload)[0]


def read_statement(kind: str, payload: bytes) -> tuple[Message, object]:
    """As parse_statement, and what the shape check has read of it, for the one who applies it; None for most.

    SPEC statements-1: a payload MUST be the canonical encoding of the message that its payload type names.
    """
    known = _STATEMENTS.get(kind)
    if known is None:
        raise Refused(Code.UNKNOWN_PAYLOAD_TYPE, f'no statement has payload type "{kind}"')
    message_class, check = known
    statement = parse_canonical(message_class, payload)
    if statement is None:
        raise Refused(Code.NOT_CANONICAL, f"{message_class.DESCRIPTOR.name} is not in canonical form")
    return statement, check(statement, len(payload))


def _check_agreement_name(fingerprint: bytes) -> None:
    # SPEC statements-13: every statement but the agreement itself MUST name its agreement by 32 bytes.
    if len(fingerprint) != 32:
        raise bad_field("agreement is named by the 32 bytes of its fingerprint")


def _check_id(text: str, what: str) -> None:
    # SPEC statements-2: an id MUST be 1 to 64 lower-case letters, digits and hyphens, not beginning with a hyphen.
    if not is_id(text):
        raise bad_field(f"{what} is not an id of lower-case letters, digits and hyphens")


def _check_text(text: str, what: str) -> None:
    # SPEC statements-3: free text MUST be at most 400 characters without control, format or unassigned characters.
    if text and not is_plain(text, limits.MAX_TEXT_CHARS):
        raise bad_field(f"{what} has characters that cannot be shown, or is over {limits.MAX_TEXT_CHARS} characters")


def _check_agreement(statement: pb.Agreement, _size: int) -> None:
    if not statement.document:
        raise bad_field("document is empty")
    if len(statement.document) > limits.MAX_DOCUMENT_BYTES:
        raise Refused(Code.TOO_LARGE, f"document of over {limits.MAX_DOCUMENT_BYTES} bytes")


def _check_tick(statement: pb.Tick, _size: int) -> None:
    _check_agreement_name(statement.agreement)


def _check_declaration(statement: pb.RunDeclaration, _size: int) -> None:
    _check_agreement_name(statement.agreement)
    _check_id(statement.lab, "lab")
    _check_id(statement.run, "run")
    _check_text(statement.title, "title")
    if statement.initial_state not in (
        pb.INITIAL_STATE_FRESH,
        pb.INITIAL_STATE_CHECKPOINT,
        pb.INITIAL_STATE_UNSTATED,
    ):
        raise bad_field("initial state is unspecified or unknown")
    unstated = statement.initial_state == pb.INITIAL_STATE_UNSTATED
    # SPEC statements-4: the initial digest MUST have 32 bytes, and MUST be absent exactly when the state is unstated.
    if len(statement.initial_digest) != (0 if unstated else 32):
        raise bad_field("initial digest has 32 bytes, or is absent when the initial state is unstated")
    # SPEC statements-14: parents MUST ascend, be at most 64, and be absent from a fresh run.
    if len(statement.parents) > limits.MAX_PARENTS:
        raise Refused(Code.TOO_LARGE, f"over {limits.MAX_PARENTS} parents")
    check_ascending(statement.parents, "parents")
    if statement.parents and statement.initial_state == pb.INITIAL_STATE_FRESH:
        raise bad_field("a fresh run has no parents")


def _read_account_of(statement: pb.ComputeAttestation | pb.Correction, size: int) -> Reading:
    # SPEC statements-12: an attestation or correction MUST have an account, if only an empty one.
    if not statement.HasField("account"):
        raise bad_field("account is absent")
    return read_account(statement.account, size)


def _check_attestation(statement: pb.ComputeAttestation, size: int) -> AttestationReading:
    _check_agreement_name(statement.agreement)
    lab = statement.lab
    _check_id(lab, "lab")
    return AttestationReading(lab, read_link(statement.link), _read_account_of(statement, size))


def _check_gap(statement: pb.Gap, _size: int) -> LinkReading:
    _check_agreement_name(statement.agreement)
    _check_id(statement.lab, "lab")
    link = read_link(statement.link)
    _check_text(statement.note, "note")
    # SPEC statements-15: hashes MUST have 32 bytes, choices MUST be made, and documents and codes MUST be there.
    if statement.reason not in (pb.GAP_REASON_LATE, pb.GAP_REASON_UNACCOUNTED):
        raise bad_field("reason is unspecified or unknown")
    # SPEC statements-9: a gap MUST cover 1 to 1,000 periods.
    if not 0 <= statement.last_period - statement.first_period < limits.MAX_GAP_PERIODS:
        raise bad_field(f"a gap covers 1 to {limits.MAX_GAP_PERIODS} periods, first to last")
    return link


def _check_correction(statement: pb.Correction, size: int) -> tuple[LinkReading, Reading]:
    _check_agreement_name(statement.agreement)
    _check_id(statement.lab, "lab")
    link = read_link(statement.link)
    _check_text(statement.note, "note")
    if len(statement.corrects) != 32:
        raise bad_field("corrects has 32 bytes")
    return link, _read_account_of(statement, size)


def _check_record(statement: pb.CheckpointRecord, _size: int) -> RecordReading:
    _check_agreement_name(statement.agreement)
    _check_id(statement.lab, "lab")
    _check_id(statement.run, "run")
    if len(statement.digest) != 32:
        raise bad_field("a checkpoint's digest has 32 bytes")
    margins: dict[int, int] = {}
    return RecordReading(*read_estimates(statement.estimates, margins), margins)


def _check_finding(statement: pb.Finding, _size: int) -> None:
    _check_agreement_name(statement.agreement)
    _check_id(statement.party, "party")
    _check_id(statement.subject, "subject")
    _check_text(statement.note, "note")
    if _CODE.match(statement.rule) is None:
        raise bad_field("rule is not a code of lower-case letters, digits and hyphens")
    if not pb.SEVERITY_OBSERVATION <= statement.severity <= pb.SEVERITY_BREACH:
        raise bad_field("severity is unspecified or unknown")
    # SPEC statements-10: a finding MUST carry evidence of a known kind.
    if statement.evidence.WhichOneof("kind") is None:
        raise Refused(Code.BAD_EVIDENCE, "a finding without evidence")


_Check = Callable[[Message, int], object]


def _entry(message_class: type[Message], check: object) -> tuple[str, tuple[type[Message], _Check]]:
    return payload_type(message_class), (message_class, cast(_Check, check))


_STATEMENTS: Final[dict[str, tuple[type[Message], _Check]]] = dict(
    (
        _entry(pb.Agreement, _check_agreement),
        _entry(pb.Tick, _check_tick),
        _entry(pb.RunDeclaration, _check_declaration),
        _entry(pb.ComputeAttestation, _check_attestation),
        _entry(pb.Gap, _check_gap),
        _entry(pb.Correction, _check_correction),
        _entry(pb.CheckpointRecord, _check_record),
        _entry(pb.Finding, _check_finding),
        *(_entry(message_class, check) for message_class, check in COMMITMENT_CHECKS.items()),
    )
)
STATEMENTS: Final[dict[str, type[Message]]] = {kind: known[0] for kind, known in _STATEMENTS.items()}
