"""The signer port: who holds the lab's key. The daemon hands over what is to be signed and never sees the key itself.

File keys are the one kind so far. The configuration names the lab's key and, if it likes, the file of the next one;
which of them signs is for the log to say (succession.py). Each signature is verified before it is used, so that a
faulty token or a flipped bit is found here and not by the log.
"""

from __future__ import annotations

from pathlib import Path

from pacekeeper.client.successors import KeyFiles, open_key_files
from pacekeeper.protocol import keys
from pacekeeper.protocol.envelope import Signer
from pacekeeper.protocol.errors import Code, Refused


class LabSigner:
    """A signer for one public key, whose every signature has been verified."""

    def __init__(self, signer: Signer, public_key: bytes) -> None:
        """Raises Refused(unsafe-state) if the signer holds another key."""
        if signer.key_id != keys.key_id(public_key):
            raise Refused(Code.UNSAFE_STATE, "the lab's key is not the one in the agreement")
        self._signer = signer
        self._public_key = public_key

    @property
    def key_id(self) -> bytes:
        return self._signer.key_id

    def sign(self, message: bytes) -> bytes:
        """Return the signature over message, verified."""
        signature = self._signer.sign(message)
        if not keys.verify(self._public_key, message, signature):
            raise Refused(Code.UNSAFE_STATE, "the signer returned a signature that does not verify")
        return signature


class LabKeys:
    """The lab's keys that are at hand, one of which signs: a Signer whose key can be followed by another."""

    def __init__(self, files: KeyFiles, founding: bytes) -> None:
        """founding: the id of the key that the agreement names. It signs at first, if it is at hand."""
        self._files = files
        self.founding = founding
        first = files.at_hand.get(founding) or next(iter(files.at_hand.values()))
        self._current = LabSigner(first, first.public)

    @property
    def key_id(self) -> bytes:
        """The id of the key that signs."""
        return self._current.key_id

    @property
    def problem(self) -> str:
        """Why a key file could not be read, when that was last tried."""
        return self._files.problem

    def sign(self, message: bytes) -> bytes:
        """Return the signature over message, verified."""
        return self._current.sign(message)

    def use(self, key_id: bytes) -> bool:
        """Sign with the key of this id from now on; False if no file holds it, and then nothing has changed."""
        key = self._files.find(key_id)
        if key is None:
            return False
        self._current = LabSigner(key, key.public)
        return True


def open_lab_keys(key: Path, next_key: Path | None, founding: bytes, *, successors: bool) -> LabKeys:
    """Open the key files of a lab. Refused(unsafe-state) names the file that is damaged, too open or not the lab's.

    founding: the key that the agreement's document names. successors: whether its rules let another take its place;
    otherwise the key must be that one. Either file may be missing then: which are needed, the log will say.
    """
    ident = keys.key_id(founding)
    if successors:
        return LabKeys(open_key_files([key] if next_key is None else [key, next_key]), ident)
    files = open_key_files([key])
    if ident not in files.at_hand:
        raise Refused(Code.UNSAFE_STATE, f"{key}: the lab's key is not the one in the agreement")
    return LabKeys(files, ident)
