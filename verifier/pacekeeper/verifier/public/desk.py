"""The witness's desk: decides, persists, signs, one request after the other.

Checking the old size and persisting the new one is atomic because one request is at the desk at a time; the store
compares again, so that a second process could not come between either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping

from pacekeeper.protocol import mldsa
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.note import NoteKey, add_signatures, parse_signatures
from pacekeeper.protocol.tlog.witness import EMPTY, Rejection, decide, parse_request
from pacekeeper.verifier.marker import KeyMarker, check_mark
from pacekeeper.verifier.public.store import WitnessStore

Signer = SigningKey | mldsa.SigningKey


class WitnessDesk:
    """A public witness under one name, with an Ed25519 key, an ML-DSA-44 key or both."""

    def __init__(
        self,
        name: str,
        signers: Collection[Signer],
        logs: Mapping[str, Collection[NoteKey]],
        store: WitnessStore,
        marker: KeyMarker,
        now_s: Callable[[], int],
    ) -> None:
        if not signers:
            raise ValueError("a witness without a key")
        # SPEC witness-9: keys that have cosigned MUST NOT sign from a store that is lost or was rolled back.
        check_mark(marker, origin=f"witness {name}", store=store.id, size=store.serial)
        self.name = name
        self.logs = logs
        self._signers, self._store, self._marker, self._now_s = tuple(signers), store, marker, now_s
        self._last_s = 0
        self._at_work = threading.Lock()

    def add_checkpoint(self, body: bytes) -> bytes | Rejection:
        """Answer a request's body with signature lines, or with why not. Refused(unsafe-state) when it must stop."""
        try:
            request = parse_request(body)
        except Refused as refusal:
            return Rejection(413 if refusal.code is Code.TOO_LARGE else 400, refusal.message)
        with self._at_work:
            decision = decide(request, self.logs, self._store.trees)
            if isinstance(decision, Rejection):
                return decision
            origin, tree, note = decision.origin, decision.tree, decision.note
            before = self._store.trees.get(origin, EMPTY)
            if tree != before:
                self._store.keep(origin, before, tree, request.note)
                self._marker.advance(self._store.serial)
            return self._sign(note.text)

    def checkpoint(self, origin: str) -> bytes | None:
        """The checkpoint of a log that was cosigned last, cosigned again now; None if there is none."""
        with self._at_work:
            note = self._store.note(origin)
            if note is None:
                return None
            text = note[: note.rindex(b"\n\n") + 1].decode()
            return add_signatures(note, parse_signatures(self._sign(text)))

    def sizes(self) -> dict[str, int]:
        """The size cosigned last of every log that is witnessed, 0 before the first."""
        trees = self._store.trees
        return {origin: trees.get(origin, EMPTY).size for origin in sorted(self.logs)}

    def _sign(self, text: str) -> bytes:
        # SPEC witness-10: a cosignature's time MUST NOT be before that of one made earlier.
        self._last_s = max(self._last_s, self._now_s())
        return "".join(sign_cosignature(text, self.name, signer, self._last_s) for signer in self._signers).encode()
