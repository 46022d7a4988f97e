"""What a cosigning key remembers by itself: a small file beside it, which outlives a lost or rolled-back store.

`<key file>.witness` says for which origin the key cosigns, in which store its witness state is, and the size of the
last tree that it was used for. Whoever deletes or restores the store finds the key refusing, instead of a witness that
begins again at size 0. The file is also the lock that keeps two processes from using one key, whatever their stores.

    pacekeeper-witness-v1
    origin example.org/pacekeeper
    store 9f86d081884c7d659a2feaa0c55ad015
    size 00000000000000000042
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacekeeper.client.locking import make_durable, open_held, rewrite
from pacekeeper.protocol.errors import Code, Refused

_FORM: Final = re.compile(
    r"pacekeeper-witness-v1\norigin (?P<origin>[^\n]{1,200})\nstore (?P<store>[0-9a-f]{32})\nsize (?P<size>[0-9]{20})\n"
)
_MAX_BYTES: Final = 1_024


@dataclass(frozen=True)
class Mark:
    """The file's content. size 0: the key has cosigned nothing yet."""

    origin: str
    store: str
    size: int

    def text(self) -> str:
        return f"pacekeeper-witness-v1\norigin {self.origin}\nstore {self.store}\nsize {self.size:020d}\n"


class KeyMarker:
    """The marker of one key, locked from construction to close. Refused(unsafe-state) if locked or damaged."""

    def __init__(self, key_path: Path) -> None:
        self.path = key_path.with_name(key_path.name + ".witness")
        # SPEC verifier-13: a second process with one cosigning key MUST refuse to start.
        self._file = open_held(self.path, "another process uses this key")
        try:
            self.mark = self._read()
        except Refused:
            os.close(self._file)
            raise

    def _read(self) -> Mark | None:
        data = os.pread(self._file, _MAX_BYTES, 0)
        if not data:
            return None
        match = _FORM.fullmatch(data.decode("utf-8", "replace"))
        if match is None:
            raise Refused(Code.UNSAFE_STATE, f"{self.path} is damaged; without it this key must not sign")
        return Mark(match["origin"], match["store"], int(match["size"]))

    def bind(self, origin: str, store: str, size: int) -> None:
        """Write the marker for the first time, or anew where a store has moved with its key; on disk on return."""
        self._write(Mark(origin, store, size))
        make_durable(self._file, self.path)

    def advance(self, size: int) -> None:
        """Note that the key is about to sign a tree of this size.

        Only the first signature waits for the disk: what the marker guards against, a deleted or restored store, is no
        power cut, after which the marker may lag behind the store but never lead it.
        """
        assert self.mark is not None, "a marker is bound before it advances"
        if size <= self.mark.size:
            return
        first = self.mark.size == 0
        self._write(Mark(self.mark.origin, self.mark.store, size))
        if first:
            os.fsync(self._file)

    def _write(self, mark: Mark) -> None:
        # The length never changes once bound, so that one write replaces the whole content.
        rewrite(self._file, self.path, mark.text().encode(), shorten=True)
        self.mark = mark

    def close(self) -> None:
        """Let another process use the key."""
        os.close(self._file)


def check_mark(marker: KeyMarker, *, origin: str, store: str, size: int) -> None:
    """Compare the key's marker with the store that was opened (its id and cosigned size), and bind it if it is new.

    SPEC verifier-12: a key that has cosigned MUST NOT sign unless the store is the one that it cosigned from and holds
    a witness state no smaller than the last; size 0 MUST NOT be assumed for a lost one.
    """
    mark = marker.mark
    if mark is None or (mark.size == 0 and size == 0):
        marker.bind(origin, store, size)
        return
    if mark.origin != origin:
        raise Refused(Code.UNSAFE_STATE, f"{marker.path}: this key cosigns for {mark.origin}, not for {origin}")
    if mark.size == 0 and mark.store != store:
        marker.bind(origin, store, size)
        return
    if mark.store != store:
        raise Refused(
            Code.UNSAFE_STATE,
            f"{marker.path}: this key has cosigned {mark.size} entries from another store, which is lost or elsewhere;"
            " restore it, or have the agreement name a new cosigning key",
        )
    if size < mark.size:
        raise Refused(
            Code.UNSAFE_STATE,
            f"{marker.path}: this key has cosigned {mark.size} entries, but the store knows of {size} only;"
            " it was rolled back, and an older backup must not sign",
        )
