"""The local copies of the log on this machine: how much room they take, and whether they are this user's alone."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from pacekeeper.cli.copies import copy_directory
from pacekeeper.cli.doctor.check import Check, ok, warn
from pacekeeper.cli.doctor.subject import Subject
from pacekeeper.client.cache_folder import measure_copy
from pacekeeper.client.config import resolve
from pacekeeper.node.config import COPY_FOLDER


def check_copies(subject: Subject) -> Iterator[Check]:
    """The daemon's own copy, and the one that this user's commands keep; nothing of one that is not there."""
    found: list[Path | None] = []
    if subject.lab is not None:
        found.append(resolve(subject.config_path, subject.lab.state) / COPY_FOLDER)
    if subject.bundle is not None:
        found.append(copy_directory(subject.bundle.agreement.fingerprint))
    for directory in found:
        if directory is not None and directory.is_dir():
            yield _copy(directory)


def _copy(directory: Path) -> Check:
    try:
        entries, size = measure_copy(directory)
        mode = directory.stat().st_mode
    except OSError as error:
        return warn("copy", f"{directory} cannot be looked at: {error.strerror}", "remove it; it is made anew")
    if mode & 0o077:
        sentence = f"{directory} is open to others (mode {stat.S_IMODE(mode):04o}), so that it is not used"
        return warn("copy", sentence, f"remove it, or chmod 700 {directory}")
    if entries is None:
        return warn("copy", f"{directory} is damaged", "nothing need be done: it is thrown away and fetched again")
    return ok("copy", f"{entries} entries of the log are kept in {directory}, {size / 1e6:.1f} MB; it may be removed")
