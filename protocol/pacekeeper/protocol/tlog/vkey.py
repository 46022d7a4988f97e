"""Note keys: who may sign a note, under which name and algorithm (C2SP signed-note and tlog-cosignature).

A key's text form, the vkey, is its name, "+", its key hash in eight hexadecimal digits, "+", and the base64 of the
algorithm byte and the key. Three algorithms are known: 1 is Ed25519 over the note's text; 4 is the cosignature, Ed25519
over a header with a time and the text; 6 is the cosignature with ML-DSA-44 over the tree of the checkpoint, with the
time and the name of the cosigner.

Example: "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pacekeeper.protocol import keys, mldsa
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.encoding import format_base64, parse_base64, parse_decimal

ED25519: Final = 1
COSIGNATURE_V1: Final = 4
ML_DSA_44: Final = 6
MAX_TIME_S: Final = 2**63 - 1  # tlog-cosignature's own bound

_TIME_BYTES: Final = 8
_KEY_NAME: Final = re.compile(r"[^\s+]+")  # \s is Unicode white space
_NOT_NOTE_TEXT: Final = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_SIGNATURE_BYTES: Final = {COSIGNATURE_V1: 64, ML_DSA_44: mldsa.SIGNATURE_BYTES}
_SUBTREE_LABEL: Final = b"subtree/v1\n\0"
_MAX_NAME_BYTES: Final = 255


@dataclass(frozen=True)
class NoteKey:
    """A public key that is known under a name for one algorithm. ValueError or Refused(bad-key) if it cannot be one."""

    name: str
    algorithm: int
    public_key: bytes

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise ValueError("a key name is non-empty, without spaces, control characters and plus signs")
        if self.algorithm == ML_DSA_44:
            _check_mldsa(self.name, self.public_key)
        elif self.algorithm in {ED25519, COSIGNATURE_V1}:
            keys.check_public_key(self.public_key)
        else:
            raise ValueError(f"unknown note signature algorithm {self.algorithm}")

    @cached_property
    def hash(self) -> int:
        """The key hash that signature lines carry.

        SPEC note-6: it MUST be the first four bytes, big-endian, of SHA-256(name, newline, algorithm, public key).
        """
        preimage = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public_key
        return int.from_bytes(hashlib.sha256(preimage).digest()[:4], "big")

    def verify(self, text: str, data: bytes) -> bool:
        """Whether data, a signature line's bytes after the key hash, is this key's signature of the note text."""
        if self.algorithm == ED25519:
            return keys.verify(self.public_key, text.encode(), data)
        # SPEC note-16: a cosignature MUST be 8 bytes of time, big-endian, and as many of signature as it has.
        if len(data) != _TIME_BYTES + _SIGNATURE_BYTES[self.algorithm]:
            return False
        time_s = int.from_bytes(data[:_TIME_BYTES], "big")
        # SPEC note-17: a cosignature whose time is 0 or over 2^63 - 1 MUST NOT count as valid.
        if not 0 < time_s <= MAX_TIME_S:
            return False
        if self.algorithm == COSIGNATURE_V1:
            return keys.verify(self.public_key, cosigned_message(text, time_s), data[_TIME_BYTES:])
        message = cosigned_tree(self.name, text, time_s)
        return message is not None and mldsa.verify(self.public_key, message, data[_TIME_BYTES:])


def cosigned_message(text: str, time_s: int) -> bytes:
    """Return the bytes that a cosignature of a checkpoint's text at that time signs.

    SPEC note-15: they MUST be the line "cosignature/v1", the line "time" with the decimal time, and the whole text.
    """
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def cosigned_tree(name: str, text: str, time_s: int) -> bytes | None:
    """Return the bytes that an ML-DSA-44 cosignature by that name signs; None if the text is no checkpoint.

    SPEC note-22: they MUST be the label "subtree/v1", a newline and a zero byte; the cosigner's name after a byte with
    its length; the time in 8 bytes; the log's origin after a byte with its length; 0 and the tree's size in 8 bytes
    each; and the root hash. Numbers are big-endian. Extension lines are not part of it.
    """
    lines = text.split("\n", 3)
    size, root = (parse_decimal(lines[1]), parse_base64(lines[2])) if len(lines) == 4 else (None, None)
    who, origin = name.encode(), lines[0].encode()
    if size is None or root is None or len(root) != 32 or not 0 < len(origin) <= _MAX_NAME_BYTES:
        return None
    parts = (
        _SUBTREE_LABEL,
        bytes([len(who)]) + who,
        time_s.to_bytes(8, "big"),
        bytes([len(origin)]) + origin,
        bytes(8) + size.to_bytes(8, "big"),
        root,
    )
    return b"".join(parts)


def _check_mldsa(name: str, public_key: bytes) -> None:
    if len(public_key) != mldsa.PUBLIC_BYTES:
        raise Refused(Code.BAD_KEY, f"an ML-DSA-44 public key has {mldsa.PUBLIC_BYTES} bytes")
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise ValueError("an ML-DSA-44 cosigner's name has at most 255 bytes")


def is_key_name(name: str) -> bool:
    """SPEC note-3: a key name MUST be non-empty and MUST NOT contain a Unicode space, control character or plus."""
    return _KEY_NAME.fullmatch(name) is not None and is_note_text(name)


def is_note_text(text: str) -> bool:
    """SPEC note-1: a note MUST be valid UTF-8 and MUST NOT contain ASCII control characters other than newline."""
    return _NOT_NOTE_TEXT.search(text) is None


def parse_vkey(text: str) -> NoteKey:
    """Read a vkey. ValueError if malformed, Refused(bad-key) if the public key may not be registered.

    SPEC note-7: a vkey whose key hash is not that of its name, algorithm and key, or that is written in another way
    than format_vkey writes it, MUST be refused.
    """
    parts = text.split("+", 2)
    material = parse_base64(parts[2]) if len(parts) == 3 else None
    if material is None or len(material) not in {33, 1 + mldsa.PUBLIC_BYTES}:
        raise ValueError('expected a verifier key such as "example.org/log+c74f20a3+BASE64"')
    key = NoteKey(parts[0], material[0], material[1:])
    if parts[1] != f"{key.hash:08x}":
        raise ValueError(f"verifier key's hash is {key.hash:08x}, not as written")
    return key


def format_vkey(key: NoteKey) -> str:
    """Write a key as its vkey."""
    return f"{key.name}+{key.hash:08x}+{format_base64(bytes([key.algorithm]) + key.public_key)}"
