"""Merlin transcripts (merlin.cool, over STROBE-128): what a proof's challenges are hashed from.

A transcript is a duplex over Keccak, and the same as one cSHAKE128 over an explicit byte string: the operations, each
block of 166 bytes followed by its padding, and after a challenge the challenge's own bytes, which blank the part of the
state that was read. So the whole is a sponge that only absorbs, and a challenge is its digest.
"""

from __future__ import annotations

from typing import Final

from pacekeeper.protocol.sealed.keccak import RATE, sponge
from pacekeeper.protocol.sealed.sodium import wide_scalar, write_scalar

_BLOCK: Final = RATE - 2  # what STROBE-128 takes between two permutations
_INITIAL: Final = bytes((1, RATE, 1, 0, 1, 96)) + b"STROBEv1.0.2"
_CHALLENGE_BYTES: Final = 64

# Flags of STROBE's operations.
_A: Final = 2  # application data
_I: Final = 1  # inbound
_C: Final = 4  # cipher: the state is permuted before
_M: Final = 16  # metadata


class Transcript:
    """One protocol's run, from its label on. Both sides append the same messages and get the same challenges.

    SPEC sealed-4: it MUST be Merlin's, and a challenge the 64 bytes that follow, reduced modulo the group's order.
    """

    def __init__(self, label: bytes) -> None:
        """Begin under a label, which names the protocol."""
        self._sponge = sponge()
        self._sponge.update(_INITIAL + bytes(RATE - len(_INITIAL)))
        self._block = b""
        self._padding = b""  # of the last whole block, absorbed when more comes: a digest pads by itself
        self._begun = 0  # where in the block the operation under way began, from 1; 0 in an earlier block
        self._meta(b"Merlin v1.0", more=False)
        self.append(b"dom-sep", label)

    def append(self, label: bytes, message: bytes) -> None:
        """Append a labelled message; both may be any bytes."""
        self._meta(label, more=False)
        self._meta(len(message).to_bytes(4, "little"), more=True)
        self._begin(_A)
        self._absorb(message)

    def append_number(self, label: bytes, number: int) -> None:
        """Append an unsigned 64-bit number."""
        self.append(label, number.to_bytes(8, "little"))

    def append_scalar(self, label: bytes, scalar: int) -> None:
        """Append a scalar."""
        self.append(label, write_scalar(scalar))

    def challenge(self, label: bytes) -> int:
        """Return the challenge scalar that follows from all before; the next one depends on it too."""
        self._meta(label, more=False)
        self._meta(_CHALLENGE_BYTES.to_bytes(4, "little"), more=True)
        self._begin(_I | _A | _C)
        output = self._sponge.digest(_CHALLENGE_BYTES)
        self._absorb(output)  # over what was read: it blanks it
        return wide_scalar(output)

    def _meta(self, data: bytes, *, more: bool) -> None:
        if not more:
            self._begin(_M | _A)
        self._absorb(data)

    def _begin(self, flags: int) -> None:
        before, self._begun = self._begun, len(self._block) + 1
        self._absorb(bytes((before, flags)))
        if flags & _C and self._block:
            self._permute()

    def _absorb(self, data: bytes) -> None:
        pending = self._block + data
        while len(pending) >= _BLOCK:
            self._block, pending = pending[:_BLOCK], pending[_BLOCK:]
            self._permute()
        self._block = pending

    def _permute(self) -> None:
        """End the block: after it come the place where the operation under way began, and the padding."""
        ended = self._block + bytes((self._begun,))
        self._sponge.update(self._padding + ended)
        padding = bytearray(RATE - len(ended))
        padding[0] ^= 0x04
        padding[-1] ^= 0x80
        self._padding, self._block, self._begun = bytes(padding), b"", 0


def bound(label: bytes, statement: bytes) -> Transcript:
    """Return a transcript that begins with a statement: what is proven after it is proven of nothing else.

    SPEC sealed-5: a proof MUST be bound to all that it is about, in the message that its transcript begins with.
    """
    transcript = Transcript(label)
    transcript.append(b"statement", statement)
    return transcript
