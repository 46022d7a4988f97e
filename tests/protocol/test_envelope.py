"""Envelopes and entries: what is signed, what names it, and which bytes are taken."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from agreements import signing_key
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors import VECTORS, check_json

from pacekeeper.protocol import limits
from pacekeeper.protocol.envelope import (
    encode,
    encode_entry,
    frame_entry,
    identity,
    pae,
    parse_entry,
    parse_envelope,
    sign_envelope,
)
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import verify
from pacekeeper.v1 import envelope_pb2

KINDS = "application/vnd.pacekeeper.v1.Tick"
SIGNERS = [signing_key(label) for label in ("one", "two", "three")]


def raw_envelope(signatures: list[tuple[bytes, bytes]], payload: bytes = b"payload") -> envelope_pb2.Envelope:
    return envelope_pb2.Envelope(
        payload_type=KINDS,
        payload=payload,
        signatures=[envelope_pb2.Signature(key_id=key, signature=signature) for key, signature in signatures],
    )


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def refusal_of(data: bytes, parse: Any = parse_envelope) -> Code:
    with pytest.raises(Refused) as caught:
        parse(data)
    assert not caught.value.message.endswith(".")
    code: Code = caught.value.code
    return code


def test_what_is_signed_is_the_dsse_encoding() -> None:
    """SPEC envelope-1: the example of the DSSE specification, and lengths in bytes rather than characters."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("ü", b"") == b"DSSEv1 2 \xc3\xbc 0 "


@given(st.tuples(st.text(max_size=9), st.binary(max_size=9)), st.tuples(st.text(max_size=9), st.binary(max_size=9)))
def test_two_statements_never_share_what_is_signed(a: tuple[str, bytes], b: tuple[str, bytes]) -> None:
    """SPEC envelope-1: no shift of bytes between type and payload goes unseen."""
    assert (pae(*a) == pae(*b)) == (a == b)


def test_identity_is_of_the_statement_and_not_of_its_signatures() -> None:
    """SPEC envelope-2."""
    one, other = (sign_envelope(KINDS, b"payload", [signer]) for signer in SIGNERS[:2])
    assert encode(one) != encode(other)
    names = {identity(pae(envelope.payload_type, envelope.payload)) for envelope in (one, other)}
    assert names == {hashlib.sha256(b"DSSEv1 34 application/vnd.pacekeeper.v1.Tick 7 payload").digest()}


def test_signing_sorts_by_key_id_and_verifies() -> None:
    """SPEC envelope-4."""
    envelope = sign_envelope(KINDS, b"payload", SIGNERS)
    ids = [signature.key_id for signature in envelope.signatures]
    assert ids == sorted(signer.key_id for signer in SIGNERS)
    assert parse_envelope(encode(envelope)) == envelope
    publics = {signer.key_id: signer.public for signer in SIGNERS}
    assert all(verify(publics[s.key_id], pae(KINDS, b"payload"), s.signature) for s in envelope.signatures)


def test_signatures_must_be_there_sorted_and_of_their_lengths() -> None:
    """SPEC envelope-4."""
    good = bytes(64)
    shapes: list[tuple[list[tuple[bytes, bytes]], Code]] = [
        ([], Code.MISSING_SIGNATURE),
        ([(key(2), good), (key(1), good)], Code.NOT_CANONICAL),
        ([(key(1), good), (key(1), good)], Code.NOT_CANONICAL),
        ([(key(1)[:31], good)], Code.MALFORMED),
        ([(key(1) + b"\x00", good)], Code.MALFORMED),
        ([(key(1), good[:63])], Code.MALFORMED),
        ([(b"", b"")], Code.MALFORMED),
        ([(key(n), good) for n in range(limits.MAX_SIGNATURES + 1)], Code.TOO_LARGE),
    ]
    for signatures, code in shapes:
        envelope = raw_envelope(signatures)
        assert refusal_of(encode(envelope)) is code
        assert refusal_of(encode_entry(5, envelope), parse_entry) is code
    parse_envelope(encode(raw_envelope([(key(n), good) for n in range(1, limits.MAX_SIGNATURES + 1)])))


