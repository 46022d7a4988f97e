"""Who has cosigned what: the candidate checkpoint, the published one, and each verifier's clock. Pure bookkeeping.

There is at most one candidate at a time. A verifier's lines are counted only if they verify, are its own party's, and
carry a time within tolerance of the log's clock. Lines that come after the quorum are added to the published
checkpoint, so that every verifier shows, and so does its absence.

Whose lines are needed is what the agreement says at a place of the log. A candidate over a change of the verifiers
needs both quorums: that of the tree published before, and its own tree's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from pacekeeper.log.store.port import Head
from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.cosignature import cosignature_time
from pacekeeper.protocol.tlog.note import Note, NoteSignature, format_note, parse_note, parse_signatures
from pacekeeper.protocol.tlog.policy import CosignaturePolicy, check_checkpoint
from pacekeeper.protocol.tlog.vkey import NoteKey


@dataclass
class Proposal:
    """A checkpoint that the log has signed, and the cosignatures that it has by now. head_ms: its last entry's time.

    agreement: the one in force in its tree. policies: that of the tree published before and its own, once if they are
    the same.
    """

    size: int
    head_ms: int
    text: str
    log_line: NoteSignature
    agreement: Agreement
    policies: tuple[CosignaturePolicy, ...]
    cosignatures: dict[NoteKey, NoteSignature] = field(default_factory=dict)

    @property
    def is_transition(self) -> bool:
        """Whether it is over a change of the verifiers."""
        return len(self.policies) > 1

    def signed(self) -> bytes:
        """Return the note with the log's signature alone: what a verifier is asked to cosign."""
        return format_note(Note(self.text, (self.log_line,)))

    def note(self) -> bytes:
        """Return the note with every cosignature, by party."""
        lines = [line for _, line in sorted(self.cosignatures.items(), key=lambda item: item[0].name)]
        return format_note(Note(self.text, (self.log_line, *lines)))

    def keys_of(self, party: str) -> list[NoteKey]:
        """Return the keys under which a party's cosignature is good for something here, none twice."""
        return list(dict.fromkeys([key for policy in self.policies for who, key in policy.witnesses if who == party]))

    def asks(self, party: str) -> bool:
        """Whether this party can cosign it, and has not yet."""
        return any(key not in self.cosignatures for key in self.keys_of(party))

    def cosigners(self) -> set[str]:
        """Return the parties that have cosigned it."""
        return {who for policy in self.policies for who, key in policy.witnesses if key in self.cosignatures}

    def is_complete(self) -> bool:
        """Whether it has the quorum of each of its policies.

        SPEC transition-5: a checkpoint over a change of the verifiers MUST NOT be published without both quorums.
        """
        return all(
            len({party for party, key in policy.witnesses if key in self.cosignatures}) >= policy.quorum
            for policy in self.policies
        )


class Counted(Enum):
    """What a verifier's cosignature was good for."""

    CANDIDATE = 1  # it counts towards the candidate's quorum
    LATE = 2  # it is added to the checkpoint that is published already
    NOTHING = 3  # of an older checkpoint, or had before


@dataclass
class Witness:
    """What is known of one verifier. clock_ms: its clock when last heard; heard_ms: our monotonic clock then."""

    connected: bool = False
    cosigned_size: int = 0
    clock_ms: int | None = None
    heard_ms: int = 0
    ahead: bool = False


