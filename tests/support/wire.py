"""Protobuf's wire format by hand: random messages of any type, and every way to spell a message wrongly.

A message is taken apart into fields (number, wire type, value) and put together again with a change that honest
encoders never make.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

Field: TypeAlias = tuple[int, int, bytes]  # number, wire type, the value's bytes (without length)

_TEXTS = st.sampled_from(["", "a", "run-1", "borealis", "Ünïcode", "\x00", "x" * 130])
_BYTES = st.sampled_from([b"", b"\x00", b"\xff\xff\xff\xff\x01", bytes(32), b"\x80" * 9, b"\x12\x00"])
_NUMBERS = st.sampled_from([0, 1, 2, 127, 128, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1])


def varint(value: int, padding: int = 0) -> bytes:
    """Encode a number, with padding more bytes than it needs."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(padding):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def split(data: bytes) -> list[Field]:
    """Take well-formed bytes with varint and length-delimited fields apart."""
    fields: list[Field] = []
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        if tag & 7 == 0:
            start = position
            _, position = read_varint(data, position)
            fields.append((tag >> 3, 0, data[start:position]))
        else:
            length, position = read_varint(data, position)
            fields.append((tag >> 3, 2, data[position : position + length]))
            position += length
    return fields


def join(fields: list[Field]) -> bytes:
    out = b""
    for number, wire_type, value in fields:
        out += varint(number << 3 | wire_type)
        out += varint(len(value)) + value if wire_type == 2 else value
    return out


@st.composite
def messages(draw: st.DrawFn, descriptor: Any, depth: int = 0) -> Message:
    """A message of a type with any of its fields set, to values that its statement need not allow."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if draw(st.integers(0, 3)) == 0 or depth > 5:
            continue
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name) is not None:
            continue
        if field.is_repeated:
            for _ in range(draw(st.integers(0, 3))):
                if field.type == FieldDescriptor.TYPE_MESSAGE:
                    getattr(message, field.name).add().CopyFrom(draw(messages(field.message_type, depth + 1)))
                else:
                    getattr(message, field.name).append(draw(_value(field)))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(draw(messages(field.message_type, depth + 1)))
        else:
            setattr(message, field.name, draw(_value(field)))
    return message


def _value(field: Any) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return _TEXTS
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _BYTES
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.sampled_from([0, 1, 2, 7, 99, 2**31 - 1, -1, -(2**31)])
    if field.type == FieldDescriptor.TYPE_UINT32:
        return st.sampled_from([0, 1, 127, 128, 1_000_000, 2**32 - 1])
    return _NUMBERS


@st.composite
def misspelt(draw: st.DrawFn, descriptor: Any, data: bytes) -> bytes:
    """The bytes of a message with one structural change, at any depth; it may happen to be none."""
    fields = split(data)
    nested = [
        (place, inner)
        for place, (number, wire_type, _) in enumerate(fields)
        if wire_type == 2 and (inner := _message_type(descriptor, number)) is not None
    ]
    descend: bool = draw(st.booleans())
    if nested and descend:
        place, inner = nested[draw(st.integers(0, len(nested) - 1))]
        number, wire_type, value = fields[place]
        fields[place] = (number, wire_type, draw(misspelt(inner, value)))
        return join(fields)
    changed: bytes = draw(st.sampled_from(_CHANGES))(draw, descriptor, fields)
    return changed


def _message_type(descriptor: Descriptor, number: int) -> Descriptor | None:
    field = descriptor.fields_by_number.get(number)
    return None if field is None or field.type != FieldDescriptor.TYPE_MESSAGE else field.message_type


def _reorder(draw: st.DrawFn, _: Any, fields: list[Field]) -> bytes:
    return join(draw(st.permutations(fields)))


def _duplicate(draw: st.DrawFn, _: Any, fields: list[Field]) -> bytes:
    if not fields:
        return b""
    place = draw(st.integers(0, len(fields) - 1))
    return join([*fields[: place + 1], *fields[place:]])


def _delete(draw: st.DrawFn, _: Any, fields: list[Field]) -> bytes:
    if fields:
        del fields[draw(st.integers(0, len(fields) - 1))]
    return join(fields)


def _pad_tag(draw: st.DrawFn, _: Any, fields: list[Field]) -> bytes:
    place = draw(st.integers(0, len(fields)))
    if place == len(fields):
        return join(fields)
    number, wire_type, value = fields[place]
    tag = varint(number << 3 | wire_type, draw(st.integers(1, 3)))
    content = varint(len(value)) + value if wire_type == 2 else value
    return join(fields[:place]) + tag + content + join(fields[place + 1 :])


def _pad_length(draw: st.DrawFn, _: Any, fields: list[Field]) -> bytes:
    out = b""
    chosen = draw(st.integers(0, max(0, len(fields) - 1)))
    for place, (number, wire_type, value) in enumerate(fields):
        padding = 1 if place == chosen else 0
        out += varint(number << 3 | wire_type)
        if wire_type == 2:
            out += varint(len(value), padding) + value
        else:
            out += varint(read_varint(value, 0)[0], padding)
    return out


def _unknown(draw: st.DrawFn, descriptor: Any, fields: list[Field]) -> bytes:
    number = draw(st.sampled_from([15, 16, 1000, 2**28, 2**29 - 1]))
    extra = draw(st.sampled_from([(number, 0, b"\x01"), (number, 2, b""), (number, 5, b"abcd"), (number, 1, b"8" * 8)]))
    place = draw(st.integers(0, len(fields)))
    return join([*fields[:place], extra, *fields[place:]])


def _default(draw: st.DrawFn, descriptor: Any, fields: list[Field]) -> bytes:
    field = draw(st.sampled_from(list(descriptor.fields)))
    empty = field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)
    extra = (field.number, 2, b"") if empty or field.is_repeated else (field.number, 0, b"\x00")
    kept = [f for f in fields if f[0] != field.number]
    return join(sorted([*kept, extra], key=lambda f: f[0]))


def _split_packed(draw: st.DrawFn, descriptor: Any, fields: list[Field]) -> bytes:
    out: list[Field] = []
    unpacked = draw(st.booleans())
    for number, wire_type, value in fields:
        field = descriptor.fields_by_number.get(number)
        if field is None or not field.is_repeated or field.type != FieldDescriptor.TYPE_UINT64 or not value:
            out.append((number, wire_type, value))
            continue
        position = 0
        while position < len(value):
            start = position
            _, position = read_varint(value, position)
            out.append((number, 0 if unpacked else 2, value[start:position]))
    return join(out)


def _second_choice(draw: st.DrawFn, descriptor: Any, fields: list[Field]) -> bytes:
    members = [field.number for oneof in descriptor.oneofs for field in oneof.fields]
    if not members:
        return join(fields)
    extra = (draw(st.sampled_from(members)), 2, b"")
    return join(sorted([*fields, extra], key=lambda f: f[0]))


def _wrong_wire_type(draw: st.DrawFn, _: Any, fields: list[Field]) -> bytes:
    if not fields:
        return b"\x0b\x0c"  # an empty group
    place = draw(st.integers(0, len(fields) - 1))
    number, wire_type, value = fields[place]
    other = (number, 0, b"\x05") if wire_type == 2 else (number, 2, value)
    return join([*fields[:place], other, *fields[place + 1 :]])


def _wide(draw: st.DrawFn, descriptor: Any, fields: list[Field]) -> bytes:
    """A number over 64 bits, over its field's width, a negative one, or one of eleven bytes."""
    numbers = [field.number for field in descriptor.fields if _is_number(field)]
    if not numbers:
        return join(fields)
    number = draw(st.sampled_from(numbers))
    value = draw(
        st.sampled_from(
            [
                b"\xff" * 9 + b"\x02",
                b"\xff" * 10 + b"\x01",
                varint(2**32),
                varint(2**31),
                varint(2**64 - 5),
                b"\xff" * 10,
            ]
        )
    )
    kept = [f for f in fields if f[0] != number]
    return join(sorted([*kept, (number, 0, value)], key=lambda f: f[0]))


