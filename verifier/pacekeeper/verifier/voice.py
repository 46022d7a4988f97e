"""The key with which a verifier makes statements: of those at hand, the one that the log has in force.

A statement key can be rotated by the verifier and replaced by the parties (specs/keys.md). The configuration names it
and the file of the one that follows. What was signed and is not on the log yet is signed again by the key in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from pacekeeper.client.keyfiles import load_key
from pacekeeper.protocol.envelope import encode, parse_envelope, sign_envelope
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.replay.key_life import present

_log = structlog.get_logger()


class StatementKeys:
    """The keys of one party's verifier. paths: where one may still turn up."""

    def __init__(self, party: str, at_hand: Mapping[bytes, SigningKey], founding: bytes, paths: Sequence[Path]) -> None:
        self._party = party
        self._at_hand = dict(at_hand)
        self._paths = paths
        self._current = self._at_hand.get(founding) or next(iter(self._at_hand.values()))
        self.founding_at_hand = founding in self._at_hand

    def key_for(self, state: State) -> SigningKey:
        """Return the key in force, or, if no file holds it, the one that signed before: what it signs waits.

        SPEC verifier-33: findings MUST be signed by the key in force.
        """
        holding = present(state, "verifier", self._party)
        if holding is None or holding.key == self._current.public:
            return self._current
        if holding.key not in self._at_hand:
            self._look()
        if holding.key in self._at_hand:
            self._current = self._at_hand[holding.key]
            _log.info("statement key changed", party=self._party, number=holding.epoch)
        else:
            _log.error("no key file holds the statement key in force", party=self._party, number=holding.epoch)
        return self._current

    def renewed(self, envelope: bytes, state: State | None) -> bytes:
        """Return an envelope signed by the key in force: itself, or the same payload with that key's signature."""
        if state is None:
            return envelope
        key, parsed = self.key_for(state), parse_envelope(envelope)
        if [signature.key_id for signature in parsed.signatures] == [key.key_id]:
            return envelope
        return encode(sign_envelope(parsed.payload_type, parsed.payload, [key]))

    def _look(self) -> None:
        for path in self._paths:
            try:
                if path.exists():
                    key = load_key(path)
                    self._at_hand.setdefault(key.public, key)
            except Refused as refused:
                _log.error("key file not usable", why=refused.message)


def open_statement_keys(paths: Sequence[Path], party: str, founding: bytes) -> StatementKeys:
    """Load the key files that are there. Refused(unsafe-state) names one that is missing or not sound."""
    found = [path for path in paths if path.exists()] or [paths[0]]
    keys = [load_key(path) for path in found]
    return StatementKeys(party, {key.public: key for key in keys}, founding, paths)
