"""Private keys in files: readable by their owner only, created once, never overwritten.

A signing key's file is two lines: "pacekeeper-ed25519-seed-v1", or "pacekeeper-mldsa44-seed-v1" for a post-quantum
cosigning key, and the standard base64 of the 32-byte seed. Anything else in it, or a mode that lets the group or others
read it, makes the key unusable (unsafe-state), and the sentence names the file and what to do.

Example: create_key(Path("keys/statement.key")).public is what goes into the agreement.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from pacekeeper.client.errors import ConfigError
from pacekeeper.protocol import mldsa
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey

_ED25519: Final = b"pacekeeper-ed25519-seed-v1\n"
_MLDSA: Final = b"pacekeeper-mldsa44-seed-v1\n"
_MAX_BYTES: Final = 16_384  # a PEM key has some 250 bytes; more is another kind of file


def create_key(path: Path) -> SigningKey:
    """Create a new signing key's file with mode 0600 and return the key. ConfigError if anything is there already."""
    return SigningKey(_create_seed(path, _ED25519))


def load_key(path: Path) -> SigningKey:
    """Return the signing key of a file that create_key wrote, else raise Refused(unsafe-state) naming the file."""
    return SigningKey(_load_seed(path, _ED25519))


def create_mldsa_key(path: Path) -> mldsa.SigningKey:
    """As create_key, for an ML-DSA-44 key."""
    return mldsa.SigningKey(_create_seed(path, _MLDSA))


def load_mldsa_key(path: Path) -> mldsa.SigningKey:
    """As load_key, for a file that create_mldsa_key wrote."""
    return mldsa.SigningKey(_load_seed(path, _MLDSA))


def _create_seed(path: Path, header: bytes) -> bytes:
    seed = secrets.token_bytes(32)
    write_private(path, header + base64.b64encode(seed) + b"\n")
    return seed


def _load_seed(path: Path, header: bytes) -> bytes:
    data = read_private(path)
    try:
        seed = base64.b64decode(data.removeprefix(header).rstrip(b"\n"), validate=True)
    except binascii.Error:
        seed = b""
    if len(seed) != 32 or data != header + base64.b64encode(seed) + b"\n":
        raise Refused(Code.UNSAFE_STATE, f"{path} is not a Pacekeeper signing key, or is damaged; restore it")
    return seed


def write_private(path: Path, data: bytes) -> None:
    """Create a file with mode 0600, on disk when this returns. ConfigError if it exists or cannot be made.

    SPEC transport-9: a private key's file MUST be created readable by its owner only and MUST NOT be overwritten.
    """
    _create(path, data, 0o600)


def write_public(path: Path, data: bytes) -> None:
    """Create a file with mode 0644, on disk when this returns. ConfigError if it exists or cannot be made."""
    _create(path, data, 0o644)


def read_private(path: Path) -> bytes:
    """Return a private file's bytes, else raise Refused(unsafe-state): missing, too open, another's, not a file.

    SPEC transport-10: a private key whose file others than its owner can read MUST NOT be used.
    """
    try:
        # Without O_NONBLOCK a named pipe in the key's place would hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_private(path, status)
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise Refused(Code.UNSAFE_STATE, f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise Refused(Code.UNSAFE_STATE, f"{path} is too long for a key")
    return data


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Refused(Code.UNSAFE_STATE, f"{path} is not a regular file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise Refused(Code.UNSAFE_STATE, f"{path} is open to others (mode {mode:04o}); run chmod 600 on it")
    if status.st_uid not in {os.geteuid(), 0}:
        raise Refused(Code.UNSAFE_STATE, f"{path} belongs to another user")


def _create(path: Path, data: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(mode=0o755 if mode & 0o044 else 0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask says
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(path.parent)
    except OSError as error:
        if error.errno == errno.EEXIST and error.filename == os.fspath(path):
            raise ConfigError(f"{path} exists already and is not overwritten") from None
        raise ConfigError(f"{path} cannot be created: {error.strerror}") from None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
