"""The sequencer: which submissions become entries, in which order and at what log time. Pure: no clock, disk or socket.

One step takes whatever is queued, the time, and what is known of the world (`Conditions`), and gives a `Plan`: entries
to commit together, and one outcome for each submission. The replay decides what is admissible; this file decides when.

1. A statement that is on the log already has its old index, at any time, also while the log does not sequence.
2. While a reason to halt stands, nothing new is sequenced; the first entry after it is a Tick.
3. A Tick comes before anything else that would fall on or after a deadline, and whenever the log has been idle.
4. Log time is the clock, but never before the last entry's time.

A plan changes the replay's state when it is made. If it then cannot be committed, state and disk have parted, and the
caller must stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pacekeeper.log.store.port import Slot
from pacekeeper.protocol import keys, limits
from pacekeeper.protocol.envelope import Signed, encode, frame_entry, parse_envelope, parse_signed, read_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import State, admit, chain
from pacekeeper.protocol.statements import parse_statement, seal
from pacekeeper.protocol.units import format_duration, format_time
from pacekeeper.v1 import log_pb2
from pacekeeper.v1 import statements_pb2 as pb


class Voice(Protocol):
    """Whoever holds the log's statement keys, and picks the one in force."""

    def key_for(self, state: State) -> keys.SigningKey: ...


Known = Callable[[Sequence[bytes]], Mapping[bytes, int]]
FindSlot = Callable[[str, int], int | None]


class Sequenced(NamedTuple):
    """A submission's place on the log. A duplicate was there before; its entry, in the store, has its time."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    id: bytes
    time_ms: int
    duplicate: bool = False


Outcome = Sequenced | Refused


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the sequencer must know of the world besides the time.

    oldest_unpublished_ms: log time of the first entry that no published checkpoint covers. clocks_disagree: too many
    verifiers' clocks are out of tolerance. behind: more verifiers than may lie hold more entries than this log.
    unconfirmed: a quorum of verifiers is still to say that it holds no more than this log, whose state may be old.
    refresh: the quorum is there, but will not cosign a head as old as this one; a Tick makes it new. full: the disk has
    no room for more.
    """

    oldest_unpublished_ms: int | None = None
    clocks_disagree: bool = False
    behind: bool = False
    unconfirmed: bool = False
    refresh: bool = False
    full: bool = False


@dataclass(slots=True)
class Plan:
    """What to commit, at log time time_ms, and what to answer: outcomes[i] belongs to submission i."""

    first_index: int
    time_ms: int
    outcomes: list[Outcome] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    conflicts: list[log_pb2.ConflictingEnvelope] = field(default_factory=list)
    halted: Refused | None = None


