"""The directory of a local copy: this user's alone, each file written whole or not at all, nothing synced."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from pacekeeper.client.cache_head import MAX_HEAD_BYTES, parse_head
from pacekeeper.protocol.errors import Code, Refused

HEAD: Final = "head"
_NEW: Final = "new-"  # what a file is called until it is whole
_ABANDONED_S: Final = 3_600


class CopyFolder:
    """A directory in which processes read and replace files side by side. Every method may raise OSError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> bool:
        """Make it if it is not there, and remove what processes left that were killed while they wrote.

        False if it is open to others or another user's: then it is not to be used.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.directory.stat()
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            return False
        for path in self.directory.glob(f"{_NEW}*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()
        return True

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes. Refused(too-large) for one that is over the limit."""
        path = self.directory / name
        if path.stat().st_size > limit:
            raise Refused(Code.TOO_LARGE, f"{name} is larger than it can be")
        return path.read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Replace a file, or leave it as it was."""
        target = self.directory / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, new = tempfile.mkstemp(prefix=_NEW, dir=self.directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(new, target)
        except OSError:
            with suppress(OSError):
                os.unlink(new)
            raise

    def remove(self, *names: str) -> None:
        """Remove files, as far as they are there and can be."""
        for name in names:
            with suppress(OSError):
                (self.directory / name).unlink()


def measure_copy(directory: Path) -> tuple[int | None, int]:
    """Return how many entries a copy says that it has, None if it is damaged, and its size in bytes. Changes nothing.

    OSError if it cannot be looked at.
    """
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    try:
        return parse_head(CopyFolder(directory).read(HEAD, MAX_HEAD_BYTES)).size, size
    except FileNotFoundError:
        return 0, size
    except Refused:
        return None, size