def test_the_largest_envelope_makes_an_entry_that_fits() -> None:
    """SPEC envelope-5: else a log could admit what it cannot write."""
    room = limits.MAX_ENVELOPE_BYTES - len(encode(raw_envelope([(key(1), bytes(64))], bytes(60_000))))
    largest = encode(raw_envelope([(key(1), bytes(64))], bytes(60_000 + room)))
    assert len(largest) == limits.MAX_ENVELOPE_BYTES
    parse_envelope(largest)
    entry = frame_entry(limits.MAX_TIME_MS, largest)
    assert len(entry) <= limits.MAX_ENTRY_BYTES
    parse_entry(entry)
    too_large = encode(raw_envelope([(key(1), bytes(64))], bytes(60_001 + room)))
    assert refusal_of(too_large) is Code.TOO_LARGE
    assert refusal_of(bytes(limits.MAX_ENTRY_BYTES + 1), parse_entry) is Code.TOO_LARGE


def test_an_entry_is_of_a_time_that_calendars_know() -> None:
    """SPEC envelope-5."""
    envelope = sign_envelope(KINDS, b"", SIGNERS[:1])
    assert parse_entry(encode_entry(limits.MAX_TIME_MS, envelope)).sequenced_at_ms == limits.MAX_TIME_MS
    assert refusal_of(encode_entry(limits.MAX_TIME_MS + 1, envelope), parse_entry) is Code.BAD_FIELD
    assert refusal_of(encode_entry(2**64 - 1, envelope), parse_entry) is Code.BAD_FIELD


def test_an_entry_without_envelope_is_unsigned() -> None:
    assert refusal_of(b"\x08\x05", parse_entry) is Code.MISSING_SIGNATURE
    assert refusal_of(b"", parse_entry) is Code.MISSING_SIGNATURE


@pytest.mark.parametrize("change", [b"\x22\x00", b"\x1a\x00\x00", b"\xff", b"\x0a\x00"])
def test_bytes_beside_the_message_are_refused(change: bytes) -> None:
    """SPEC envelope-3."""
    data = encode(sign_envelope(KINDS, b"payload", SIGNERS[:1]))
    assert refusal_of(data + change) in (Code.NOT_CANONICAL, Code.MALFORMED)
    assert refusal_of(change + data) in (Code.NOT_CANONICAL, Code.MALFORMED)


@settings(max_examples=200)
@given(st.integers(0, 2**64 - 1), st.binary(max_size=300), st.integers(0, 3))
def test_framing_an_envelope_is_encoding_its_entry(time_ms: int, payload: bytes, signers: int) -> None:
    envelope = sign_envelope(KINDS, payload, SIGNERS[:signers])
    assert frame_entry(time_ms, encode(envelope)) == encode_entry(time_ms, envelope)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_raises_otherwise(data: bytes) -> None:
    for parse in (parse_envelope, parse_entry):
        assert refusal_of(data, parse) in (Code.NOT_CANONICAL, Code.MISSING_SIGNATURE, Code.MALFORMED)


def test_envelope_vectors_are_as_the_code_says() -> None:
    """Payloads, what is signed, what names it, and the bytes of envelope and entry."""
    found = []
    for why, payload, signers in (
        ("one signature", b"payload", SIGNERS[:1]),
        ("no payload is a payload, and is not written", b"", SIGNERS[:1]),
        ("three signatures, in order of key id", b"\x00\xff", SIGNERS),
    ):
        envelope = sign_envelope(KINDS, payload, signers)
        message = pae(KINDS, payload)
        found.append(
            {
                "why": why,
                "payload_type": KINDS,
                "payload": payload,
                "public_keys": [signer.public for signer in sorted(signers, key=lambda s: s.key_id)],
                "pae": message,
                "identity": identity(message),
                "envelope": encode(envelope),
                "sequenced_at_ms": 1_767_225_600_000,
                "entry": encode_entry(1_767_225_600_000, envelope),
            }
        )
    check_json(VECTORS / "envelope" / "envelopes.json", found)
