"""The signer port: who holds the lab's key. The daemon hands over what is to be signed and never sees the key itself.

A file key is the one signer so far. Whatever signs is checked: the key must be the one that the agreement pins, and
each signature is verified before it is used, so that a faulty token or a flipped bit is found here and not by the log.
"""

from __future__ import annotations

from pathlib import Path

from pacekeeper.client.keyfiles import load_key
from pacekeeper.protocol import keys
from pacekeeper.protocol.envelope import Signer
from pacekeeper.protocol.errors import Code, Refused


class LabSigner:
    """A signer for one public key, whose every signature has been verified."""

    def __init__(self, signer: Signer, public_key: bytes) -> None:
        """Raises Refused(unsafe-state) if the signer holds another key than the agreement's."""
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


def open_file_signer(path: Path, public_key: bytes) -> LabSigner:
    """Return the signer of a key file. Refused(unsafe-state) names the file if it is damaged or not the lab's."""
    key = load_key(path)
    try:
        return LabSigner(key, public_key)
    except Refused as refused:
        raise Refused(refused.code, f"{path}: {refused.message}") from None
