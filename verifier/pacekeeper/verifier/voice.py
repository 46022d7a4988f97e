"""The key with which a verifier makes statements: of those at hand, the one that the log has in force.

A statement key can be rotated by the verifier and replaced by the parties (specs/keys.md). The configuration names it
and the file of the one that follows. What was signed and is not on the log yet is signed again by the key in force.
"""

from __future__ import annotations

import structlog

from pacekeeper.client.successors import KeyFiles
from pacekeeper.protocol.envelope import encode, parse_envelope, sign_envelope
from pacekeeper.protocol.keys import SigningKey, key_id
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.replay.key_life import present
from pacekeeper.protocol.text import printable

_log = structlog.get_logger()


class StatementKeys:
    """The keys of one party's verifier."""

    def __init__(self, party: str, files: KeyFiles, founding: bytes) -> None:
        """founding: the key that the agreement names. It signs at first, if it is at hand."""
        self._party = party
        self._files = files
        ident = key_id(founding)
        self._current = files.at_hand.get(ident) or next(iter(files.at_hand.values()))
        self.founding_at_hand = ident in files.at_hand

    def key_for(self, state: State) -> SigningKey:
        """Return the key in force, or, if no file holds it, the one that signed before: what it signs waits.

        SPEC verifier-34: findings MUST be signed by the key in force.
        """
        holding = present(state, "verifier", self._party)
        if holding is None or holding.key == self._current.public:
            return self._current
        key = self._files.find(key_id(holding.key))
        if key is None:
            why = printable(self._files.problem)
            _log.error("no key file holds the statement key", party=self._party, number=holding.epoch, why=why)
            return self._current
        self._current = key
        _log.info("statement key changed", party=self._party, number=holding.epoch)
        return key

    def renewed(self, envelope: bytes, state: State | None) -> bytes:
        """Return an envelope signed by the key in force: itself, or the same payload with that key's signature."""
        if state is None:
            return envelope
        key, parsed = self.key_for(state), parse_envelope(envelope)
        if [signature.key_id for signature in parsed.signatures] == [key.key_id]:
            return envelope
        return encode(sign_envelope(parsed.payload_type, parsed.payload, [key]))
