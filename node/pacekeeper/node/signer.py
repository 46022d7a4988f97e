"""The signer port: who holds the lab's key. The daemon hands over what is to be signed and never sees the key itself.

File keys are the one kind so far. The configuration names the lab's key and, if it likes, the file of the next one;
which of them signs is for the log to say (succession.py). Each signature is verified before it is used, so that a
faulty token or a flipped bit is found here and not by the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pacekeeper.client.keyfiles import load_key
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

    def __init__(self, signers: Sequence[LabSigner], paths: Sequence[Path] = (), founding: bytes = b"") -> None:
        """The first of the signers signs. paths: where a key may still turn up. founding: the id of the agreement's."""
        self._at_hand = {signer.key_id: signer for signer in signers}
        self._current = signers[0]
        self.founding = founding or signers[0].key_id
        self._paths = paths
        self.problem = ""  # why a key file could not be read, when that was last tried

    @property
    def key_id(self) -> bytes:
        """The id of the key that signs."""
        return self._current.key_id

    def sign(self, message: bytes) -> bytes:
        """Return the signature over message, verified."""
        return self._current.sign(message)

    def use(self, key_id: bytes) -> bool:
        """Sign with the key of this id from now on; False if no file holds it, and then nothing has changed.

        What is not at hand is looked for in the key files again, since their operator may have put it there.
        """
        if key_id not in self._at_hand:
            self._look()
        if key_id not in self._at_hand:
            return False
        self._current = self._at_hand[key_id]
        return True

    def _look(self) -> None:
        self.problem = ""
        for path in self._paths:
            try:
                if path.exists():
                    key = load_key(path)
                    self._at_hand.setdefault(key.key_id, LabSigner(key, key.public))
            except (Refused, OSError) as error:
                self.problem = error.message if isinstance(error, Refused) else f"{path}: {error.strerror}"


def open_lab_keys(key: Path, next_key: Path | None, founding: bytes, *, successors: bool) -> LabKeys:
    """Open the key files of a lab. Refused(unsafe-state) names the file that is damaged, too open or not the lab's.

    founding: the key that the agreement's document names. successors: whether its rules let another take its place;
    otherwise the key must be that one. Either file may be missing then: which are needed, the log will say.
    """
    if not successors:
        return LabKeys([_open(key, founding)])
    paths = [key] if next_key is None else [key, next_key]
    found = [path for path in paths if path.exists()]
    loaded = [load_key(path) for path in found or [key]]
    signers = [LabSigner(each, each.public) for each in loaded]
    ident = keys.key_id(founding)
    signers.sort(key=lambda signer: signer.key_id != ident)
    return LabKeys(signers, paths, ident)


def _open(path: Path, public_key: bytes) -> LabSigner:
    try:
        return LabSigner(load_key(path), public_key)
    except Refused as refused:
        raise Refused(refused.code, f"{path}: {refused.message}") from None
