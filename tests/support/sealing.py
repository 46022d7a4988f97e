"""Range proofs for tests: the vectors that other software made, and randomness that a seed decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from vectors import VECTORS

from pacekeeper.protocol.sealed.transcript import Transcript, bound
from pacekeeper.protocol.sealed.verify import Claim

LABEL = b"compute-seal/1"


def stream(seed: int) -> Callable[[int], bytes]:
    """Return draw(n): the next bytes of ChaCha20 under a key of one repeated byte."""
    cipher = Cipher(algorithms.ChaCha20(bytes([seed]) * 32, bytes(16)), None).encryptor()
    return lambda length: cipher.update(bytes(length))


@dataclass(frozen=True)
class Vector:
    """One proof of the file: what was proven, from which randomness, and the bytes that came of it."""

    label: bytes
    statement: bytes
    bits: int
    values: list[int]
    seed: int
    blindings: list[bytes]
    commitments: tuple[bytes, ...]
    proof: bytes

    def transcript(self) -> Transcript:
        """Return a fresh transcript that holds the statement."""
        return bound(self.label, self.statement)

    def claim(self) -> Claim:
        """Return what the proof proves."""
        return Claim(self.transcript, self.commitments, self.proof, self.bits)


def document() -> dict[str, Any]:
    """Return the file of vectors."""
    loaded: dict[str, Any] = json.loads((VECTORS / "sealed" / "range-proofs.json").read_text())
    return loaded


def vectors() -> list[Vector]:
    """Return the proofs of the file."""
    return [
        Vector(
            said["label"].encode(),
            said["statement"].encode(),
            said["n"],
            [int(value) for value in said["values"]],
            said["seed_byte"],
            [bytes.fromhex(blinding) for blinding in said["blindings"]],
            tuple(bytes.fromhex(commitment) for commitment in said["commitments"]),
            bytes.fromhex(said["proof"]),
        )
        for said in document()["vectors"]
    ]


def statement(text: str) -> Callable[[], Transcript]:
    """Return what makes transcripts that hold a statement."""
    return partial(bound, LABEL, text.encode())
