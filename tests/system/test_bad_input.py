"""Bad statements against a live site: each is refused with its own code and not logged; others are served meanwhile.

The site has no heartbeat and no deadlines while the tests run: its size grows by what is submitted, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pytest
from callers import eventually, failure, is_served, log_size, outcomes, raw_stub
from google.protobuf.message import Message
from processes import Live
from site_on_disk import Site

from pacekeeper.audit.verify import audit
from pacekeeper.client.fetch import open_source
from pacekeeper.client.keyfiles import load_key
from pacekeeper.client.tls import CHANNEL_OPTIONS
from pacekeeper.protocol import limits
from pacekeeper.protocol.envelope import (
    PAYLOAD_TYPE_PREFIX,
    encode,
    identity,
    pae,
    parse_envelope,
    sign_envelope,
)
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import envelope_pb2, log_pb2, log_pb2_grpc
from pacekeeper.v1 import statements_pb2 as pb

RawCall: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"

HOSTILE, HONEST, CHAINED = "borealis", "meridian", "cascade"
UNKNOWN_FIELD = b"\xa0\x06\x01"  # field 100, varint 1: any parser skips it, the canonical form has no place for it


def declaration(site: Site, lab: str = HOSTILE, **changes: object) -> pb.RunDeclaration:
    """A run declaration, sound but for the changes."""
    fields: dict[str, Any] = {
        "agreement": site.agreement.fingerprint,
        "lab": lab,
        "run": "hostile",
        "initial_state": pb.INITIAL_STATE_FRESH,
        "initial_digest": b"\x01" * 32,
    }
    return pb.RunDeclaration(**(fields | changes))


def by(site: Site, statement: Message, *keys: SigningKey) -> bytes:
    """Sealed by the hostile lab, or by other keys."""
    return encode(seal(statement, keys or [site.lab_key(HOSTILE)]))


def sign_raw(site: Site, payload: bytes, name: str = "RunDeclaration") -> bytes:
    """Any payload under any type, properly signed by the hostile lab."""
    return encode(sign_envelope(PAYLOAD_TYPE_PREFIX + name, payload, [site.lab_key(HOSTILE)]))


def verifier_key(site: Site) -> SigningKey:
    return load_key(site.home("verifier-norland") / "keys/statement.key")


def unsigned(site: Site) -> bytes:
    envelope = parse_envelope(by(site, declaration(site)))
    del envelope.signatures[:]
    return encode(envelope)


def missigned(site: Site) -> bytes:
    envelope = parse_envelope(by(site, declaration(site)))
    signature = bytearray(envelope.signatures[0].signature)
    signature[40] ^= 1
    envelope.signatures[0].signature = bytes(signature)
    return encode(envelope)


def signature_of_another(site: Site) -> bytes:
    """A sound signature, over another statement of the same lab."""
    envelope = parse_envelope(by(site, declaration(site)))
    other = parse_envelope(by(site, declaration(site, run="other")))
    envelope.signatures[0].signature = other.signatures[0].signature
    return encode(envelope)


def reordered_signatures(site: Site) -> bytes:
    envelope = parse_envelope(by(site, declaration(site), site.lab_key(HOSTILE), verifier_key(site)))
    envelope.signatures.reverse()
    return encode(envelope)


def reordered_fields(site: Site) -> bytes:
    """The same message, payload before payload type: every parser reads it alike."""
    envelope = parse_envelope(by(site, declaration(site)))
    parts = [envelope_pb2.Envelope(payload=envelope.payload), envelope_pb2.Envelope(payload_type=envelope.payload_type)]
    rest = envelope_pb2.Envelope(signatures=envelope.signatures)
    return b"".join(part.SerializeToString() for part in (*parts, rest))


def leaping_account(site: Site) -> pb.ComputeAttestation:
    """A sound account of a later period, when nothing was said yet of the first."""
    period = 1
    account = pb.PeriodAccount(
        period=period,
        time=[pb.CategoryTime(category=pb.CATEGORY_IDLE, chip_ms=site.agreement.calendar.period_ms)],
        pools=[pb.AcceleratorPool(model="chip", count=1, peak_gflop_per_s=1000)],
    )
    return pb.ComputeAttestation(
        agreement=site.agreement.fingerprint, lab=HOSTILE, link=pb.Link(sequence=1), account=account
    )


def gap(site: Site, sequence: int, previous: bytes = b"", note: str = "") -> pb.Gap:
    """A gap over the first period, in which the log was founded and which is over."""
    period = 0
    return pb.Gap(
        agreement=site.agreement.fingerprint,
        lab=CHAINED,
        link=pb.Link(sequence=sequence, previous=previous),
        first_period=period,
        last_period=period,
        reason=pb.GAP_REASON_LATE,
        note=note,
    )


BAD: dict[str, tuple[Code, Callable[[Site], bytes]]] = {
    # malformed and non-canonical
    "no protobuf": (Code.NOT_CANONICAL, lambda site: b"\xff" * 40),
    "cut short": (Code.NOT_CANONICAL, lambda site: by(site, declaration(site))[:-1]),
    "an unknown field in the envelope": (Code.NOT_CANONICAL, lambda s: by(s, declaration(s)) + UNKNOWN_FIELD),
    "an unknown field in the payload": (
        Code.NOT_CANONICAL,
        lambda s: sign_raw(s, declaration(s).SerializeToString() + UNKNOWN_FIELD),
    ),
    "a field twice": (Code.NOT_CANONICAL, lambda s: sign_raw(s, declaration(s).SerializeToString() * 2)),
    "fields in another order": (Code.NOT_CANONICAL, reordered_fields),
    "signatures in another order": (Code.NOT_CANONICAL, reordered_signatures),
    "a key id of 31 bytes": (
        Code.MALFORMED,
        lambda s: encode(
            envelope_pb2.Envelope(
                payload_type=PAYLOAD_TYPE_PREFIX + "Tick",
                payload=b"x",
                signatures=[envelope_pb2.Signature(key_id=b"k" * 31, signature=b"s" * 64)],
            )
        ),
    ),
    # unknown
    "an unknown payload type": (Code.UNKNOWN_PAYLOAD_TYPE, lambda site: sign_raw(site, b"", "Pardon")),
    "a message that is no statement": (Code.UNKNOWN_PAYLOAD_TYPE, lambda site: sign_raw(site, b"", "Acceptance")),
    "an unknown lab": (Code.UNKNOWN_LAB, lambda site: by(site, declaration(site, lab="atlantis"))),
    "a field out of range": (
        Code.BAD_FIELD,
        lambda site: sign_raw(site, declaration(site, run="../x").SerializeToString()),
    ),
    "text that cannot be shown": (
        Code.BAD_FIELD,
        lambda site: sign_raw(site, declaration(site, title="safe\x1b[2J\u202e").SerializeToString()),
    ),
    "another agreement": (Code.WRONG_AGREEMENT, lambda site: by(site, declaration(site, agreement=b"\x02" * 32))),
    # unsigned and mis-signed
    "nothing at all": (Code.MISSING_SIGNATURE, lambda site: b""),
    "unsigned": (Code.MISSING_SIGNATURE, unsigned),
    "a signature with one bit flipped": (Code.BAD_SIGNATURE, missigned),
    "a signature over something else": (Code.BAD_SIGNATURE, signature_of_another),
    "signed by a stranger": (Code.UNKNOWN_SIGNER, lambda site: by(site, declaration(site), SigningKey(b"\x07" * 32))),
    # wrong role
    "a lab in the name of another": (Code.WRONG_ROLE, lambda site: by(site, declaration(site, lab=HONEST))),
    "a verifier in the name of a lab": (Code.WRONG_ROLE, lambda site: by(site, declaration(site), verifier_key(site))),
    "two signers where one speaks": (
        Code.WRONG_ROLE,
        lambda site: by(site, declaration(site), site.lab_key(HOSTILE), site.lab_key(HONEST)),
    ),
    "a lab's own tick": (
        Code.WRONG_ROLE,
        lambda site: by(site, pb.Tick(agreement=site.agreement.fingerprint, index=9)),
    ),
    "a second agreement": (
        Code.NOT_FIRST,
        lambda site: by(site, pb.Agreement(document=site.agreement.document + b"\nAnd more.\n")),
    ),
    # reordered
    "the second link before the first": (
        Code.SEQUENCE_SKIPPED,
        lambda site: by(site, gap(site, 2, b"\x03" * 32), site.lab_key(CHAINED)),
    ),
    "an account before those of earlier periods": (Code.PERIOD_SKIPPED, lambda site: by(site, leaping_account(site))),
    "a checkpoint of a run that is not declared": (
        Code.UNKNOWN_RUN,
        lambda site: by(
            site,
            pb.CheckpointRecord(
                agreement=site.agreement.fingerprint,
                lab=HOSTILE,
                run="undeclared",
                digest=b"\x05" * 32,
                estimates=[pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=1, margin_ppm=1)],
            ),
        ),
    ),
    # oversized
    "an envelope one byte too large": (Code.TOO_LARGE, lambda site: b"\x00" * (limits.MAX_ENVELOPE_BYTES + 1)),
    "thirty-three signatures": (
        Code.TOO_LARGE,
        lambda site: by(site, declaration(site), *(SigningKey(bytes([n]) * 32) for n in range(1, 34))),
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_statement_is_refused_with_its_code_and_leaves_no_trace(live: Live, name: str) -> None:
    """FAULTS 41, 42, 43: a stable code, nothing logged, another client served while it is refused."""
    code, make = BAD[name]
    bad = make(live.site)
    async with raw_stub(live.site, f"lab-{HOSTILE}") as stub:
        before = await log_size(stub)
        answers, _ = await asyncio.gather(outcomes(stub, [bad]), is_served(live.site, HONEST))
        assert answers == [code]
        assert await log_size(stub) == before + 1, "the honest entry is there, and nothing else"
        try:
            envelope = parse_envelope(bad)
        except Refused:
            return  # not even an envelope: it has no identity to ask for
        request = log_pb2.GetInclusionProofRequest(id=identity(pae(envelope.payload_type, envelope.payload)))
        assert await failure(stub.GetInclusionProof(request)) == (grpc.StatusCode.NOT_FOUND, Code.NOT_FOUND)


async def test_a_statement_that_is_replayed_has_its_place_and_gets_no_second_one(live: Live) -> None:
    """FAULTS 31: by whomever, however often, alone or in one batch, before and after a repetition by another."""
    data = live.site.declaration(HOSTILE, "replayed")
    async with raw_stub(live.site, f"lab-{HOSTILE}") as own, raw_stub(live.site, "verifier-norland") as other:
        [index] = await outcomes(own, [data])
        size = await log_size(own)
        assert await outcomes(own, [data, data]) == [index, index]
        assert await outcomes(other, [data] * 256) == [index] * 256
        assert await outcomes(own, [live.site.bundle.entry0]) == [0], "the agreement itself, too"
        assert await log_size(own) == size


async def test_good_statements_in_a_bad_batch_are_logged_in_their_order(live: Live) -> None:
    """One outcome for each, in the order in which they came; what is refused takes nothing with it."""
    good = [live.site.declaration(HOSTILE, f"among-bad-{number}") for number in range(3)]
    batch = [missigned(live.site), good[0], b"\xff", good[1], good[0], unsigned(live.site), good[2]]
    async with raw_stub(live.site, f"lab-{HOSTILE}") as stub:
        before = await log_size(stub)
        assert await outcomes(stub, batch) == [
            Code.BAD_SIGNATURE,
            before,
            Code.NOT_CANONICAL,
            before + 1,
            before,
            Code.MISSING_SIGNATURE,
            before + 2,
        ]
        assert await log_size(stub) == before + 3


async def test_a_bad_batch_is_refused_as_a_whole(live: Live) -> None:
    """FAULTS 43: too many, too much, nothing, no protobuf; a sound envelope in it is not logged either."""
    sound = live.site.declaration(HOSTILE, "in-a-bad-batch")
    heavy = b"\x00" * 65_000
    async with raw_stub(live.site, f"lab-{HOSTILE}") as stub:
        before = await log_size(stub)
        for envelopes, status, code in (
            ([], grpc.StatusCode.INVALID_ARGUMENT, Code.MALFORMED),
            ([sound, *[b""] * 256], grpc.StatusCode.INVALID_ARGUMENT, Code.TOO_LARGE),
            ([sound, *[heavy] * 65], grpc.StatusCode.INVALID_ARGUMENT, Code.TOO_LARGE),
        ):
            request = log_pb2.SubmitRequest(envelopes=envelopes)
            assert await failure(stub.Submit(request, timeout=20)) == (status, code)
        huge = log_pb2.SubmitRequest(envelopes=[sound, b"\x00" * (2 * limits.MAX_SUBMIT_BYTES)])
        answers = await asyncio.gather(failure(stub.Submit(huge, timeout=20)), is_served(live.site, HONEST))
        assert answers[0][0] is grpc.StatusCode.RESOURCE_EXHAUSTED, "gRPC's own limit: the log never sees it"
        assert await log_size(stub) == before + 1


async def test_calls_that_are_no_calls_are_refused(live: Live) -> None:
    """FAULTS 43: bytes that are no request, methods that are none, streams out of order."""
    address, credentials = live.site.agreement.log.address, live.site.credentials(f"lab-{HOSTILE}")
    async with raw_stub(live.site, f"lab-{HOSTILE}") as stub:
        before = await log_size(stub)
    async with grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS) as channel:
        submit: RawCall = channel.unary_unary("/pacekeeper.v1.TransparencyLog/Submit")
        for garbage in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 10_000):
            status, _ = await failure(submit(garbage, timeout=20))
            assert status in {grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNKNOWN}
        unknown: RawCall = channel.unary_unary("/pacekeeper.v1.TransparencyLog/Delete")
        assert (await failure(unknown(b"", timeout=20)))[0] is grpc.StatusCode.UNIMPLEMENTED
    receipt = await is_served(live.site, HONEST)
    assert receipt.index == before


async def test_a_lab_cannot_cosign_and_a_verifier_only_for_its_own_party(live: Live) -> None:
    """FAULTS 41: a transport identity in a role that is not its own."""
    hello = log_pb2.CosignRequest(clock_ms=1, hello=log_pb2.CosignHello(party="norland", size=0))
    for name in (f"lab-{HOSTILE}", "verifier-sudland"):
        async with raw_stub(live.site, name) as stub:
            call = stub.Cosign()
            await call.write(hello)
            assert await failure(call.read()) == (grpc.StatusCode.PERMISSION_DENIED, Code.WRONG_IDENTITY)
    await is_served(live.site, HONEST)


async def test_the_second_statement_of_a_slot_is_refused_and_convicts_its_signer(live: Live) -> None:
    """FAULTS 32: the first stands, the second is refused, and every verifier logs a finding that holds."""
    site, key = live.site, live.site.lab_key(CHAINED)
    async with raw_stub(site, f"lab-{CHAINED}") as stub:
        before = await log_size(stub)
        first, second = (by(site, gap(site, 1, note=note), key) for note in ("the first", "the second"))
        assert await outcomes(stub, [first]) == [before]
        assert await outcomes(stub, [second]) == [Code.SEQUENCE_TAKEN]
        await eventually(lambda: _has_size(stub, before + 1 + len(site.verifiers)), 60)
        receipt = await is_served(site, HONEST)
        assert receipt.index == before + 1 + len(site.verifiers), "one finding of each verifier, and no more"
    source = open_source(site.url)
    result = await asyncio.to_thread(audit, source, site.agreement.fingerprint, jobs=0)
    source.close()
    assert result.faults == []
    assert {(finding.verdict.rule, finding.verdict.subject) for finding in result.findings} == {
        ("lab-equivocation", CHAINED)
    }
    assert len(result.findings) == len(site.verifiers)
    assert all(finding.agrees for finding in result.findings)


async def _has_size(stub: log_pb2_grpc.TransparencyLogAsyncStub, size: int) -> bool:
    return await log_size(stub) >= size
