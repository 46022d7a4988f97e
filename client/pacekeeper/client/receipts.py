"""Answers to a submission, verified: a log's word is a receipt, or it is nothing.

`verify_answer` decides, without a socket. For a witnessed answer: 1. there is one result for each envelope; 2. the
checkpoint meets the agreement's policy, once for all; 3. each entry, rebuilt from the caller's own envelope bytes and
the log's time, is in the checkpoint's tree at the index that the log says. For an accepted one: the log's statement key
has signed these identities, indices and times under this agreement. An answer with nothing in it fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.rpc import TEMPORARY
from pacekeeper.protocol import canonical, envelope, keys, limits
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.merkle import check_inclusion, leaf_hash
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import CosignaturePolicy, check_note
from pacekeeper.protocol.tlog.receipt import Receipt, format_receipt
from pacekeeper.v1 import log_pb2, statements_pb2

_ACCEPTANCE_TYPE: Final = envelope.PAYLOAD_TYPE_PREFIX + statements_pb2.Acceptance.DESCRIPTOR.name
PolicyAt = Callable[[int], CosignaturePolicy]

_CODE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class WitnessedReceipt:
    """The entry is on the log and a quorum has cosigned. id is the statement's identity; tlog_proof a whole file."""

    index: int
    sequenced_at_ms: int
    id: bytes
    tlog_proof: bytes


@dataclass(frozen=True)
class Accepted:
    """The log promises index and time; nobody else has witnessed it yet. acceptance is the signed Envelope's bytes."""

    index: int
    sequenced_at_ms: int
    id: bytes
    acceptance: bytes


@dataclass(frozen=True)
class SubmitRefused:
    """The log will not take this envelope. code is a `Code` of this version or of a later one; message is hostile."""

    code: str
    message: str


Submitted = WitnessedReceipt | Accepted | SubmitRefused


@dataclass(frozen=True)
class _Submission:
    """One envelope as its submitter knows it."""

    data: bytes
    id: bytes


def verify_answer(
    envelopes: Sequence[bytes],
    response: log_pb2.SubmitResponse,
    agreement: Agreement,
    *,
    policy_at: PolicyAt | None = None,
    unwitnessed: bool,
) -> list[Submitted]:
    """Return the verified outcome of each envelope, in order.

    policy_at: the policy of a tree of a size, as far as the log was followed; by default the founding one of all.

    Raises Refused if the log's answer does not prove what it says, TemporaryFailure if it puts the submitter off.
    SPEC transport-13: there MUST be exactly one outcome for each envelope.
    """
    results = response.results
    if not envelopes or len(results) != len(envelopes):
        raise Refused(Code.MALFORMED, f"the log answered {len(envelopes)} envelopes with {len(results)} results")
    submissions = [_Submission(data, _identity(data)) for data in envelopes]
    refusals = {position: _refusal(result) for position, result in enumerate(results)}
    sequenced = [
        (submission, result.sequenced)
        for position, (submission, result) in enumerate(zip(submissions, results, strict=True))
        if refusals[position] is None
    ]
    policies = policy_at or (lambda _size: agreement.policy())
    proved = iter(_prove(sequenced, response, agreement, policies, unwitnessed=unwitnessed))
    return [refusals[position] or next(proved) for position in range(len(results))]


def _prove(
    sequenced: Sequence[tuple[_Submission, log_pb2.Sequenced]],
    response: log_pb2.SubmitResponse,
    agreement: Agreement,
    policy_at: PolicyAt,
    *,
    unwitnessed: bool,
) -> Sequence[WitnessedReceipt | Accepted]:
    if not sequenced:
        return []
    if any(item.sequenced_at_ms > limits.MAX_TIME_MS for _, item in sequenced):
        raise Refused(Code.BAD_FIELD, "the log's time is out of range")
    if response.checkpoint:
        return _witnessed(sequenced, response.checkpoint, policy_at)
    # SPEC transport-15: a bare index, or an acceptance that was not asked for, MUST NOT count as a receipt.
    if not unwitnessed or not response.HasField("acceptance"):
        raise Refused(Code.NO_QUORUM, "the log answered without a cosigned checkpoint")
    return _accepted(sequenced, envelope.encode(response.acceptance), agreement)


