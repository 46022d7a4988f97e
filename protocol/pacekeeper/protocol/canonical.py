"""The canonical form of a statement's bytes, checked by walking the wire format.

Protobuf has many encodings for one message; Pacekeeper accepts exactly one, so that a hash names a statement. The
walker knows the message's descriptor and nothing else about protobuf libraries. It is the specification;
`parse_canonical` re-encodes instead, which is what the replay uses, and a test holds the two together on hostile bytes.

Example: b"\\x10\\x00" for Tick is refused, since index 0 is a default value and defaults are not written.
"""

from __future__ import annotations

from typing import Final, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)

_VARINT_TYPES: Final = frozenset(
    {
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_ENUM,
        FieldDescriptor.TYPE_BOOL,
        FieldDescriptor.TYPE_SINT64,
    }
)
_MAX_DEPTH: Final = 8  # statements nest five deep at most
# Within every negative enumeration value, and hardly anywhere else. Libraries keep those, the canonical form does not.
_NEGATIVE: Final = b"\xff\xff\xff\xff\x01"


class NotCanonical(ValueError):
    """Why the bytes are not the canonical encoding; the message says where."""


def check_canonical(descriptor: Descriptor, data: bytes) -> None:
    """Raise NotCanonical unless data is the canonical encoding of a message of this type.

    SPEC envelope-3: fields MUST ascend by number, each singular field at most once; varints MUST be minimal; repeated
    numbers MUST be packed; default values, unknown fields, maps, groups and floats MUST NOT occur; text MUST be UTF-8.
    """
    _walk(descriptor, data, 0, len(data), 0)


def parse_canonical(message_class: type[M], data: bytes) -> M | None:
    """Return data as a message of that class, None unless it is well-formed and the canonical encoding.

    That is, unless the message serializes to data again once unknown fields are gone.
    """
    try:
        message = message_class.FromString(data)
    except DecodeError:
        return None
    message.DiscardUnknownFields()
    # Not asked to be deterministic: that concerns maps only, which no message has, and costs twice the time.
    if message.SerializeToString() != data:
        return None
    if _NEGATIVE in data and not _is_canonical(cast(Descriptor, message_class.DESCRIPTOR), data):
        return None
    return message


def _is_canonical(descriptor: Descriptor, data: bytes) -> bool:
    try:
        check_canonical(descriptor, data)
    except NotCanonical:
        return False
    return True


def _walk(descriptor: Descriptor, data: bytes, position: int, end: int, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise NotCanonical(f"{descriptor.name}: nested too deep")
    fields = descriptor.fields_by_number
    last = 0
    seen_oneofs: set[str] = set()
    while position < end:
        tag, position = _varint(data, position, end)
        number, wire_type = tag >> 3, tag & 7
        field = fields.get(number)
        if field is None:
            raise NotCanonical(f"{descriptor.name}: unknown field {number}")
        where = f"{descriptor.name}.{field.name}"
        if number < last or (number == last and not (field.is_repeated and wire_type == 2)):
            raise NotCanonical(f"{where}: fields out of order or repeated")
        if number == last and field.type in _VARINT_TYPES:
            raise NotCanonical(f"{where}: packed in two pieces")
        last = number
        if field.containing_oneof is not None:
            if field.containing_oneof.name in seen_oneofs:
                raise NotCanonical(f"{where}: two members of one choice")
            seen_oneofs.add(field.containing_oneof.name)
        position = _field(field, where, wire_type, data, position, end, depth)


def _field(field: FieldDescriptor, where: str, wire_type: int, data: bytes, position: int, end: int, depth: int) -> int:
    if field.type in _VARINT_TYPES and not field.is_repeated:
        if wire_type != 0:
            raise NotCanonical(f"{where}: wrong wire type")
        value, position = _varint(data, position, end)
        _check_range(field, where, value)
        if value == 0 and field.containing_oneof is None:
            raise NotCanonical(f"{where}: default value written")
        return position
    if wire_type != 2:
        raise NotCanonical(f"{where}: wrong wire type")
    length, position = _varint(data, position, end)
    stop = position + length
    if stop > end:
        raise NotCanonical(f"{where}: runs past its end")
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        assert field.message_type is not None
        _walk(field.message_type, data, position, stop, depth + 1)
        return stop
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        if length == 0 and not field.is_repeated and field.containing_oneof is None:
            raise NotCanonical(f"{where}: default value written")
        if field.type == FieldDescriptor.TYPE_STRING:
            try:
                data[position:stop].decode("utf-8")
            except UnicodeDecodeError:
                raise NotCanonical(f"{where}: not UTF-8") from None
        return stop
    if field.type in _VARINT_TYPES:
        if length == 0:
            raise NotCanonical(f"{where}: empty packed field")
        while position < stop:
            value, position = _varint(data, position, stop)
            _check_range(field, where, value)
        return stop
    raise NotCanonical(f"{where}: a type that statements do not use")


def _check_range(field: FieldDescriptor, where: str, value: int) -> None:
    if field.type == FieldDescriptor.TYPE_UINT32 and value >= 2**32:
        raise NotCanonical(f"{where}: over 32 bits")
    if field.type == FieldDescriptor.TYPE_BOOL and value > 1:
        raise NotCanonical(f"{where}: not a truth value")
    # A negative or over-wide enum value is truncated by some libraries and kept by others.
    if field.type == FieldDescriptor.TYPE_ENUM and value >= 2**31:
        raise NotCanonical(f"{where}: enumeration value over 31 bits")


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise NotCanonical("ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift > 0:
                raise NotCanonical("number with padding")
            if value >= 2**64:
                raise NotCanonical("number over 64 bits")
            return value, position
    raise NotCanonical("number longer than ten bytes")
