"""Key files of which the log says which holds the key in force: a key can be followed by another (specs/keys.md).

A role's configuration names the file of its key and that of the next one. Either may be missing, and either may hold
the key in force: a rotation may have been interrupted anywhere. A file that turns up later is found when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pacekeeper.client.keyfiles import load_key
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import SigningKey


class KeyFiles:
    """The keys that are at hand, by their ids, and the paths where more may turn up.

    problem: why a file could not be read, when that was last tried.
    """

    def __init__(self, keys: Iterable[SigningKey], paths: Sequence[Path] = ()) -> None:
        self.at_hand = {key.key_id: key for key in keys}
        self.problem = ""
        self._paths = paths

    def find(self, key_id: bytes) -> SigningKey | None:
        """Return the key of an id; what is not at hand is looked for in the files again."""
        if key_id not in self.at_hand:
            self._look()
        return self.at_hand.get(key_id)

    def _look(self) -> None:
        self.problem = ""
        for path in self._paths:
            try:
                if path.exists():
                    key = load_key(path)
                    self.at_hand.setdefault(key.key_id, key)
            except OSError as error:
                self.problem = f"{path}: {error.strerror}"
            except Refused as refused:
                self.problem = refused.message


def open_key_files(paths: Sequence[Path]) -> KeyFiles:
    """Load the key files that are there. Refused(unsafe-state) names the first if none is, or one that is not sound."""
    found = [path for path in paths if path.exists()] or [paths[0]]
    return KeyFiles([load_key(path) for path in found], paths)
