"""The public directory: the log as static files, which any web server could serve as well.

    state/public/checkpoint
    state/public/transition/...    the checkpoints over a change of the verifiers, see tlog.transitions
    state/public/tile/...          tiles and entry bundles, see pacekeeper.protocol.tlog.tiles

Every file is derived from the store, so that a missing one is made again. A file appears whole or not at all (written
beside its place, then renamed), and a full tile is on disk before it appears: one of the right length with other bytes
is therefore damage, not an accident of timing, and the log refuses to go on over it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pacekeeper.log.edge import File
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.tiles import TilePath
from pacekeeper.protocol.tlog.transitions import transition_path

_TEMPORARY: Final = ".tmp"
CHECKPOINT: Final = "checkpoint"


class PublicFiles:
    """The files below one directory. Failures of the disk raise Refused(unsafe-state) that names the file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._partials: list[set[Path]] = []

    def put_full(self, tile: TilePath, data: bytes) -> None:
        """Have a full tile or bundle on disk: nothing to do if it is there, made again if it is missing or cut short.

        SPEC log-12: a full tile that differs from the stored entries MUST stop the log; it MUST NOT be overwritten.
        """
        path = self.directory / str(tile)
        present = read_if_there(path)
        if present == data:
            return
        if present is not None and len(present) >= len(data):
            raise Refused(Code.UNSAFE_STATE, f"{path} differs from the stored entries; check the disk, then remove it")
        _write(path, data, durable=True)

    def put_transition(self, number: int, note: bytes) -> None:
        """Have a transition checkpoint on disk, like a full tile: it never changes.

        SPEC transition-7: a kept transition checkpoint that differs from the stored one MUST stop the log.
        """
        path = self.directory / transition_path(number)
        present = read_if_there(path)
        if present is not None and not note.startswith(present):
            raise Refused(
                Code.UNSAFE_STATE, f"{path} differs from the one in the store; check the disk, then remove it"
            )
        if present != note:
            _write(path, note, durable=True)

    def put_partials(self, files: Iterable[File]) -> None:
        """Have these partial tiles on disk. Those of the publication before stay for readers under way."""
        written = set()
        for tile, data in files:
            path = self.directory / str(tile)
            _write(path, data, durable=False)
            written.add(path)
        self._partials.append(written)
        while len(self._partials) > 2:
            for path in self._partials.pop(0) - self._partials[0] - written:
                _remove(path)

    def put_checkpoint(self, note: bytes) -> None:
        """Replace the checkpoint file."""
        _write(self.directory / CHECKPOINT, note, durable=False)

    def read(self, tile: TilePath) -> bytes | None:
        """Return a file's bytes, None if it is not there."""
        return read_if_there(self.directory / str(tile))

    def read_transition(self, number: int) -> bytes | None:
        """Return a transition checkpoint's bytes, None if it is not there."""
        return read_if_there(self.directory / transition_path(number))

    def sweep(self) -> None:
        """Remove temporary files and partial tiles that an earlier process has left, except the present ones."""
        keep = set().union(*self._partials) if self._partials else set()
        for folder, _, names in os.walk(self.directory):
            partial = folder.endswith(".p")
            for name in names:
                path = Path(folder, name)
                if name.endswith(_TEMPORARY) or (partial and path not in keep):
                    _remove(path)


def read_if_there(path: Path) -> bytes | None:
    """Return a file's bytes, None if there is none. Refused(unsafe-state) if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(Code.UNSAFE_STATE, f"{path} cannot be read: {error.strerror}") from error


def _write(path: Path, data: bytes, *, durable: bool) -> None:
    """SPEC log-11: a public file MUST appear whole or not at all."""
    temporary = path.with_name(path.name + _TEMPORARY)
    try:
        try:
            file = open(temporary, "wb")  # noqa: SIM115  opened twice, closed below
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(temporary, "wb")  # noqa: SIM115
        with file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise Refused(Code.UNSAFE_STATE, f"{path} cannot be written: {error.strerror}") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        if path.parent.suffix == ".p" and not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as error:
        raise Refused(Code.UNSAFE_STATE, f"{path} cannot be removed: {error.strerror}") from error
