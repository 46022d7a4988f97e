"""Where the command keeps what it has read of a log: one directory for each agreement, below the user's cache.

$XDG_CACHE_HOME/pacekeeper/FINGERPRINT, or .cache/pacekeeper/FINGERPRINT at home. It may be removed at any time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pacekeeper.client.cache import EntryCache

no_cache_option = click.option(
    "--no-cache", is_flag=True, help="Read the whole log, verify all of it again, and keep no copy."
)


def copy_directory(fingerprint: bytes) -> Path | None:
    """Return the directory for an agreement's log; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification of XDG says to ignore a relative one
        home = os.path.expanduser("~")
        base = os.path.join(home, ".cache") if os.path.isabs(home) else ""
    return Path(base) / "pacekeeper" / fingerprint.hex() if base else None


def open_copy(fingerprint: bytes, *, no_cache: bool) -> EntryCache | None:
    """Open the user's copy of an agreement's log; None without one. What is wrong with it goes to standard error."""
    from pacekeeper.client.cache import open_cache

    directory = None if no_cache else copy_directory(fingerprint)
    if directory is None:
        return None
    return open_cache(directory, fingerprint, _note)


def _note(sentence: str) -> None:
    from pacekeeper.protocol.text import printable

    click.echo(f"note: {printable(sentence, 2_000)}", err=True)