class Witnesses:
    """The verifiers that count at present. wall times in `_ms` are the log's clock; `monotonic_ms` only ever advances.

    of: the verifiers of the agreement in the published tree, in the candidate's and at the log's head: a newcomer may
    connect from its accession on, and one that leaves is needed until the transition is published.
    """

    def __init__(self, agreement: Agreement) -> None:
        self.standing = agreement  # in force in the published tree
        self.coming = agreement  # in force at the log's head
        self.of: dict[str, Witness] = {}
        self.candidate: Proposal | None = None
        self.published: Proposal | None = None
        self._seat()

    @property
    def tolerance_ms(self) -> int:
        """How far clocks may differ."""
        return self.coming.timing.tolerance_ms

    def agreements(self) -> list[Agreement]:
        """Return the agreements whose members count at present, none twice."""
        candidate = [] if self.candidate is None else [self.candidate.agreement]
        found: list[Agreement] = []
        for agreement in (self.standing, *candidate, self.coming):
            if all(agreement is not other for other in found):
                found.append(agreement)
        return found

    def _seat(self) -> None:
        parties = dict.fromkeys(party.id for agreement in self.agreements() for party in agreement.parties)
        self.of = {party: self.of.get(party, Witness()) for party in parties}

    def advance(self, agreement: Agreement) -> None:
        """Take note of the agreement that is in force at the log's head."""
        if agreement is not self.coming:
            self.coming = agreement
            self._seat()

    def restore(self, note: bytes, head_ms: int, agreement: Agreement, before: Agreement) -> None:
        """Take up the checkpoint that an earlier process published, over a tree in which an agreement is in force.

        before: the agreement of the tree published before it. Refused if the note does not meet the agreement.
        """
        self.standing = agreement
        parsed = check_checkpoint(note, agreement.policy()).note
        log_line, *_ = [line for line in parsed.signatures if line.key_hash == agreement.log.key.hash]
        policies = _both(before.policy(), agreement.policy())
        size = parse_checkpoint(parsed.text).size
        proposal = Proposal(size, head_ms, parsed.text, log_line, agreement, policies)
        by_name = {(key.name, key.hash): key for policy in policies for _, key in policy.witnesses}
        for line in parsed.signatures:
            key = by_name.get((line.name, line.key_hash))
            if key is not None:
                proposal.cosignatures[key] = line
        self.published = proposal
        self._seat()
        for party in proposal.cosigners() & self.of.keys():
            self.of[party].cosigned_size = proposal.size

    def propose(self, note: bytes, head: Head, agreement: Agreement) -> None:
        """Make a checkpoint, signed by the log over the head, the candidate, in place of any before.

        agreement: the one in force at that head.
        """
        parsed = parse_note(note)
        policies = _both(self.standing.policy(), agreement.policy())
        self.candidate = Proposal(head.size, head.time_ms, parsed.text, parsed.signatures[0], agreement, policies)
        self._seat()

    def current(self) -> Proposal | None:
        """Return the checkpoint that verifiers are asked to cosign: the candidate, else the published one."""
        return self.candidate or self.published

    def count(self, party: str, lines: bytes, now_ms: int) -> Counted:
        """Take a verifier's signature lines.

        Raises Refused: bad-note, clock-disagrees (a valid signature, but of a time out of tolerance).
        SPEC log-13: a cosignature MUST NOT count unless it verifies under the party's own key and its time is within
        the agreement's tolerance of the log's clock.
        """
        result = Counted.NOTHING
        for line in parse_signatures(lines):
            for proposal, good_for in ((self.candidate, Counted.CANDIDATE), (self.published, Counted.LATE)):
                key = None if proposal is None else _key_of(proposal, party, line)
                if proposal is None or key is None or key in proposal.cosignatures:
                    continue
                self._check_time(cosignature_time(line), now_ms)
                proposal.cosignatures[key] = line
                witness = self.of.get(party)
                if witness is not None:
                    witness.cosigned_size = max(witness.cosigned_size, proposal.size)
                result = good_for
                break
        return result

    def _check_time(self, time_s: int, now_ms: int) -> None:
        # A cosignature's time is in whole seconds, cut off or rounded.
        if abs(time_s * 1000 - now_ms) > self.tolerance_ms + 1000:
            raise Refused(Code.CLOCK_DISAGREES, "the cosignature's time is out of tolerance of the log's clock")

    def has_quorum(self) -> bool:
        """Whether the candidate may be published. SPEC log-14: not before the agreement's quorum has cosigned it."""
        return self.candidate is not None and self.candidate.is_complete()

    def publish(self) -> Proposal:
        """Make the candidate, which has its quorum, the published checkpoint."""
        candidate = self.candidate
        assert candidate is not None
        assert self.has_quorum()
        self.published, self.candidate = candidate, None
        self.standing = candidate.agreement
        self._seat()
        return candidate

    def heard(self, party: str, clock_ms: int, monotonic_ms: int) -> None:
        """Note a verifier's clock."""
        witness = self.of.get(party)
        if witness is not None:  # else it has left, and its stream is about to end
            witness.clock_ms, witness.heard_ms = clock_ms, monotonic_ms

    def offset_ms(self, party: str, now_ms: int, monotonic_ms: int) -> int:
        """Return a verifier's clock minus the log's, 0 if it was never heard.

        Its clock is carried on by monotonic time, so that a jump of the log's own clock shows at once.
        """
        witness = self.of[party]
        if witness.clock_ms is None:
            return 0
        return witness.clock_ms + (monotonic_ms - witness.heard_ms) - now_ms

    def clocks_disagree(self, now_ms: int, monotonic_ms: int) -> bool:
        """Whether so many connected verifiers' clocks are out of tolerance that the rest is no quorum."""
        out = {
            party
            for party, witness in self.of.items()
            if witness.connected and abs(self.offset_ms(party, now_ms, monotonic_ms)) > self.tolerance_ms
        }
        return any(len(ids - out) < quorum for ids, quorum in self._quorums())

    def behind(self) -> bool:
        """Whether more verifiers than may lie say that they hold more entries than this log."""
        ahead = {party for party, witness in self.of.items() if witness.ahead}
        return any(
            len(ahead.intersection(party.id for party in agreement.parties)) > agreement.quorum.liars
            for agreement in self.agreements()
        )

    def quorum_connected(self) -> bool:
        """Whether enough verifiers are connected for every quorum that is needed."""
        connected = {party for party, witness in self.of.items() if witness.connected}
        return all(len(ids & connected) >= quorum for ids, quorum in self._quorums())

    def _quorums(self) -> list[tuple[set[str], int]]:
        """The parties and the quorum of each agreement that counts at present."""
        return [({party.id for party in agreement.parties}, agreement.quorum.quorum) for agreement in self.agreements()]


def _both(before: CosignaturePolicy, own: CosignaturePolicy) -> tuple[CosignaturePolicy, ...]:
    return (own,) if before == own else (before, own)


def _key_of(proposal: Proposal, party: str, line: NoteSignature) -> NoteKey | None:
    """Return the party's key that has signed the proposal's text with this line, if one has."""
    for key in proposal.keys_of(party):
        if (line.name, line.key_hash) == (key.name, key.hash) and key.verify(proposal.text, line.data):
            return key
    return None
