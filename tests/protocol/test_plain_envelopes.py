"""Envelopes and entries of the commonest kind are read without protobuf: against the full reading."""

from __future__ import annotations

import os

import pytest
from wire import mutations

from pacekeeper.protocol import envelope
from pacekeeper.protocol.envelope import frame_entry, parse_entry, parse_envelope, parse_signed, read_entry
from pacekeeper.protocol.errors import Refused
from pacekeeper.v1 import envelope_pb2

KIND = "application/vnd.pacekeeper.v1.ComputeAttestation"
FUZZ = int(os.environ.get("PACEKEEPER_FUZZ", "20000"))  # changes in all; a run of millions is by hand


def signed_or_code(data: bytes, *, quickly: bool) -> object:
    try:
        return parse_signed(data) if quickly else envelope.read_envelope(parse_envelope(data))
    except Refused as refused:
        return refused.code


def entry_or_code(data: bytes, *, quickly: bool) -> object:
    try:
        if quickly:
            return read_entry(data)
        entry = parse_entry(data)
        return entry.sequenced_at_ms, envelope.read_envelope(entry.envelope)
    except Refused as refused:
        return refused.code


def made(kind: str = KIND, size: int = 250, signatures: int = 1) -> bytes:
    made_up = envelope_pb2.Envelope(
        payload_type=kind,
        payload=b"\x1a" * size,
        signatures=[
            envelope_pb2.Signature(key_id=bytes([7 + number] * 32), signature=b"s" * 64) for number in range(signatures)
        ],
    )
    return made_up.SerializeToString(deterministic=True)


ENVELOPES = [
    *(made(size=size) for size in (0, 1, 20, 127, 128, 16_383, 16_384, 65_000)),
    *(made(kind) for kind in ("", "a", "ü", "x" * 127, "x" * 128)),
    *(made(signatures=count) for count in (0, 2, 33)),
    made() + b"\x00",
    made().replace(b"\x07" * 32, b"\x07" * 31 + b"\x08"),
]
TIMES = [
    0,
    1,
    127,
    2**35 - 1,
    2**35,
    1_700_000_000_000,
    2**42 - 1,
    2**42,
    253_402_300_799_999,
    253_402_300_800_000,
    2**63,
]


@pytest.mark.parametrize("data", ENVELOPES)
def test_envelopes_are_read_the_same_quickly_and_in_full(data: bytes) -> None:
    """SPEC envelope-3, SPEC envelope-4, SPEC envelope-5."""
    assert signed_or_code(data, quickly=True) == signed_or_code(data, quickly=False)
    for time_ms in TIMES:
        entry = frame_entry(time_ms, data)
        assert entry_or_code(entry, quickly=True) == entry_or_code(entry, quickly=False)


def length(value: int) -> bytes:
    """A length below 128 in two bytes, one more than it needs."""
    return bytes([0x80 | value, 0])


@pytest.mark.parametrize("size", [1, 10, 20])
def test_padded_lengths_are_not_canonical_however_they_are_read(size: int) -> None:
    """SPEC envelope-3: of a payload, and of an envelope so short that its length needs one byte."""
    plain = made("a", size)
    padded = plain.replace(bytes([0x12, size]), b"\x12" + length(size))
    assert signed_or_code(padded, quickly=True) == signed_or_code(padded, quickly=False) == "not-canonical"
    assert len(plain) < 128
    entry = frame_entry(1_700_000_000_000, plain)
    assert entry[7:9] == bytes([0x12, len(plain)])
    padded = entry[:8] + length(len(plain)) + plain
    assert entry_or_code(padded, quickly=True) == entry_or_code(padded, quickly=False) == "not-canonical"


def test_changed_envelopes_and_entries_are_read_the_same_quickly_and_in_full() -> None:
    """SPEC envelope-3: thousands of changes, among them of the short one whose bytes are nearly all structure."""
    for seed, data in enumerate((made(size=3), made(size=200), made("x", 128))):
        for changed in mutations(data, FUZZ // 3, seed):
            assert signed_or_code(changed, quickly=True) == signed_or_code(changed, quickly=False), changed.hex()
        for changed in mutations(frame_entry(1_700_000_000_000, data), FUZZ // 3, seed):
            assert entry_or_code(changed, quickly=True) == entry_or_code(changed, quickly=False), changed.hex()
