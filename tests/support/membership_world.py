"""A scripted log on which parties and labs join and leave and terms are amended, by a quorum's commitments.

Example: world.perform(world.exit("eastholm"), at=world.start(1)) proposes and pledges; the exit is done 10 s later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agreements import Keys, signing_key, verifier_name
from commitments import build_commitment, write_tables
from world import World

from pacekeeper.protocol.documents.model import Lab, Party, VerifierTerms
from pacekeeper.protocol.documents.template import format_lab, format_party
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay import Applied, Void
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, NoteKey
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import statements_pb2 as pb

CALENDAR: Final = {"period": "100 s", "due": "100 s", "tick": "50 s", "fill_in": "300 s", "indeterminate_periods": 1}
DELAY_MS: Final = 10_000


def newcomer(party: str, key: str = "") -> Party:
    """A party that is not a founder, with keys of its own; key: the label of another one's that it claims."""
    keys, name = Keys((party,), ()), verifier_name(party)
    return Party(
        id=party,
        name=party.capitalize(),
        key=signing_key(key).public if key else keys.party(party).public,
        verifier=VerifierTerms(
            name=name,
            statement_key=keys.verifier_statement(party).public,
            cosign_key=NoteKey(name, COSIGNATURE_V1, keys.verifier_cosign(party).public),
            tls_spki=hashlib.sha256(f"/tls/verifier/{party}".encode()).digest(),
            address="127.0.0.1:7599",
        ),
    )


def new_lab(lab: str, party: str) -> Lab:
    """A lab that is not a founder's."""
    pin = hashlib.sha256(f"/tls/lab/{lab}".encode()).digest()
    return Lab(lab, f"{lab.capitalize()} Laboratory", party, Keys((), (lab,)).lab(lab).public, pin)


class MembershipWorld(World):
    """Four parties, a lab each of the first two. Acts are proposed and pledged to by a quorum of the parties at once,
    the first that there are unless others are named."""

    def __init__(self, **document: Any) -> None:
        super().__init__(**{**CALENDAR, **document})

    def act(self, kind: str, ident: str, *, text: str = "", **tables: Any) -> bytes:
        """A commitment that is performed 10 s after a quorum of the parties has pledged."""
        entry = {
            "parties": self.state.agreement.quorum.quorum,
            "pledges_by": format_time(self.state.last_time_ms + 1_000_000),
            "delay": "10 s",
            "notice": "0 s",
            **tables.pop("entry", {}),
        }
        document = build_commitment(kind, ident, entry=entry, **tables)
        return document.replace(b"[entry]", text.encode() + b"\n[entry]") if text else document

    def accession(
        self,
        ident: str = "welcome",
        parties: Sequence[Party] = (),
        labs: Sequence[Lab] = (),
        quorum: tuple[int, int] | None = None,
    ) -> bytes:
        text = "\n".join([*map(format_party, parties), *map(format_lab, labs)])
        return self.act("accession", ident, text=text + "\n" + _quorum(quorum))

    def exit(
        self, party: str, ident: str = "", quorum: tuple[int, int] | None = None, *, own: bool = False, **entry: Any
    ) -> bytes:
        """own: decided by the party that leaves, and not by a quorum."""
        rule = {"parties": None, "named": [party], **entry} if own else entry
        return self.act("exit", ident or f"exit-{party}", text=_quorum(quorum), exit={"party": party}, entry=rule)

    def amendment(self, ident: str = "change", **tables: Any) -> bytes:
        return self.act("amendment", ident, without=["timing"] if "timing" not in tables else [], **tables)

    def key_of(self, who: str) -> SigningKey:
        return self.keys.lab(who) if who in self.state.labs else self.keys.party(who)

    def say(self, statement: Any, who: str, at: int) -> Applied | Void:
        return self.put(self.seal(statement, self.key_of(who)), at)

    def propose(self, document: bytes, at: int, who: str = "norland") -> Applied | Void:
        statement = pb.Commitment(agreement=self.agreement.fingerprint, proposer=who, document=document)
        return self.say(statement, who, at)

    def pledge(self, document: bytes, who: str, at: int, ident: str = "") -> Applied | Void:
        name = ident or document.split(b'id = "', 1)[1].split(b'"', 1)[0].decode()
        statement = pb.Pledge(
            agreement=self.agreement.fingerprint,
            participant=who,
            commitment=name,
            digest=hashlib.sha256(document).digest(),
        )
        return self.say(statement, who, at)

    def agree(self, document: bytes, at: int, who: Sequence[str] = ()) -> None:
        """Propose it and pledge to it; it is performed DELAY_MS later."""
        self.to(at)
        who = who or [party.id for party in self.state.agreement.parties][: self.state.agreement.quorum.quorum]
        for outcome in (self.propose(document, at, who[0]), *(self.pledge(document, one, at) for one in who)):
            assert isinstance(outcome, Applied), outcome

    def perform(self, document: bytes, at: int, who: Sequence[str] = ()) -> int:
        """As agree, and wait until it is done. Returns when."""
        self.agree(document, at, who)
        self.to(at + DELAY_MS)
        return at + DELAY_MS

    def account_for(self, lab: str, last: int) -> None:
        """Attest nothing for each period up to one, when it is over."""
        for period in range(self.state.labs[lab].next_period, last + 1):
            self.to(max(self.end(period), self.state.last_time_ms))
            outcome = self.attest(lab, period, {}, at=self.state.last_time_ms)
            assert isinstance(outcome, Applied), outcome

    def join_chain(self, lab: str) -> None:
        """Let a lab that has acceded sign its first account."""
        self.chain[lab] = (0, b"")

    def story(self, ident: str) -> list[str]:
        return [moment.what for moment in self.state.commitments.timeline(ident)]

    def proved(self) -> None:
        """A replay of the entries alone reaches the same state."""
        assert self.replayed().digest() == self.state.digest()