class Sequencer:
    """Owns the replay's state. voice has the log's statement key; known and find_slot look into the store."""

    def __init__(self, state: State, voice: Voice, known: Known, find_slot: FindSlot) -> None:
        self.state = state
        self._voice = voice
        self._known = known
        self._find_slot = find_slot
        self._resuming = True  # a log that has been down resumes like one that was halted

    def step(self, submissions: Sequence[bytes], now_ms: int, conditions: Conditions) -> Plan:
        """Decide about everything queued, in order."""
        state = self.state
        plan = Plan(state.size, max(now_ms, state.last_time_ms))
        plan.halted = self.halt_reason(now_ms, conditions)
        if plan.halted is not None:
            self._resuming = True
            doubtful = conditions.behind or conditions.unconfirmed
            if conditions.refresh and plan.halted.code is Code.HALTED and not doubtful:
                self._tick(plan)
        elif self._tick_due(plan.time_ms, conditions):
            self._tick(plan)
        for data in submissions:
            try:
                outcome = self._take(plan, data, parse_signed(data))
            except Refused as refused:
                outcome = refused
            if isinstance(outcome, Refused):
                outcome.with_traceback(None)  # or it holds all submissions of this step until it is told
            plan.outcomes.append(outcome)
        return plan

    def halt_reason(self, now_ms: int, conditions: Conditions) -> Refused | None:
        """Return why nothing may be sequenced at this moment, None if it may.

        SPEC log-6: a log whose clock is behind its last entry by more than the tolerance MUST wait for it to catch up.
        SPEC log-7: a log MUST NOT sequence while verifiers' clocks disagree with its own and the rest is no quorum.
        SPEC log-16: a log MUST NOT sequence, not even a Tick, while its disk is nearly full.
        SPEC log-8: a log MUST NOT sequence while its oldest unpublished entry is older than the agreement allows.
        """
        timing = self.state.agreement.timing
        if conditions.full:
            return Refused(Code.OVERLOADED, "the log's disk is nearly full; nothing is taken until space is made")
        if now_ms < self.state.last_time_ms - timing.tolerance_ms:
            last = format_time(self.state.last_time_ms)
            return Refused(Code.CLOCK_DISAGREES, f"the log's clock is behind its last entry of {last}")
        if conditions.clocks_disagree:
            return Refused(Code.CLOCK_DISAGREES, "the log's clock and those of its verifiers disagree")
        if conditions.behind:
            return Refused(Code.HALTED, "verifiers hold more entries than this log; was it restored from a backup")
        # SPEC log-27: a log that may be an older image of itself MUST NOT sequence before a quorum has said otherwise.
        if conditions.unconfirmed:
            return Refused(Code.HALTED, "a quorum of verifiers has not said yet how many entries this log has had")
        oldest = conditions.oldest_unpublished_ms
        if oldest is not None and now_ms - oldest > timing.unwitnessed_ms:
            allowed = format_duration(timing.unwitnessed_ms)
            return Refused(Code.HALTED, f"no quorum of verifiers has cosigned for {allowed}; what is on the log stays")
        return None

    def wake_ms(self) -> int:
        """Return when the next step is due even if nothing is submitted.

        Half the tick interval, since a silence counts from the first millisecond beyond the whole.
        """
        state = self.state
        idle_ms = state.last_time_ms + max(1, state.agreement.timing.tick_ms // 2)
        due_ms = state.next_deadline_ms()
        return idle_ms if due_ms is None else min(idle_ms, due_ms)

    def _tick_due(self, time_ms: int, conditions: Conditions) -> bool:
        """SPEC log-9: a Tick MUST come first after a halt, when a deadline has passed, and when the log was idle."""
        return self._resuming or conditions.refresh or time_ms >= self.wake_ms()

    def _tick(self, plan: Plan) -> None:
        state = self.state
        tick = seal(pb.Tick(agreement=state.agreement.fingerprint, index=state.size), [self._voice.key_for(state)])
        applied = admit(state, read_envelope(tick), plan.time_ms)
        plan.entries.append(frame_entry(plan.time_ms, encode(tick)))
        plan.ids.append(applied.id)
        self._resuming = False

    def _take(self, plan: Plan, data: bytes, signed: Signed) -> Outcome:
        """Sequence a statement, or find it, or say why not.

        SPEC log-1: the same statement MUST get the same index again, however often it is submitted.
        A statement that is on the log is one that the replay refuses (SPEC replay-13), so only those are looked up.
        """
        refusal = plan.halted
        if refusal is None:
            try:
                return self._sequence(plan, data, signed)
            except Refused as refused:
                refusal = refused
        index = self._find(plan, signed.id)
        if index is not None:
            return Sequenced(index, signed.id, plan.time_ms, duplicate=True)
        if refusal.code is Code.SEQUENCE_TAKEN:
            self._note_conflict(plan, data)
        return refusal

    def _find(self, plan: Plan, statement_id: bytes) -> int | None:
        if statement_id in plan.ids:
            return plan.first_index + plan.ids.index(statement_id)
        return self._known([statement_id]).get(statement_id)

    def _sequence(self, plan: Plan, data: bytes, signed: Signed) -> Sequenced:
        state, time_ms = self.state, plan.time_ms
        entry = frame_entry(time_ms, data)
        if len(entry) > limits.MAX_ENTRY_BYTES:
            raise Refused(Code.TOO_LARGE, f"an entry of {len(entry)} bytes, at most {limits.MAX_ENTRY_BYTES}")
        due_ms = state.next_deadline_ms()
        if due_ms is not None and due_ms <= time_ms:
            self._tick(plan)  # the entry before has brought a deadline that lies in the past
        applied = admit(state, signed, time_ms)
        index = applied.index
        plan.entries.append(entry)
        plan.ids.append(signed.id)
        if applied.slot is not None:
            plan.slots.append(Slot(*applied.slot, index))
        return Sequenced(index, signed.id, time_ms)

    def _note_conflict(self, plan: Plan, data: bytes) -> None:
        """SPEC log-10: a validly signed statement for a sequence number that another has taken MUST be relayed.

        The replay checks signatures before it looks at the sequence, so that one refused for it is validly signed; and
        it is another statement than the first, or it would have been a duplicate.
        """
        envelope = parse_envelope(data)
        statement = parse_statement(envelope)
        assert isinstance(statement, chain.CHAINED)
        lab, sequence = statement.lab, statement.link.sequence
        here = next((slot.index for slot in plan.slots if slot.lab == lab and slot.sequence == sequence), None)
        first = self._find_slot(lab, sequence) if here is None else here
        if first is not None:
            plan.conflicts.append(log_pb2.ConflictingEnvelope(first_index=first, second=envelope))
