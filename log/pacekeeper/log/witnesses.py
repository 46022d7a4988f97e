"""Who has cosigned what: the candidate checkpoint, the published one, and each verifier's clock. Pure bookkeeping.

There is at most one candidate at a time. A verifier's lines are counted only if they verify, are its own party's, and
carry a time within tolerance of the log's clock. Lines that come after the quorum are added to the published
checkpoint, so that every verifier shows, and so does its absence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from pacekeeper.log.store.port import Head
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.cosignature import cosignature_time
from pacekeeper.protocol.tlog.note import Note, NoteSignature, format_note, parse_note, parse_signatures
from pacekeeper.protocol.tlog.policy import CosignaturePolicy, check_checkpoint


@dataclass
class Proposal:
    """A checkpoint that the log has signed, and the cosignatures that it has by now. head_ms: its last entry's time."""

    size: int
    head_ms: int
    text: str
    log_line: NoteSignature
    cosignatures: dict[str, NoteSignature] = field(default_factory=dict)

    def signed(self) -> bytes:
        """Return the note with the log's signature alone: what a verifier is asked to cosign."""
        return format_note(Note(self.text, (self.log_line,)))

    def note(self) -> bytes:
        """Return the note with every cosignature, by party."""
        lines = [self.cosignatures[party] for party in sorted(self.cosignatures)]
        return format_note(Note(self.text, (self.log_line, *lines)))


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
    """The verifiers of one agreement. wall times in `_ms` are the log's clock; `monotonic_ms` only ever advances."""

    def __init__(self, policy: CosignaturePolicy, liars: int, tolerance_ms: int) -> None:
        self._policy = policy
        self._liars = liars
        self.tolerance_ms = tolerance_ms
        self._keys = dict(policy.witnesses)
        self.of = {party: Witness() for party, _ in policy.witnesses}
        self.candidate: Proposal | None = None
        self.published: Proposal | None = None

    def restore(self, note: bytes, head_ms: int) -> None:
        """Take up the checkpoint that an earlier process published. Refused if it does not meet the agreement."""
        checked = check_checkpoint(note, self._policy)
        by_key = {(key.name, key.hash): party for party, key in self._policy.witnesses}
        log_line, *_ = [line for line in checked.note.signatures if line.key_hash == self._policy.log_key.hash]
        proposal = Proposal(checked.checkpoint.size, head_ms, checked.note.text, log_line)
        for line in checked.note.signatures:
            party = by_key.get((line.name, line.key_hash))
            if party is not None:
                proposal.cosignatures[party] = line
                self.of[party].cosigned_size = proposal.size
        self.published = proposal

    def propose(self, note: bytes, head: Head) -> None:
        """Make a checkpoint, signed by the log over the head, the candidate, in place of any before."""
        parsed = parse_note(note)
        self.candidate = Proposal(head.size, head.time_ms, parsed.text, parsed.signatures[0])

    def current(self) -> Proposal | None:
        """Return the checkpoint that verifiers are asked to cosign: the candidate, else the published one."""
        return self.candidate or self.published

    def count(self, party: str, lines: bytes, now_ms: int) -> Counted:
        """Take a verifier's signature lines.

        Raises Refused: bad-note, clock-disagrees (a valid signature, but of a time out of tolerance).
        SPEC log-13: a cosignature MUST NOT count unless it verifies under the party's own key and its time is within
        the agreement's tolerance of the log's clock.
        """
        key = self._keys[party]
        own = [line for line in parse_signatures(lines) if (line.name, line.key_hash) == (key.name, key.hash)]
        for line in own:
            for proposal, result in ((self.candidate, Counted.CANDIDATE), (self.published, Counted.LATE)):
                if proposal is None or not key.verify(proposal.text, line.data):
                    continue
                if party in proposal.cosignatures:
                    return Counted.NOTHING
                self._check_time(cosignature_time(line), now_ms)
                proposal.cosignatures[party] = line
                self.of[party].cosigned_size = max(self.of[party].cosigned_size, proposal.size)
                return result
        return Counted.NOTHING

    def _check_time(self, time_s: int, now_ms: int) -> None:
        # A cosignature's time is in whole seconds, cut off or rounded.
        if abs(time_s * 1000 - now_ms) > self.tolerance_ms + 1000:
            raise Refused(Code.CLOCK_DISAGREES, "the cosignature's time is out of tolerance of the log's clock")

    def has_quorum(self) -> bool:
        """Whether the candidate may be published. SPEC log-14: not before the agreement's quorum has cosigned it."""
        return self.candidate is not None and len(self.candidate.cosignatures) >= self._policy.quorum

    def publish(self) -> Proposal:
        """Make the candidate, which has its quorum, the published checkpoint."""
        candidate = self.candidate
        assert candidate is not None
        assert self.has_quorum()
        self.published, self.candidate = candidate, None
        return candidate

    def heard(self, party: str, clock_ms: int, monotonic_ms: int) -> None:
        """Note a verifier's clock."""
        witness = self.of[party]
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
        out = [
            party
            for party, witness in self.of.items()
            if witness.connected and abs(self.offset_ms(party, now_ms, monotonic_ms)) > self.tolerance_ms
        ]
        return len(out) > len(self.of) - self._policy.quorum

    def behind(self) -> bool:
        """Whether more verifiers than may lie say that they hold more entries than this log."""
        return sum(witness.ahead for witness in self.of.values()) > self._liars

    def quorum_connected(self) -> bool:
        """Whether enough verifiers are connected for a quorum."""
        return sum(witness.connected for witness in self.of.values()) >= self._policy.quorum
