"""Asking others: what the countries' verifiers say they cosigned last, and how fresh the head is.

A log could show one auditor a stale or forked head that old keys signed. More than f verifiers, asked directly, cannot
all be lying; when so many cannot be asked, the report says that the view was not cross-checked.
"""

from __future__ import annotations

import time
from typing import Final

import grpc

from pacekeeper.audit.head import CHECKPOINT, judge_head
from pacekeeper.audit.reading import read_resource
from pacekeeper.audit.result import AuditResult, CrossCheck, Fault
from pacekeeper.audit.verify import ChangedSource
from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.client.fetch import Source
from pacekeeper.client.pins import fetch_certificate
from pacekeeper.client.tls import CHANNEL_OPTIONS, channel_credentials, verifier_uri
from pacekeeper.protocol.documents.agreement import Agreement, Party
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import count_of
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.merkle import check_consistency, prove_consistency, subtree_root
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.tiles import subtree_reader
from pacekeeper.protocol.tlog.transitions import FIRST_RULES, transition_path
from pacekeeper.v1 import verifier_pb2, verifier_pb2_grpc

DEADLINE_S = 5.0
_PATIENCE_S: Final = 2.0  # for a tree that a verifier has cosigned to be published


def cross_check(source: Source, result: AuditResult) -> list[str]:
    """Ask every verifier for its last cosigned checkpoint; return what they said, in sentences for standard error.

    A verifier's signed checkpoint of another tree becomes a fault of the result. Nothing is asked when the audit has
    failed already.
    SPEC audit-7: a verifier's signed checkpoint that is not in the audited tree MUST be reported as a fault.
    SPEC audit-8: the view MUST be called cross-checked only if more verifiers than may lie confirmed it.
    """
    if result.head is None or result.agreement is None or result.faults:
        return []
    agreement = result.agreement
    checks = [_ask(source, result.head.checkpoint, agreement, result.transitions, party) for party in agreement.parties]
    result.faults.extend(
        Fault(CHECKPOINT, Code.BAD_CHECKPOINT, f"verifier {check.party} {check.message}")
        for check in checks
        if check.forked
    )
    agreeing = sum(check.agrees for check in checks)
    confirmed = agreeing > agreement.quorum.liars
    verdict = "view cross-checked" if confirmed else "view NOT cross-checked"
    needed = agreement.quorum.liars + 1
    return [
        *(f"verifier {check.party} {check.message}" for check in checks),
        f"{verdict}: {count_of(agreeing, 'verifier')} confirmed it when asked directly, {needed} needed",
    ]


def _ask(source: Source, head: Checkpoint, agreement: Agreement, transitions: int, party: Party) -> CrossCheck:
    try:
        note_bytes = _status(party).checkpoint
        if not note_bytes:
            return CrossCheck(party.id, False, "has cosigned nothing")
        seen = _signed(note_bytes, agreement, party)
        if seen.size > head.size:
            grown = _grown(source, head, agreement, transitions, seen.size)
            if grown is None:
                return CrossCheck(party.id, False, f"has cosigned a later tree, of {seen.size} entries")
            head = grown
        if _root_at(source, head, seen.size) != seen.root:
            return CrossCheck(party.id, False, f"has cosigned another tree of {seen.size} entries: a fork", forked=True)
    except ChangedSource as changed:
        return CrossCheck(party.id, False, f"could not be compared: the log's {changed} is not what it was before")
    except TemporaryFailure as failure:
        return CrossCheck(party.id, False, f"did not answer ({failure.code})")
    except Refused as refusal:
        return CrossCheck(party.id, False, f"answered what does not verify ({refusal.code})")
    return CrossCheck(party.id, True, f"confirms the tree at {seen.size} entries")


