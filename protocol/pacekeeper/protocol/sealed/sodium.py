"""ristretto255 by libsodium: points as their 32-byte encodings, scalars as integers modulo the group's order.

Every return code is looked at. libsodium says -1 both for bytes that are no point and for a result that is the
identity, so that zero scalars and the identity are dealt with before it is called; what is left of -1 is "no point".

The system's library is taken if there is one, else the one that the rbcl wheel carries; of rbcl nothing but its library
is used, since its own functions do not look at return codes once it is installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from functools import lru_cache
from typing import Final

ORDER: Final = 2**252 + 27742317777372353535851937790883648493  # of the group; a prime
POINT_BYTES: Final = 32
SCALAR_BYTES: Final = 32
IDENTITY: Final = bytes(POINT_BYTES)
BASE: Final = bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76")  # RFC 9496, A.1

_NAMES: Final = ("libsodium.so.26", "libsodium.so.23", "libsodium.26.dylib", "libsodium.dylib", "libsodium.dll")


class NotAPointError(ValueError):
    """Bytes that are not the canonical encoding of a group element."""


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    for name in _NAMES:
        with contextlib.suppress(OSError):
            return _checked(ctypes.CDLL(name))
    import rbcl  # noqa: PLC0415, writes a file of 2 MB and reads it: only where there is no other library

    library = _checked(rbcl._sodium)
    _forget_copy()
    return library


def _checked(library: ctypes.CDLL) -> ctypes.CDLL:
    """Start a library and see that it has the group: twice the base point is RFC 9496's, a wrong point is refused."""
    if library.sodium_init() < 0:
        raise OSError("libsodium does not start")
    out = ctypes.create_string_buffer(POINT_BYTES)
    twice = bytes.fromhex("6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919")
    if library.crypto_core_ristretto255_add(out, BASE, BASE) != 0 or out.raw != twice:
        raise OSError("libsodium does not know ristretto255")
    if library.crypto_core_ristretto255_add(out, BASE, b"\xff" * POINT_BYTES) != -1:
        raise OSError("libsodium takes bytes that are no point")
    return library


def _forget_copy() -> None:
    """Unlink the copy of the library that rbcl leaves in the temporary directory at each import; it stays loaded."""
    path = getattr(sys.modules.get("rbcl._sodium"), "lib_path", None)
    if isinstance(path, str) and hasattr(ctypes.pythonapi, "unlink"):
        ctypes.pythonapi.unlink(path.encode())


def is_point(data: bytes) -> bool:
    """Whether bytes are the canonical encoding of a group element; the identity is one.

    SPEC sealed-1: bytes that are not a canonical encoding MUST be refused as a point, or as a scalar.
    """
    return len(data) == POINT_BYTES and _library().crypto_core_ristretto255_is_valid_point(data) == 1


def from_uniform(data: bytes) -> bytes:
    """Map 64 uniform bytes to a group element (RFC 9496, 4.3.4)."""
    if len(data) != 64:
        raise ValueError("64 bytes are mapped to a point")
    out = ctypes.create_string_buffer(POINT_BYTES)
    if _library().crypto_core_ristretto255_from_hash(out, data) != 0:
        raise OSError("libsodium maps no point")
    return out.raw


def add(first: bytes, second: bytes) -> bytes:
    """Add two points. Raises NotAPointError."""
    return _combine(_library().crypto_core_ristretto255_add, first, second)


def subtract(first: bytes, second: bytes) -> bytes:
    """Subtract the second point from the first. Raises NotAPointError."""
    return _combine(_library().crypto_core_ristretto255_sub, first, second)


def _combine(operation: ctypes._NamedFuncPointer, first: bytes, second: bytes) -> bytes:
    if len(first) != POINT_BYTES or len(second) != POINT_BYTES:
        raise NotAPointError("a point has 32 bytes")
    out = ctypes.create_string_buffer(POINT_BYTES)
    if operation(out, first, second) != 0:
        raise NotAPointError("bytes that are no point")
    return out.raw


def multiply(scalar: int, point: bytes) -> bytes:
    """Multiply a point by a scalar, taken modulo ORDER. Raises NotAPointError."""
    scalar %= ORDER
    if scalar == 0 or point == IDENTITY:
        if not is_point(point):
            raise NotAPointError("bytes that are no point")
        return IDENTITY
    if len(point) != POINT_BYTES:
        raise NotAPointError("a point has 32 bytes")
    out = ctypes.create_string_buffer(POINT_BYTES)
    if _library().crypto_scalarmult_ristretto255(out, scalar.to_bytes(SCALAR_BYTES, "little"), point) != 0:
        raise NotAPointError("bytes that are no point")
    return out.raw


def multiply_base(scalar: int) -> bytes:
    """Multiply the base point by a scalar, taken modulo ORDER."""
    scalar %= ORDER
    if scalar == 0:
        return IDENTITY
    out = ctypes.create_string_buffer(POINT_BYTES)
    if _library().crypto_scalarmult_ristretto255_base(out, scalar.to_bytes(SCALAR_BYTES, "little")) != 0:
        raise OSError("libsodium multiplies the base point to the identity")
    return out.raw


def read_scalar(data: bytes) -> int | None:
    """Return the scalar that 32 bytes, little-endian, are the canonical encoding of, or None."""
    if len(data) != SCALAR_BYTES:
        return None
    scalar = int.from_bytes(data, "little")
    return scalar if scalar < ORDER else None


def write_scalar(scalar: int) -> bytes:
    """Return the 32 bytes, little-endian, of a scalar modulo ORDER."""
    return (scalar % ORDER).to_bytes(SCALAR_BYTES, "little")


def wide_scalar(data: bytes) -> int:
    """Reduce 64 uniform bytes, little-endian, to a scalar."""
    if len(data) != 64:
        raise ValueError("a scalar is reduced from 64 bytes")
    return int.from_bytes(data, "little") % ORDER
