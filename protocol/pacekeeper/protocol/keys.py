"""Ed25519 keys under one rule everywhere, and key ids.

A public key is registered only if it is a canonical encoding of a point of the prime-order group (so neither
small-order nor mixed). A signature verifies under libsodium's predicate: S < L, R canonical and not small-order.
OpenSSL and WebCrypto accept more; specs/keys.md has the vectors on which they differ.

Text form: "ed25519:" and the standard base64 of the 32 bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from pacekeeper.protocol.errors import Code, Refused

_KEY_ID_TAG: Final = b"pacekeeper/key/v1\n"
_PREFIX: Final = "ed25519:"


def check_public_key(key: bytes) -> bytes:
    """Return the key if it may be registered, else raise Refused(bad-key).

    SPEC keys-1: a public key MUST be the canonical encoding of a point of prime order.
    """
    if len(key) != 32 or not crypto_core_ed25519_is_valid_point(key):
        raise Refused(Code.BAD_KEY, "public key is not the canonical encoding of a point of prime order")
    return key


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the 64-byte signature over message verifies under a registered public key; never raises on bytes.

    SPEC keys-2: a signature MUST be refused if S >= L, or R is non-canonical or of small order.
    """
    if len(signature) != 64 or len(public_key) != 32:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def key_id(public_key: bytes) -> bytes:
    """Return the 32-byte id of a public key: SHA-256 of a tag and the key.

    SPEC keys-3: the key id MUST be SHA-256 of "pacekeeper/key/v1", a newline and the 32 key bytes.
    """
    return hashlib.sha256(_KEY_ID_TAG + public_key).digest()


def parse_public_key(text: str) -> bytes:
    """Read "ed25519:BASE64". ValueError if malformed, Refused(bad-key) if it may not be registered.

    SPEC keys-4: a key's text MUST be "ed25519:" and the one padded standard base64 of its 32 bytes.
    """
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        if text != format_public_key(key):  # prefix absent, or base64 with stray bits
            raise ValueError
    except (ValueError, binascii.Error):
        raise ValueError(f'expected a key such as "ed25519:BASE64", got "{text}"') from None
    return check_public_key(key)


def format_public_key(key: bytes) -> str:
    """Write a public key as "ed25519:BASE64"."""
    return _PREFIX + base64.b64encode(key).decode()


class SigningKey:
    """An Ed25519 private key from its 32-byte seed. Never printed: repr shows the public key's id."""

    __slots__ = ("_secret", "key_id", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise ValueError("an Ed25519 seed has 32 bytes")
        self.public, self._secret = crypto_sign_seed_keypair(seed)
        self.key_id = key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over message."""
        return crypto_sign(message, self._secret)[:64]

    def __repr__(self) -> str:
        return f"SigningKey(key_id={self.key_id.hex()[:16]})"