def _witnessed(
    sequenced: Sequence[tuple[_Submission, log_pb2.Sequenced]], note: bytes, policy_at: PolicyAt
) -> list[WitnessedReceipt]:
    """SPEC transport-14: a receipt MUST be verified, quorum and inclusion, over the submitter's own bytes."""
    parsed = parse_note(note)
    # SPEC transition-12: a receipt MUST meet the policy of the tree of its checkpoint, as the log was followed.
    checkpoint = check_note(parsed, policy_at(parse_checkpoint(parsed.text).size)).checkpoint
    receipts = []
    for submission, item in sequenced:
        leaf = leaf_hash(envelope.frame_entry(item.sequenced_at_ms, submission.data))
        check_inclusion(leaf, item.index, checkpoint.size, item.inclusion_proof, checkpoint.root)
        proof = format_receipt(Receipt(item.index, tuple(item.inclusion_proof), note))
        receipts.append(WitnessedReceipt(item.index, item.sequenced_at_ms, submission.id, proof))
    return receipts


def _accepted(
    sequenced: Sequence[tuple[_Submission, log_pb2.Sequenced]], acceptance: bytes, agreement: Agreement
) -> list[Accepted]:
    promised = check_acceptance(acceptance, agreement)
    accepted = []
    for submission, item in sequenced:
        if promised.get(submission.id) != (item.index, item.sequenced_at_ms):
            raise Refused(Code.BAD_SIGNATURE, "the log's acceptance does not say what its answer says")
        accepted.append(Accepted(item.index, item.sequenced_at_ms, submission.id, acceptance))
    return accepted


def claimed_size(response: log_pb2.SubmitResponse) -> int:
    """Return the size that an answer's checkpoint claims, unverified; 0 if it claims none."""
    try:
        return parse_checkpoint(parse_note(response.checkpoint).text).size
    except Refused:
        return 0


def check_acceptance(acceptance: bytes, agreement: Agreement) -> dict[bytes, tuple[int, int]]:
    """Return identity -> (index, sequenced_at_ms) of an Acceptance's envelope bytes, else raise Refused.

    agreement: where a replayed state is at hand, the one in force there, since the log's statement key can change.
    SPEC transport-16: an acceptance MUST be signed by the log's statement key alone and name this agreement.
    """
    signed = envelope.read_envelope(envelope.parse_envelope(acceptance))
    promise = canonical.parse_canonical(statements_pb2.Acceptance, signed.payload)
    if signed.payload_type != _ACCEPTANCE_TYPE or promise is None:
        raise Refused(Code.MALFORMED, "the log's acceptance is not an Acceptance in canonical form")
    log_key = agreement.log.statement_key
    if [key_id for key_id, _ in signed.signatures] != [keys.key_id(log_key)]:
        raise Refused(Code.UNKNOWN_SIGNER, "the acceptance is not signed by the log's statement key alone")
    if not keys.verify(log_key, signed.message, signed.signatures[0][1]):
        raise Refused(Code.BAD_SIGNATURE, "the log's signature on its acceptance does not verify")
    if promise.agreement != agreement.fingerprint:
        raise Refused(Code.WRONG_AGREEMENT, "the acceptance is under another agreement")
    return {entry.id: (entry.index, entry.sequenced_at_ms) for entry in promise.entries}


def _refusal(result: log_pb2.SubmitResult) -> SubmitRefused | None:
    """Return a final refusal, or None for a sequenced entry; raise TemporaryFailure for a refusal that may pass."""
    outcome = result.WhichOneof("outcome")
    if outcome == "sequenced":
        return None
    code, message = result.refusal.code, result.refusal.message[: limits.MAX_TEXT_CHARS]
    if outcome is None or _CODE.fullmatch(code) is None:
        raise Refused(Code.MALFORMED, "the log answered an envelope with neither an index nor a refusal")
    if code in TEMPORARY:
        raise TemporaryFailure(code, message)
    return SubmitRefused(code, message)


def _identity(data: bytes) -> bytes:
    return envelope.parse_signed(data).id
