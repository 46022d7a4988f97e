"""Reading a static log: its checkpoint, tiles and entry bundles, from a directory or over HTTP.

A Source answers one question, what are the bytes at this path, and only for paths that a static log has: `checkpoint`,
`transition/<k>` and the canonical tile paths. Everything is bounded by what the path can hold at most; nothing here is
verified.

Example: open_source("https://log.example/").read("tile/0/000") -> 8192 bytes, or None if there is no such tile
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from pacekeeper.client.errors import ConfigError
from pacekeeper.client.fetch_directory import DirectorySource
from pacekeeper.client.fetch_http import HttpSource
from pacekeeper.client.fetch_path import CHECKPOINT, max_bytes

__all__ = ["CHECKPOINT", "DirectorySource", "HttpSource", "Source", "max_bytes", "open_source"]

# The public directory itself, a log's state, a deployment's directory, and a demo's.
_PUBLIC_PLACES: Final = ("", "public", "state/public", "log/state/public")


class Source(Protocol):
    """Where a static log is read from. May be used from several threads."""

    def read(self, path: str) -> bytes | None:
        """Return the bytes at a path, None if there is nothing.

        Refused: not a path of a static log (malformed), or what is there cannot be it (too-large, bad-tile,
        bad-checkpoint). TemporaryFailure: no answer now.
        """

    def close(self) -> None:
        """Release connections and descriptors; the source is not read again."""


def open_source(location: str) -> Source:
    """Open a log by its URL, or by a directory: the public one, or one that holds it as a log's state does.

    ConfigError if the location is neither.
    """
    if "://" in location:
        return HttpSource(location)
    for place in _PUBLIC_PLACES:
        directory = Path(location) / place
        if (directory / CHECKPOINT).is_file() or (directory / "tile").is_dir():
            return DirectorySource(directory)
    raise ConfigError(f"{location} holds no log: there is neither a checkpoint nor a tile directory in it")