def _is_number(field: Any) -> bool:
    return not field.is_repeated and field.type in (
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_ENUM,
    )


def _not_utf8(draw: st.DrawFn, descriptor: Any, fields: list[Field]) -> bytes:
    texts = [field.number for field in descriptor.fields if field.type == FieldDescriptor.TYPE_STRING]
    if not texts:
        return join(fields)
    number = draw(st.sampled_from(texts))
    value = draw(st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"a\x80", b"\xe2\x82"]))
    kept = [f for f in fields if f[0] != number]
    return join(sorted([*kept, (number, 2, value)], key=lambda f: f[0]))


_CHANGES = [
    _reorder,
    _duplicate,
    _delete,
    _pad_tag,
    _pad_length,
    _unknown,
    _default,
    _split_packed,
    _second_choice,
    _wrong_wire_type,
    _wide,
    _not_utf8,
]


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with one byte flipped, inserted or taken away, or cut short."""
    place = draw(st.integers(0, len(data)))
    kind = draw(st.sampled_from(["flip", "insert", "delete", "cut"]))
    if kind == "insert":
        return data[:place] + bytes([draw(st.integers(0, 255))]) + data[place:]
    if kind == "cut" or place == len(data):
        return data[:place]
    if kind == "delete":
        return data[:place] + data[place + 1 :]
    return data[:place] + bytes([data[place] ^ draw(st.integers(1, 255))]) + data[place + 1 :]


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """The same bytes with some changed: bits turned, bytes set, swapped or moved, so that most keep their length."""
    choose = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(choose.choice((1, 1, 1, 2, 3))):
            place = choose.randrange(len(changed))
            match choose.randrange(5):
                case 0:
                    changed[place] ^= 1 << choose.randrange(8)
                case 1:
                    changed[place] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256)))
                case 2:
                    other = choose.randrange(len(changed))
                    changed[place], changed[other] = changed[other], changed[place]
                case 3 if len(changed) > 1:
                    changed.insert(choose.randrange(len(changed)), changed.pop(place))
                case _:
                    changed[place : place + choose.randrange(2)] = bytes(choose.randrange(2))
        yield bytes(changed)
