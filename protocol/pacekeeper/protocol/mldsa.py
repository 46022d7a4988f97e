"""ML-DSA-44 (FIPS 204), the post-quantum signature of cosigners, from the cryptography library.

Pure ML-DSA with an empty context. A public key has 1,312 bytes and every string of that length is one; a signature has
2,420. Unlike Ed25519 there is one predicate: FIPS 204's, which no implementation may widen.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

PUBLIC_BYTES: Final = 1_312
SIGNATURE_BYTES: Final = 2_420
SEED_BYTES: Final = 32


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature over message verifies under a public key; never raises on bytes."""
    if len(public_key) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        _load(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=64)  # a key's expansion costs half of a verification, and a reader knows few
def _load(public_key: bytes) -> MLDSA44PublicKey:
    return MLDSA44PublicKey.from_public_bytes(public_key)


class SigningKey:
    """An ML-DSA-44 private key from its 32-byte seed. Never printed. Two signatures of one message differ: they are
    hedged with the library's randomness."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError("an ML-DSA-44 seed has 32 bytes")
        self._secret = MLDSA44PrivateKey.from_seed_bytes(seed)
        self.public = self._secret.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature over message."""
        return self._secret.sign(message)

    def __repr__(self) -> str:
        return f"mldsa.SigningKey(public={self.public.hex()[:16]}...)"
