"""A scripted log on which keys are rotated and replaced, for tests of the replay.

Example: world = KeyWorld(); world.rotate("lab", "borealis", at=world.now); world.key("lab", "borealis") is the new one
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from agreements import signing_key
from commitments import build_commitment
from world import World

from pacekeeper.protocol.keys import SigningKey, format_public_key
from pacekeeper.protocol.replay import Applied, Void
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

CALENDAR: Final = {"period": "100 s", "due": "100 s", "tick": "50 s", "fill_in": "500 s", "indeterminate_periods": 1}
ROLE: Final = {
    "party": pb.KEY_ROLE_PARTY,
    "verifier": pb.KEY_ROLE_VERIFIER,
    "lab": pb.KEY_ROLE_LAB,
    "log": pb.KEY_ROLE_LOG,
}
HOLDERS: Final = (("party", "norland"), ("verifier", "norland"), ("lab", "borealis"), ("log", "log"))


class KeyWorld(World):
    """Four parties, quorum 3; labs borealis (norland's) and meridian (sudland's). period 0 of both is attested."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**{**CALENDAR, **more})
        self.held: dict[tuple[str, str], list[SigningKey]] = {
            **{("party", party): [self.keys.party(party)] for party in self.keys.party_ids},
            **{("verifier", party): [self.keys.verifier_statement(party)] for party in self.keys.party_ids},
            **{("lab", lab): [self.keys.lab(lab)] for lab in self.keys.lab_ids},
            ("log", "log"): [self.keys.log_statement],
        }
        self.declare("borealis", "run-1", at=self.start(0))
        self.to(self.end(0))
        for lab in self.keys.lab_ids:
            self.attest(lab, 0, {})

    @property
    def now(self) -> int:
        return self.state.last_time_ms

    def key(self, role: str, holder: str, epoch: int | None = None) -> SigningKey:
        """The key that a holder has, or had in an epoch."""
        return self.held[role, holder][-1 if epoch is None else epoch - 1]

    def rotation(self, role: str, holder: str, key: bytes, epoch: int | None = None) -> pb.KeyRotation:
        return pb.KeyRotation(
            agreement=self.agreement.fingerprint,
            role=ROLE[role],
            holder=holder,
            epoch=len(self.held[role, holder]) + 1 if epoch is None else epoch,
            key=key,
        )

    def sealed_rotation(self, role: str, holder: str) -> envelope_pb2.Envelope:
        """A good rotation to the holder's next key."""
        new = self.next_key(role, holder)
        return seal(self.rotation(role, holder, new.public), [self.key(role, holder), new])

    def next_key(self, role: str, holder: str) -> SigningKey:
        return signing_key(f"{role} {holder} {len(self.held[role, holder]) + 1}")

    def rotate(self, role: str, holder: str, at: int | None = None) -> Applied | Void:
        outcome = self.put(self.sealed_rotation(role, holder), self.now if at is None else at)
        if isinstance(outcome, Applied):
            self.held[role, holder].append(self.next_key(role, holder))
        return outcome

    def sealed_tick(self, index: int | None = None) -> envelope_pb2.Envelope:
        number = self.state.size if index is None else index
        key = self.held["log", "log"][-1] if hasattr(self, "held") else self.keys.log_statement
        return self.seal(pb.Tick(agreement=self.agreement.fingerprint, index=number), key)

    # --- replacement by the parties

    def replacement(
        self, *replaced: tuple[str, str, int], ident: str = "new-keys", keys: Sequence[bytes] = (), **entry: Any
    ) -> bytes:
        """A document that gives each (role, holder, epoch) the holder's next key, or the one given."""
        rows = [
            {"role": role, "holder": holder, "epoch": epoch, "key": format_public_key(key)}
            for (role, holder, epoch), key in zip(
                replaced, keys or [self.next_key(role, holder).public for role, holder, _ in replaced], strict=True
            )
        ]
        terms = {"parties": 3, "pledges_by": format_time(self.start(3)), "delay": "10 s", "notice": "0 s", **entry}
        return build_commitment("keys", ident, entry=terms, more={"key": rows})

    def say(self, statement: Any, role: str, who: str, at: int | None = None) -> Applied | Void:
        return self.put(self.seal(statement, self.key(role, who)), self.now if at is None else at)

    def propose(self, document: bytes, who: str = "norland") -> Applied | Void:
        role = "lab" if who in self.keys.lab_ids else "party"
        statement = pb.Commitment(agreement=self.agreement.fingerprint, proposer=who, document=document)
        return self.say(statement, role, who)

    def pledge(self, document: bytes, who: str, ident: str = "new-keys") -> Applied | Void:
        statement = pb.Pledge(
            agreement=self.agreement.fingerprint,
            participant=who,
            commitment=ident,
            digest=hashlib.sha256(document).digest(),
        )
        return self.say(statement, "party", who)

    def decide(
        self,
        *replaced: tuple[str, str, int],
        by: Sequence[str],
        ident: str = "new-keys",
        keys: Sequence[bytes] = (),
        **entry: Any,
    ) -> None:
        """Propose and pledge: the keys are replaced 10 s later, with the first entry from then on."""
        document = self.replacement(*replaced, ident=ident, keys=keys, **entry)
        for outcome in (self.propose(document, by[0]), *(self.pledge(document, who, ident) for who in by)):
            assert isinstance(outcome, Applied), outcome

    def done(self, *replaced: tuple[str, str, int]) -> None:
        """Let the delay pass, and hold what was replaced."""
        new = [(role, holder, self.next_key(role, holder)) for role, holder, _ in replaced]
        self.tick(self.now + 10_000)
        for role, holder, key in new:
            self.held[role, holder].append(key)

    def proved(self) -> None:
        """A replay of the entries alone reaches the same state."""
        assert self.replayed().digest() == self.state.digest()
