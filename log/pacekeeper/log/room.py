"""Room on the disk: a log that is about to run out of it stops writing before a write fails, and goes on reading.

What is asked for is far more than one commit takes, so that a disk that fills up is noticed between two commits. It is
counted in bytes and in files, since either may run out first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MIN_FREE_BYTES: Final = 134_217_728  # for a commit: a full disk in mid-commit is a failure, a shed one is not
MIN_FREE_FILES: Final = 1_024
_PUBLICATION: Final = 8  # publishing what is committed may use up seven eighths of that


class Room:
    """The room that the file system of a directory has left for the log's user."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def for_entries(self) -> bool:
        """Whether more may be sequenced."""
        return self._has(MIN_FREE_BYTES, MIN_FREE_FILES)

    def for_publication(self) -> bool:
        """Whether what is sequenced may be published."""
        return self._has(MIN_FREE_BYTES // _PUBLICATION, MIN_FREE_FILES // _PUBLICATION)

    def _has(self, free_bytes: int, free_files: int) -> bool:
        try:
            disk = os.statvfs(self._directory)
        except OSError:
            return False  # a disk that does not answer has no room
        # A file system without a fixed number of files says that it has none at all.
        return disk.f_bavail * disk.f_frsize >= free_bytes and (disk.f_files == 0 or disk.f_favail >= free_files)