def _grown(source: Source, head: Checkpoint, agreement: Agreement, transitions: int, size: int) -> Checkpoint | None:
    """The log's checkpoint once it has reached a size, proven to continue the audited tree; None if it does not come.

    A live log grows while it is audited, and a verifier may have cosigned what the log is about to publish.
    SPEC audit-16: a later tree MUST count as the same view only if the log publishes it and it continues the audited.
    """
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        later = _published_over(source, agreement, transitions, size)
        if later is not None:
            break
        if time.monotonic() >= give_up:
            return None
        time.sleep(0.1)
    read_subtree = subtree_reader(later.size, lambda path: read_resource(source, path))
    proof = prove_consistency(head.size, later.size, read_subtree)
    try:
        check_consistency(head.size, head.root, later.size, later.root, proof)
    except Refused:
        raise ChangedSource("tree") from None
    return later


def _published_over(source: Source, agreement: Agreement, transitions: int, size: int) -> Checkpoint | None:
    """The log's checkpoint over at least so many entries that the audited tree's quorum has cosigned; None if none is.

    Where the verifiers have changed since, that is the next transition checkpoint.
    """
    for path in (CHECKPOINT, transition_path(transitions + 1)):
        note = source.read(path)
        if note is None:
            return None
        later, faults = judge_head(note, agreement)
        if not faults and later.checkpoint.size >= size:
            return later.checkpoint
        if agreement.rules_version < FIRST_RULES:
            break
    return None


def _status(party: Party) -> verifier_pb2.GetVerifierStatusResponse:
    terms = party.verifier
    certificate = fetch_certificate(terms.address, verifier_uri(party.id), terms.tls_spki, deadline_s=DEADLINE_S)
    with grpc.secure_channel(terms.address, channel_credentials(certificate), options=CHANNEL_OPTIONS) as channel:
        stub = verifier_pb2_grpc.NationalVerifierStub(channel)
        try:
            return stub.GetVerifierStatus(verifier_pb2.GetVerifierStatusRequest(), timeout=DEADLINE_S)
        except grpc.RpcError:
            raise TemporaryFailure(Outage.UNREACHABLE, "the verifier did not answer") from None


def _signed(note_bytes: bytes, agreement: Agreement, party: Party) -> Checkpoint:
    """The checkpoint of a note that both the log and this verifier signed."""
    note = parse_note(note_bytes)
    checkpoint = parse_checkpoint(note.text)
    wanted = {agreement.log.key, party.verifier.cosign_key}
    valid = {
        key
        for key in wanted
        for signature in note.signatures
        if (signature.name, signature.key_hash) == (key.name, key.hash) and key.verify(note.text, signature.data)
    }
    if valid != wanted or checkpoint.origin != agreement.origin:
        raise Refused(Code.BAD_SIGNATURE, "not signed by the log and this verifier")
    return checkpoint


def _root_at(source: Source, head: Checkpoint, size: int) -> bytes:
    """The root of the audited tree's first entries; ChangedSource if tiles are not any more what was verified."""
    if size == head.size:
        return head.root
    read_subtree = subtree_reader(head.size, lambda path: read_resource(source, path))
    try:
        root = subtree_root(0, size, read_subtree)
        check_consistency(size, root, head.size, head.root, prove_consistency(size, head.size, read_subtree))
    except Refused:
        raise ChangedSource("tree") from None
    return root


def stale_ms(result: AuditResult, now_ms: int) -> tuple[int, bool]:
    """How old a verified head is, and whether that is more than the agreement lets a log be silent or unwitnessed.

    The log time of the last entry counts only if the whole tree was replayed.
    SPEC audit-10: a live log whose head is older than the agreement allows MUST be reported as stale.
    """
    assert result.head is not None
    assert result.state is not None
    head, last_time_ms = result.head, result.state.last_time_ms
    agreement = result.agreement or result.state.agreement
    timing = agreement.timing
    times = sorted(head.cosigners.values(), reverse=True)
    newest_ms = times[agreement.quorum.quorum - 1] * 1000
    if result.audited == head.checkpoint.size:
        newest_ms = min(newest_ms, last_time_ms + timing.tick_ms)
    age = now_ms - newest_ms
    return max(0, age), age > timing.tick_ms + timing.unwitnessed_ms + timing.tolerance_ms
