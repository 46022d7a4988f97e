"""Envelopes: a statement's exact bytes and the signatures over them (DSSE).

What is signed is PAE(payload_type, payload) of the DSSE specification; a statement's identity, for links, references
and deduplication, is the SHA-256 of that. What is stored and hashed is the exact bytes received, and only one encoding
of them is accepted.

Example: identity(pae("application/vnd.pacekeeper.v1.Tick", payload)) names that tick for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from pacekeeper.protocol import limits
from pacekeeper.protocol.canonical import parse_canonical
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import envelope_pb2

PAYLOAD_TYPE_PREFIX: Final = "application/vnd.pacekeeper.v1."

_TOPS: Final = 0x80_80_80_80_80_80  # of six bytes, the topmost bits
_TOPS_OF_SIX: Final = 0x00_80_80_80_80_80  # and how they are in a number of six
_new: Final = tuple.__new__  # a NamedTuple's own constructor costs twice as much, and here every entry passes


class Signer(Protocol):
    """Whatever can sign for one Ed25519 key: a file key, an agent, a token."""

    @property
    def key_id(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


class Signed(NamedTuple):
    """What an envelope holds, each part read once: fields of a message are copied at every reading.

    signatures: (key id, signature), ascending by key id. message: what they are over, the PAE. id: the identity.
    """

    payload_type: str
    payload: bytes
    signatures: list[tuple[bytes, bytes]]
    message: bytes
    id: bytes


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
    envelope = parse_canonical(envelope_pb2.Envelope, data)
    if envelope is None:
        raise Refused(Code.NOT_CANONICAL, "envelope is not a message in canonical form")
    _pairs(envelope)
    return envelope


def read_envelope(envelope: envelope_pb2.Envelope) -> Signed:
    """Read a parsed envelope, each field once. Raises Refused as parse_envelope does."""
    payload_type, payload = envelope.payload_type, envelope.payload
    pairs = _pairs(envelope)
    message = pae(payload_type, payload)
    return _new(Signed, (payload_type, payload, pairs, message, hashlib.sha256(message).digest()))


def parse_signed(data: bytes) -> Signed:
    """As read_envelope of parse_envelope, at a third of the cost for nearly all envelopes."""
    return (len(data) <= limits.MAX_ENVELOPE_BYTES and _slice(data, 0)) or read_envelope(parse_envelope(data))


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
    entry = _parse_entry(data)
    _pairs(entry.envelope)
    return entry


def read_entry(data: bytes) -> tuple[int, Signed]:
    """As parse_entry, but return the log time and what the envelope holds, each part read once."""
    # Nearly every entry has a time of six bytes and, after its tag, an envelope's length of two.
    size = len(data)
    if 10 < size <= limits.MAX_ENTRY_BYTES and data[0] == 0x08 and data[7] == 0x12:
        packed, low, high = int.from_bytes(data[1:7], "little"), data[8], data[9]
        if (
            packed & _TOPS == _TOPS_OF_SIX
            and data[6]
            and low >= 0x80 > high > 0
            and low - 0x80 + (high << 7) == size - 10
        ):
            signed = _slice(data, 10)
            if signed is not None:
                return _time_ms(packed), signed
    entry = _parse_entry(data)
    return entry.sequenced_at_ms, read_envelope(entry.envelope)


def _slice(data: bytes, at: int) -> Signed | None:
    """Read the envelope that begins there and ends with the bytes; None for any but the commonest kind.

    That is one with a single signature, whose end is then 102 bytes with every length known, and a payload of at most
    16,383 bytes. SPEC envelope-3: each length is compared with what it MUST be, in its shortest form, and each tag; an
    envelope that passes is the canonical one. What is anything else is left to a full reading, which says so.
    """
    tail = len(data) - 102
    if tail < at + 3 or data[tail : tail + 4] != b"\x1a\x64\x0a\x20" or data[tail + 36 : tail + 38] != b"\x12\x40":
        return None
    start = at + 3 + data[at + 1]
    kind = _kind(data[at:start])
    if kind is None or start + 1 >= tail:
        return None
    length = data[start]
    start += 1
    if length >= 0x80:
        high = data[start]
        if not 0 < high < 0x80:
            return None
        length += (high << 7) - 0x80
        start += 1
    if length != tail - start or length == 0:
        return None
    payload = data[start:tail]
    payload_type, head = kind
    message = b"%b%d %b" % (head, length, payload)
    signatures = [(data[tail + 4 : tail + 36], data[tail + 38 :])]
    return _new(Signed, (payload_type, payload, signatures, message, hashlib.sha256(message).digest()))


@lru_cache(maxsize=64)
def _kind(data: bytes) -> tuple[str, bytes] | None:
    """Return a payload type and how its PAE begins, from its field and the tag of the one after it."""
    if len(data) < 4 or data[0] != 0x0A or data[1] != len(data) - 3 or data[1] >= 0x80 or data[-1] != 0x12:
        return None
    try:
        return data[2:-1].decode(), b"DSSEv1 %d %b " % (data[1], data[2:-1])
    except UnicodeDecodeError:
        return None


def _time_ms(packed: int) -> int:
    """Return the number whose six bytes, of seven bits each, these are."""
    return (
        (packed & 0x7F)
        | (packed >> 1 & 0x3F80)
        | (packed >> 2 & 0x1FC000)
        | (packed >> 3 & 0xFE00000)
        | (packed >> 4 & 0x7F0000000)
        | (packed >> 5 & 0x3F800000000)
    )


def _parse_entry(data: bytes) -> envelope_pb2.Entry:
    if len(data) > limits.MAX_ENTRY_BYTES:
        raise Refused(Code.TOO_LARGE, f"entry of {len(data)} bytes, at most {limits.MAX_ENTRY_BYTES}")
    entry = parse_canonical(envelope_pb2.Entry, data)
    if entry is None:
        raise Refused(Code.NOT_CANONICAL, "entry is not a message in canonical form")
    if entry.sequenced_at_ms > limits.MAX_TIME_MS:
        raise Refused(Code.BAD_FIELD, "entry's time is out of range")
    return entry


def _pairs(envelope: envelope_pb2.Envelope) -> list[tuple[bytes, bytes]]:
    """Return (key id, signature) of each signature; Refused unless they are as SPEC envelope-4 has it."""
    pairs: list[tuple[bytes, bytes]] = []
    previous = b""
    # A slice is a list, made at once; iterating over the field itself costs an exception at its end.
    for signature in envelope.signatures[:]:
        key_id, value = signature.key_id, signature.signature
        if len(key_id) != 32 or len(value) != 64:
            raise Refused(Code.MALFORMED, "a key id has 32 bytes and a signature 64")
        if key_id <= previous:
            raise Refused(Code.NOT_CANONICAL, "signatures are not in ascending order of key id")
        previous = key_id
        pairs.append((key_id, value))
    if not pairs:
        raise Refused(Code.MISSING_SIGNATURE, "envelope has no signature")
    if len(pairs) > limits.MAX_SIGNATURES:
        raise Refused(Code.TOO_LARGE, f"{len(pairs)} signatures, at most {limits.MAX_SIGNATURES}")
    return pairs


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
