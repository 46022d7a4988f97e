"""Reading a static log from a directory, whoever made it: links are not followed, and nothing in it makes us wait."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from pacekeeper.client.errors import ConfigError, Outage, TemporaryFailure
from pacekeeper.client.fetch_path import max_bytes, not_usable, too_large

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a named pipe in a file's place would hang an audit.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class DirectorySource:
    """A log's public directory, or a copy of one: possibly somebody else's, so no link in it is followed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"{directory} cannot be read: {error.strerror}") from None

    def read(self, path: str) -> bytes | None:
        """See Source. SPEC transport-19: a reader of a directory MUST NOT follow symbolic links below it."""
        limit = max_bytes(path)
        try:
            descriptor = self._open(path.split("/"))
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise not_usable(path, "not a regular file")
                return _read_all(descriptor, limit, path)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:  # Linux says ENOTDIR of a link where a directory should be
                raise not_usable(path, "a link or a file stands in its way") from None
            raise TemporaryFailure(Outage.UNREACHABLE, f"{self._directory / path}: {error.strerror}") from None

    def close(self) -> None:
        """See Source."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _open(self, parts: list[str]) -> int:
        """Open a file one step at a time, so that no link is followed even if it appears meanwhile."""
        directory = os.dup(self._root)
        try:
            for part in parts[:-1]:
                inner = os.open(part, _DIRECTORY_FLAGS, dir_fd=directory)
                os.close(directory)
                directory = inner
            return os.open(parts[-1], _FILE_FLAGS, dir_fd=directory)
        finally:
            os.close(directory)


def _read_all(descriptor: int, limit: int, path: str) -> bytes:
    """Read to the end, though never past the limit: the file may grow while it is read."""
    chunks: list[bytes] = []
    size = 0
    while chunk := os.read(descriptor, min(limit + 1 - size, 1 << 20)):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise too_large(path, limit)
    return b"".join(chunks)
