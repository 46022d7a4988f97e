"""Reading a file that an operator has named, and no more of it than it may have."""

from __future__ import annotations

from pathlib import Path

from pacekeeper.client.errors import ConfigError


def read_bounded(path: Path, limit: int) -> bytes:
    """Return a file's bytes, of a longer one limit + 1, so that whoever parses it sees that. ConfigError names it."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
