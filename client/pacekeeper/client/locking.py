"""A small file that one process holds: what a signing key remembers beside itself, whichever role it signs for."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pacekeeper.protocol.errors import Code, Refused


def open_held(path: Path, held: str) -> int:
    """Open a file, made with mode 0600 if it is not there, and hold it until the descriptor is closed.

    Refused(unsafe-state) if another process holds it, with the sentence `held`, or if it cannot be opened.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Refused(Code.UNSAFE_STATE, f"{path} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise Refused(Code.UNSAFE_STATE, f"{held}: it holds {path}") from None
    return file


def rewrite(file: int, path: Path, data: bytes, *, shorten: bool) -> None:
    """Replace a held file's content by one write; shorten: where what was there may have been longer.

    Refused(unsafe-state) if it is not written whole. It is not waited for the disk.
    """
    try:
        written = os.pwrite(file, data, 0)
        if shorten and written == len(data):
            os.ftruncate(file, len(data))
    except OSError as error:
        raise Refused(Code.UNSAFE_STATE, f"{path} cannot be written: {error.strerror}") from None
    if written != len(data):
        raise Refused(Code.UNSAFE_STATE, f"{path} was written in part only")


def make_durable(file: int, path: Path) -> None:
    """Have a held file on disk, and its name as well. Refused(unsafe-state) if the disk does not."""
    try:
        os.fsync(file)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise Refused(Code.UNSAFE_STATE, f"{path} cannot be made durable: {error.strerror}") from None
