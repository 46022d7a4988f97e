"""Envelopes: a statement's exact bytes and the signatures over them (DSSE).

What is signed is PAE(payload_type, payload) of the DSSE specification; a statement's identity, for links, references
and deduplication, is the SHA-256 of that. What is stored and hashed is the exact bytes received, and only one encoding
of them is accepted.

Example: identity(pae("application/vnd.pacekeeper.v1.Tick", payload)) names that tick for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, Protocol

from pacekeeper.protocol import limits
from pacekeeper.protocol.canonical import parse_canonical
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import envelope_pb2

PAYLOAD_TYPE_PREFIX: Final = "application/vnd.pacekeeper.v1."


class Signer(Protocol):
    """Whatever can sign for one Ed25519 key: a file key, an agent, a token."""

    @property
    def key_id(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of a payload.

    SPEC envelope-1: signatures MUST be over "DSSEv1", the lengths and the bytes of type and payload, space-separated.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def identity(pae_bytes: bytes) -> bytes:
    """Return the 32-byte identity of a statement: SHA-256 of its PAE.

    SPEC envelope-2: identity MUST be taken over the PAE, so that it depends on neither signatures nor encoding.
    """
    return hashlib.sha256(pae_bytes).digest()


def sign_envelope(payload_type: str, payload: bytes, signers: Iterable[Signer]) -> envelope_pb2.Envelope:
    """Sign a payload with each signer; signatures come sorted by key id."""
    message = pae(payload_type, payload)
    pairs = sorted((signer.key_id, signer.sign(message)) for signer in signers)
    return envelope_pb2.Envelope(
        payload_type=payload_type,
        payload=payload,
        signatures=[envelope_pb2.Signature(key_id=key, signature=signature) for key, signature in pairs],
    )


def encode(envelope: envelope_pb2.Envelope) -> bytes:
    """Serialize an envelope in canonical form."""
    return envelope.SerializeToString(deterministic=True)


def parse_envelope(data: bytes) -> envelope_pb2.Envelope:
    """Parse exact bytes as an envelope in canonical form; signatures are not verified here.

    Raises Refused: too-large, malformed, not-canonical, missing-signature.
    SPEC envelope-4: signatures MUST ascend by key id without repetition, and there MUST be at least one.
    """
    # SPEC envelope-5: an envelope MUST have at most 65,522 bytes and an entry 65,535, in time before the year 10000.
    if len(data) > limits.MAX_ENVELOPE_BYTES:
        raise Refused(Code.TOO_LARGE, f"envelope of {len(data)} bytes, at most {limits.MAX_ENVELOPE_BYTES}")
    envelope = envelope_pb2.Envelope()
    if not parse_canonical(envelope, data):
        raise Refused(Code.NOT_CANONICAL, "envelope is not a message in canonical form")
    check_signatures_shape(envelope)
    return envelope


def check_signatures_shape(envelope: envelope_pb2.Envelope) -> None:
    """Raise Refused unless signatures are present, bounded, of the right lengths and sorted by distinct key id."""
    signatures = envelope.signatures
    count = len(signatures)
    if count == 0:
        raise Refused(Code.MISSING_SIGNATURE, "envelope has no signature")
    if count > limits.MAX_SIGNATURES:
        raise Refused(Code.TOO_LARGE, f"{count} signatures, at most {limits.MAX_SIGNATURES}")
    previous = b""
    for signature in signatures:
        key = signature.key_id
        if len(key) != 32 or len(signature.signature) != 64:
            raise Refused(Code.MALFORMED, "a key id has 32 bytes and a signature 64")
        if key <= previous:
            raise Refused(Code.NOT_CANONICAL, "signatures are not in ascending order of key id")
        previous = key


def encode_entry(sequenced_at_ms: int, envelope: envelope_pb2.Envelope) -> bytes:
    """Serialize an entry in canonical form: the bytes of the Merkle leaf."""
    return envelope_pb2.Entry(sequenced_at_ms=sequenced_at_ms, envelope=envelope).SerializeToString(deterministic=True)


def frame_entry(sequenced_at_ms: int, envelope_bytes: bytes) -> bytes:
    """Build an entry's canonical bytes around the exact bytes of a canonical envelope, without decoding it."""
    head = b"\x08" + _varint(sequenced_at_ms) if sequenced_at_ms else b""
    return head + b"\x12" + _varint(len(envelope_bytes)) + envelope_bytes


def parse_entry(data: bytes) -> envelope_pb2.Entry:
    """Parse exact bytes as an entry in canonical form; signatures are not verified here.

    Raises Refused: too-large, not-canonical, missing-signature, malformed.
    """
    if len(data) > limits.MAX_ENTRY_BYTES:
        raise Refused(Code.TOO_LARGE, f"entry of {len(data)} bytes, at most {limits.MAX_ENTRY_BYTES}")
    entry = envelope_pb2.Entry()
    if not parse_canonical(entry, data):
        raise Refused(Code.NOT_CANONICAL, "entry is not a message in canonical form")
    if entry.sequenced_at_ms > limits.MAX_TIME_MS:
        raise Refused(Code.BAD_FIELD, "entry's time is out of range")
    check_signatures_shape(entry.envelope)
    return entry


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