def _quorum(numbers: tuple[int, int] | None) -> str:
    rows: Mapping[str, object] = {} if numbers is None else {"quorum": numbers[0], "liars": numbers[1]}
    return write_tables({"quorum": rows}) if rows else ""


def acts() -> MembershipWorld:
    """A party leaves and its lab pays what it owes; another joins; two acts come too late; caps and margins change."""
    cap = {"id": "lab", "kind": "lab", "limit": "1e12 FLOP", "window": "2 periods"}
    world = MembershipWorld(caps=[cap])
    world.declare("borealis", "run-1", at=world.start(0))
    leaving, again = world.exit("eastholm", "one-exit", (2, 0)), world.exit("eastholm", "two-exits", (2, 0))
    for document in (leaving, again):
        world.agree(document, world.start(0) + 10_000)
    world.to(world.start(0) + 30_000)
    world.agree(world.exit("sudland", "own-exit", (2, 0), own=True), world.start(0) + 30_000, ("sudland",))
    world.to(world.end(0))
    world.attest("borealis", 0, {"run-1": 900})
    world.attest("meridian", 0, {})
    world.propose(again, world.end(0), "sudland")
    world.propose(world.amendment("late", resolution={"indeterminate_periods": 2}), world.end(0), "meridian")
    party, lab = newcomer("highmark"), new_lab("zephyr", "highmark")
    joining, change = (
        world.accession("joining", [party], [lab], (2, 0)),
        world.amendment(
            "narrower", margins={"framework-count": "1 %"}, cap=[{**cap, "limit": "1e11 FLOP"}, {**cap, "id": "extra"}]
        ),
    )
    for document in (joining, change):
        world.agree(document, world.end(0) + 1_000, ("norland", "westmere"))
    world.join_chain("zephyr")
    world.to(world.end(1))
    world.attest("borealis", 1, {"run-1": 50}, margin_ppm=50_000)
    world.attest("meridian", 1, {}, at=world.end(1))
    world.to(world.end(2))
    for margin_ppm in (10_001, 10_000):
        link, account = world.link("borealis", world.state.size), world.account(2, {"run-1": 70}, margin_ppm)
        statement = pb.ComputeAttestation(
            agreement=world.agreement.fingerprint, lab="borealis", link=link, account=account
        )
        world.put_chain("borealis", statement, world.end(2))
    world.attest("zephyr", 2, {}, at=world.end(2))
    world.propose(world.accession("back", [newcomer("eastholm")], quorum=(3, 1)), world.end(2), "highmark")
    for period in (3, 4):
        world.to(world.end(period))
        world.attest("borealis", period, {})
    world.attest("meridian", 1, {}, at=world.state.last_time_ms)
    return world
