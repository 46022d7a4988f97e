"""The one encoding of a message: the walker, which is the rule, against the fast path that the replay uses."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors import VECTORS, check_json
from wire import damaged, join, messages, misspelt, varint

from pacekeeper.protocol.canonical import NotCanonical, check_canonical, parse_canonical
from pacekeeper.protocol.statements import STATEMENTS
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

TYPES: list[type[Message]] = [*STATEMENTS.values(), envelope_pb2.Envelope, envelope_pb2.Entry, pb.Acceptance]


def walker_accepts(message_class: type[Message], data: bytes) -> bool:
    descriptor: Any = message_class.DESCRIPTOR
    try:
        check_canonical(descriptor, data)
    except NotCanonical:
        return False
    return True


def fast_path_accepts(message_class: type[Message], data: bytes) -> bool:
    return parse_canonical(message_class, data) is not None


def has_negative(data: bytes) -> bool:
    return b"\xff\xff\xff\xff\x01" in data


@settings(max_examples=300)
@given(st.data())
def test_what_the_encoder_writes_is_canonical(data: st.DataObject) -> None:
    """SPEC envelope-3: but for negative enumeration values, which encoders write and the rule refuses."""
    message_class = data.draw(st.sampled_from(TYPES))
    encoded = data.draw(messages(message_class.DESCRIPTOR)).SerializeToString(deterministic=True)
    if not has_negative(encoded):
        assert walker_accepts(message_class, encoded)
    assert fast_path_accepts(message_class, encoded) == walker_accepts(message_class, encoded)


@settings(max_examples=900)
@given(st.data())
def test_walker_and_fast_path_agree_on_misspelt_messages(data: st.DataObject) -> None:
    """SPEC envelope-3: reordered, repeated, padded, unknown, default, unpacked, second of a choice, too wide."""
    message_class = data.draw(st.sampled_from(TYPES))
    encoded = data.draw(messages(message_class.DESCRIPTOR)).SerializeToString(deterministic=True)
    changed = data.draw(misspelt(message_class.DESCRIPTOR, encoded))
    assert fast_path_accepts(message_class, changed) == walker_accepts(message_class, changed), changed.hex()


@settings(max_examples=600)
@given(st.data())
def test_walker_and_fast_path_agree_on_damaged_messages(data: st.DataObject) -> None:
    """SPEC envelope-3."""
    message_class = data.draw(st.sampled_from(TYPES))
    changed = data.draw(messages(message_class.DESCRIPTOR)).SerializeToString(deterministic=True)
    for _ in range(data.draw(st.integers(1, 3))):
        changed = data.draw(damaged(changed))
    assert fast_path_accepts(message_class, changed) == walker_accepts(message_class, changed), changed.hex()


@settings(max_examples=300)
@given(st.sampled_from(TYPES), st.binary(max_size=60))
def test_walker_and_fast_path_agree_on_noise(message_class: type[Message], data: bytes) -> None:
    """SPEC envelope-3."""
    assert fast_path_accepts(message_class, data) == walker_accepts(message_class, data), data.hex()


def test_one_message_has_one_accepted_spelling() -> None:
    """Two accepted spellings never parse to equal messages: what makes an identity an identity."""
    tick = pb.Tick(agreement=bytes(32), index=300)
    encoded = tick.SerializeToString(deterministic=True)
    for other in (
        join([(2, 0, varint(300)), (1, 2, bytes(32))]),
        join([(1, 2, bytes(32)), (2, 0, varint(300, 1))]),
        join([(1, 2, bytes(32)), (2, 0, varint(1)), (2, 0, varint(300))]),
        encoded + b"\x18\x01",
    ):
        read = pb.Tick()
        read.ParseFromString(other)
        read.DiscardUnknownFields()
        assert read == tick, "a lenient reader takes it for the same"
        assert not fast_path_accepts(pb.Tick, other)
        assert not walker_accepts(pb.Tick, other)


HEAD = join([(1, 2, bytes(32))])
DECLARATION = join([(1, 2, bytes(32)), (2, 2, b"borealis"), (3, 2, b"run-1")])

# (why, message, bytes, what the walker says)
REFUSALS: list[tuple[str, type[Message], bytes, str]] = [
    ("index 0 is the default", pb.Tick, HEAD + b"\x10\x00", "default value written"),
    ("300 in three bytes", pb.Tick, HEAD + b"\x10\xac\x82\x00", "number with padding"),
    ("a padded tag", pb.Tick, HEAD + b"\x90\x00\x05", "number with padding"),
    ("fields backwards", pb.Tick, b"\x10\x05" + HEAD, "out of order"),
    ("a field twice", pb.Tick, HEAD + b"\x10\x05\x10\x05", "out of order or repeated"),
    ("an unknown field", pb.Tick, HEAD + b"\x18\x01", "unknown field 3"),
    ("a number over 64 bits", pb.Tick, HEAD + b"\x10" + b"\xff" * 9 + b"\x02", "over 64 bits"),
    ("eleven bytes", pb.Tick, HEAD + b"\x10" + b"\xff" * 10 + b"\x01", "longer than ten bytes"),
    ("cut inside a number", pb.Tick, HEAD + b"\x10\xac", "ends inside a number"),
    ("a length past the end", pb.Tick, b"\x0a\x21" + bytes(32), "runs past its end"),
    ("bytes where a number belongs", pb.Tick, HEAD + b"\x12\x01\x05", "wrong wire type"),
    ("a number where bytes belong", pb.Tick, b"\x08\x05", "wrong wire type"),
    ("empty bytes written", pb.Tick, b"\x0a\x00\x10\x05", "default value written"),
    ("a group", pb.Tick, HEAD + b"\x1b\x1c", "unknown field 3"),
    ("text that is not UTF-8", pb.RunDeclaration, DECLARATION + b"\x22\x01\xff", "not UTF-8"),
    ("a surrogate in UTF-8", pb.RunDeclaration, DECLARATION + b"\x22\x03\xed\xa0\x80", "not UTF-8"),
    ("parents not packed", pb.RunDeclaration, DECLARATION + b"\x38\x05", "wrong wire type"),
    ("parents packed twice", pb.RunDeclaration, DECLARATION + b"\x3a\x01\x05\x3a\x01\x06", "packed in two pieces"),
    ("no parents, packed", pb.RunDeclaration, DECLARATION + b"\x3a\x00", "empty packed field"),
    ("a padded parent", pb.RunDeclaration, DECLARATION + b"\x3a\x02\x85\x00", "number with padding"),
    ("a parent cut by its list", pb.RunDeclaration, DECLARATION + b"\x3a\x01\x85", "ends inside a number"),
    ("a negative choice", pb.RunDeclaration, DECLARATION + b"\x28" + varint(2**64 - 1), "over 31 bits"),
    ("a margin over 32 bits", pb.Estimate, b"\x08\x01\x18" + varint(2**32), "over 32 bits"),
    ("two kinds of evidence", pb.Evidence, b"\x0a\x00\x12\x00", "two members of one choice"),
    ("one kind of evidence twice", pb.Evidence, b"\x0a\x00\x0a\x00", "out of order or repeated"),
]


@pytest.mark.parametrize(("why", "message_class", "data", "says"), REFUSALS, ids=[case[0] for case in REFUSALS])
def test_the_walker_says_where(why: str, message_class: type[Message], data: bytes, says: str) -> None:
    """SPEC envelope-3."""
    descriptor: Any = message_class.DESCRIPTOR
    with pytest.raises(NotCanonical, match=says):
        check_canonical(descriptor, data)
    assert not fast_path_accepts(message_class, data)


def test_canonical_vectors_are_as_the_code_says() -> None:
    accepted = [
        ("a tick", pb.Tick, HEAD + b"\x10\x05"),
        ("a tick at index 0, which is not written", pb.Tick, HEAD),
        ("nothing at all is the empty message", pb.Tick, b""),
        ("packed parents", pb.RunDeclaration, DECLARATION + b"\x3a\x03\x05\xac\x02"),
        ("a choice that no version knows, left to the statement's shape", pb.RunDeclaration, DECLARATION + b"\x28\x63"),
        ("an empty message that is there", pb.ComputeAttestation, b"\x22\x00"),
        ("an empty member of a choice", pb.Evidence, b"\x0a\x00"),
    ]
    found: list[dict[str, object]] = []
    cases: list[tuple[str, type[Message], bytes]] = [*accepted, *(case[:3] for case in REFUSALS)]
    for why, message_class, data in cases:
        canonical = walker_accepts(message_class, data)
        assert canonical == fast_path_accepts(message_class, data) == (len(found) < len(accepted)), why
        found.append({"why": why, "message": message_class.DESCRIPTOR.name, "bytes": data, "canonical": canonical})
    check_json(VECTORS / "envelope" / "canonical.json", found)
