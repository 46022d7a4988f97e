"""Layouts: reading an attestation that differs from an earlier one of its lab in nothing but numbers.

A lab's attestations are the same bytes period after period, but for the link, the figures and the chip-time; and as
long as no number gets longer or shorter, each stands in the same place. A layout, made of one attestation that was read
in full, says which bits of another one of that size must be as they were, and where its numbers are:

1. All bits but those of the numbers and of the link's hash are as before: tags, lengths, ids, methods, margins, pools.
   Among them is the topmost bit of each byte of a number, so that the number has as many bytes as before.
2. The last byte of each number is not zero, so that it is in its shortest form and not a default value.

What fits is canonical and well-shaped because the first one was. What does not fit is read in full, and is none the
worse for it. Numbers are all of 64 bits; those of 32, and enumerations, are among the bits that stay.

Example: learn_layout(payload, reading).read(next_payload) is what read_statement reads of it, or None.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from pacekeeper.protocol.readings import AttestationReading, LinkReading, Reading
from pacekeeper.v1 import statements_pb2 as pb

MAX_LAYOUT_BYTES: Final = 2_048  # of an attestation: some thirty runs; a larger one is worth its reading
_MAX_NUMBER: Final = 9  # bytes: a number of ten may be over 64 bits

# Any message with packed numbers is protobuf's own decoder of many of them at once; there is no faster one in Python.
_decode: Final = pb.PeriodAccount.FromString
_PACKED: Final = pb.PeriodAccount.SPLITS_MS_FIELD_NUMBER << 3 | 2
_new: Final = tuple.__new__  # a NamedTuple's own constructor costs twice as much
_int: Final = int.from_bytes

_Span = tuple[int, int]  # the first byte, and the one after the last


class _Places(NamedTuple):
    """Where what may change stands.

    read: the numbers that a reading has: sequence, as_of, period, then chip-time and amount of each figure, then the
    categories' chip-time. unread: all other numbers. training: which of the categories it is, -1 for none.
    """

    previous: _Span
    read: list[_Span]
    unread: list[_Span]
    training: int


class Layout:
    """Of one attestation: what stays, and where its numbers are. Never changed once it is made."""

    __slots__ = (
        "_chips",
        "_fixed",
        "_head",
        "_lasts",
        "_margin_ppm",
        "_margins",
        "_mask",
        "_names",
        "_previous",
        "_size",
        "_times",
        "_tops",
        "_training",
        "_unpack",
        "agreement",
        "lab",
    )

    def __init__(self, payload: bytes, places: _Places, said: AttestationReading) -> None:
        """Use learn_layout."""
        mask = bytearray(b"\xff" * len(payload))
        lasts = bytearray(len(payload))
        for start, stop in (*places.read, *places.unread):
            mask[start:stop] = b"\x80" * (stop - start)
            lasts[stop - 1] = 0x7F
        start, stop = places.previous
        mask[start:stop] = bytes(stop - start)
        account = said.account
        self.agreement = payload[2:34]  # the first field, of 32 bytes
        self.lab = said.lab
        self._size = len(payload)
        self._mask = _int(mask, "little")
        self._fixed = _int(payload, "little") & self._mask
        self._lasts = _int(lasts, "little")
        self._tops = _int(lasts.replace(b"\x7f", b"\x80"), "little")
        self._previous = slice(start, stop)
        self._unpack = Struct(_format(places.read, len(payload))).unpack
        self._head = bytes([_PACKED, *_varint(sum(stop - start for start, stop in places.read))])
        self._names = [name for name, _, _ in account.figures]
        self._margin_ppm = [margin_ppm for _, _, margin_ppm in account.figures]
        self._margins = account.margins
        self._chips = account.chips
        self._times = 3 + 2 * len(self._names)
        self._training = self._times + places.training if places.training >= 0 else -1

    def read(self, payload: bytes) -> AttestationReading | None:
        """Return what a full reading would, None unless the payload fits.

        SPEC envelope-6: what is read by a layout MUST be what a full reading gives.
        """
        if len(payload) != self._size:
            return None
        bits, lasts, tops = _int(payload, "little"), self._lasts, self._tops
        if bits & self._mask != self._fixed:
            return None
        # A last byte is at most 127; with 127 added it has its topmost bit, and carries nothing, unless it was zero.
        if ((bits & lasts) + lasts) & tops != tops:
            return None
        numbers = _decode(self._head + b"".join(self._unpack(payload))).splits_ms[:]
        if numbers[0] == 1:  # the first of a chain names none before it, and this one does
            return None
        times = self._times
        spent = numbers[3:times:2]
        figures = list(zip(self._names, numbers[4:times:2], self._margin_ppm, strict=True))
        training = self._training
        account = _new(
            Reading,
            (
                numbers[2],
                figures,
                self._margins,
                sum(numbers[times:]),
                numbers[training] if training >= 0 else 0,
                sum(spent),
                self._chips,
                (),
                [],
            ),
        )
        link = _new(LinkReading, (numbers[0], payload[self._previous], numbers[1]))
        return _new(AttestationReading, (self.lab, link, account))


def learn_layout(payload: bytes, said: AttestationReading) -> Layout | None:
    """Return the layout of an attestation that was read in full; None if it has none.

    None for one that is long, has split figures, or lacks a number (zero, which is not written) that a reading has.
    """
    if len(payload) > MAX_LAYOUT_BYTES or said.account.splits:
        return None
    places = _places(payload)
    if places is None or any(stop - start > _MAX_NUMBER for start, stop in (*places.read, *places.unread)):
        return None
    return Layout(payload, places, said)


def _places(payload: bytes) -> _Places | None:
    """Find what may change in a canonical attestation: its numbers, but for methods, margins, categories and pools."""
    top = _fields(payload, (0, len(payload)))
    [link], [account] = top[3], top[4]
    in_link = _fields(payload, link)
    in_account = _fields(payload, account)
    read = [*in_link.get(1, ()), *in_link.get(3, ()), *in_account.get(1, ())]
    unread: list[_Span] = []
    if len(read) != 3 or 2 not in in_link:
        return None
    [previous] = in_link[2]
    for figure in in_account.get(2, ()):
        in_figure = _fields(payload, figure)
        estimates = [_fields(payload, estimate) for estimate in in_figure[4]]
        if 3 not in in_figure or any(2 not in estimate for estimate in estimates):
            return None
        first, *others = [estimate[2][0] for estimate in estimates]
        read += (*in_figure[3], first)
        unread += (*in_figure.get(2, ()), *others)
    training = -1
    for place, use in enumerate(in_account.get(3, ())):
        in_use = _fields(payload, use)
        if 2 not in in_use:
            return None
        if payload[in_use[1][0][0]] == pb.CATEGORY_TRAINING:
            training = place
        read += in_use[2]
    return _Places(previous, read, unread, training)


def _fields(data: bytes, span: _Span) -> dict[int, list[_Span]]:
    """Return where the values of each field of a canonical message stand; no field number is above 15."""
    found: dict[int, list[_Span]] = {}
    position, end = span
    while position < end:
        tag, start = data[position], position + 1
        stop = start
        while data[stop] >= 0x80:
            stop += 1
        stop += 1
        if tag & 7 == 2:
            length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data[start:stop]))
            start, stop = stop, stop + length
        found.setdefault(tag >> 3, []).append((start, stop))
        position = stop
    return found


def _format(spans: list[_Span], size: int) -> str:
    """Return the struct format that takes these bytes out of so many."""
    parts: list[str] = []
    position = 0
    for start, stop in spans:
        parts.append(f"{start - position}x{stop - start}s")
        position = stop
    return "".join((*parts, f"{size - position}x"))


def _varint(value: int) -> Iterator[int]:
    while value >= 0x80:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
