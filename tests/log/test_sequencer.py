"""The sequencer's decisions, without a disk or a clock: order, time, ticks, halts, duplicates, conflicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from world import World

from pacekeeper.client.successors import KeyFiles
from pacekeeper.log.sequencer import Conditions, Plan, Sequenced, Sequencer
from pacekeeper.log.voice import StatementKeys
from pacekeeper.protocol.envelope import PAYLOAD_TYPE_PREFIX, encode, parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import Void, apply, genesis
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

CALM = Conditions()


class Bench:
    """A sequencer over a world's first entry, with dictionaries for a store."""

    def __init__(self, **document: Any) -> None:
        document = {"period": "1 d", "tick": "5 min", **document}
        self.world = World(**document)
        self.ids: dict[bytes, int] = {}
        self.slots: dict[tuple[str, int], int] = {}
        self.entries = list(self.world.entries)
        self.sequencer = Sequencer(
            genesis(self.world.entries[0]),
            StatementKeys(KeyFiles([self.world.keys.log_statement])),
            self._known,
            self._slot,
        )
        self.start = self.world.agreement.calendar.epoch_ms

    def _known(self, ids: Sequence[bytes]) -> Mapping[bytes, int]:
        return {identity: self.ids[identity] for identity in ids if identity in self.ids}

    def _slot(self, lab: str, sequence: int) -> int | None:
        return self.slots.get((lab, sequence))

    def step(self, *envelopes: bytes, at: int, conditions: Conditions = CALM) -> Plan:
        plan = self.sequencer.step(envelopes, at, conditions)
        assert plan.first_index == len(self.entries)
        self.ids.update(zip(plan.ids, range(plan.first_index, plan.first_index + len(plan.ids)), strict=True))
        self.slots.update({(slot.lab, slot.sequence): slot.index for slot in plan.slots})
        self.entries.extend(plan.entries)
        return plan

    def declaration(self, run: str, lab: str = "borealis") -> bytes:
        statement = self.world.declaration(lab, run)
        return encode(self.world.seal(statement, self.world.keys.lab(lab)))

    def gap(self, note: str, sequence: int = 1) -> bytes:
        statement = pb.Gap(
            agreement=self.world.agreement.fingerprint,
            lab="borealis",
            link=pb.Link(sequence=sequence),
            first_period=0,
            last_period=0,
            reason=pb.GAP_REASON_LATE,
            note=note,
        )
        return encode(self.world.seal(statement, self.world.keys.lab("borealis")))

    def kinds(self, plan: Plan) -> list[str]:
        return [parse_entry(entry).envelope.payload_type.removeprefix(PAYLOAD_TYPE_PREFIX) for entry in plan.entries]


def _refusal(plan: Plan, position: int = 0) -> Code:
    outcome = plan.outcomes[position]
    assert isinstance(outcome, Refused)
    return outcome.code


def _sequenced(plan: Plan, position: int = 0) -> Sequenced:
    outcome = plan.outcomes[position]
    assert isinstance(outcome, Sequenced)
    return outcome


def test_the_first_entry_of_a_process_is_a_tick_and_later_ones_follow_without() -> None:
    """SPEC log-9: a log that has been down resumes with a Tick, as after a halt."""
    bench = Bench()
    first = bench.step(bench.declaration("a"), at=bench.start + 1000)
    assert bench.kinds(first) == ["Tick", "RunDeclaration"]
    second = bench.step(bench.declaration("b"), bench.declaration("c"), at=bench.start + 2000)
    assert bench.kinds(second) == ["RunDeclaration", "RunDeclaration"]
    assert [_sequenced(second, i).index for i in range(2)] == [3, 4]
    assert {parse_entry(entry).sequenced_at_ms for entry in second.entries} == {bench.start + 2000}


def test_what_is_sequenced_replays_without_a_void_entry() -> None:
    bench = Bench(period="10 s")
    for number in range(100):
        bench.step(bench.declaration(f"run-{number}"), at=bench.start + number * 400)
    state = genesis(bench.entries[0])
    outcomes = [apply(state, entry) for entry in bench.entries[1:]]
    assert not [outcome for outcome in outcomes if isinstance(outcome, Void)]
    assert state.digest() == bench.sequencer.state.digest()
    assert state.violations, "periods without an account fell due on the way"


def test_the_same_statement_gets_the_same_index_within_a_step_and_later() -> None:
    """SPEC log-1: also when it comes twice in one step, and while the log does not sequence (FAULTS 31)."""
    bench = Bench()
    data = bench.declaration("a")
    plan = bench.step(data, data, at=bench.start + 1000)
    assert _sequenced(plan, 0).index == _sequenced(plan, 1).index == 2
    assert not _sequenced(plan, 0).duplicate
    assert _sequenced(plan, 1).duplicate
    halted = bench.step(data, bench.declaration("b"), at=bench.start + 2000, conditions=Conditions(behind=True))
    assert _sequenced(halted, 0).index == 2
    assert _refusal(halted, 1) is Code.HALTED
    assert halted.entries == []


def test_a_tick_comes_before_what_falls_behind_a_deadline() -> None:
    """SPEC log-9: admission may not skip a deadline that has passed."""
    bench = Bench()
    bench.step(at=bench.start + 1000)
    due = bench.sequencer.state.next_deadline_ms()
    assert due is not None
    for at in range(bench.start + 100_000, due - 1, 100_000):
        bench.step(at=at)
    bench.step(at=due - 1)
    plan = bench.step(bench.declaration("a"), at=due)
    assert bench.kinds(plan) == ["Tick", "RunDeclaration"]
    assert bench.sequencer.state.violations


def test_an_idle_log_ticks_well_within_the_interval() -> None:
    """SPEC log-9: so that no silence longer than the agreement's interval comes about in a log that runs."""
    bench = Bench()
    bench.step(at=bench.start + 1000)
    wake = bench.sequencer.wake_ms()
    assert bench.kinds(bench.step(at=wake - 1)) == []
    assert bench.kinds(bench.step(at=wake)) == ["Tick"]
    assert wake - (bench.start + 1000) < bench.world.agreement.timing.tick_ms
    assert bench.sequencer.state.silences._all == []


def test_log_time_never_decreases_and_a_clock_that_is_far_behind_is_waited_for() -> None:
    """SPEC log-6 (FAULTS 35): within tolerance the last entry's time stands; beyond it nothing is sequenced."""
    bench = Bench(tolerance="10 s")
    bench.step(bench.declaration("a"), at=bench.start + 60_000)
    near = bench.step(bench.declaration("b"), at=bench.start + 50_000)
    assert parse_entry(near.entries[0]).sequenced_at_ms == bench.start + 60_000
    far = bench.step(bench.declaration("c"), at=bench.start + 49_999)
    assert _refusal(far) is Code.CLOCK_DISAGREES
    assert far.entries == []
    caught_up = bench.step(bench.declaration("c"), at=bench.start + 60_001)
    assert bench.kinds(caught_up) == ["Tick", "RunDeclaration"]


def test_it_halts_while_clocks_disagree_or_nothing_is_published_and_resumes_with_a_tick() -> None:
    """SPEC log-7, SPEC log-8, SPEC log-9 (FAULTS 21)."""
    bench = Bench(unwitnessed="1 h")
    bench.step(at=bench.start + 1000)
    at = bench.start + 1000 + 3_600_000
    within = bench.step(bench.declaration("a"), at=at, conditions=Conditions(bench.start + 1000))
    assert isinstance(within.outcomes[0], Sequenced)
    late = bench.step(bench.declaration("b"), at=at + 1, conditions=Conditions(bench.start + 1000))
    assert _refusal(late) is Code.HALTED
    clocks = bench.step(bench.declaration("b"), at=at + 1, conditions=Conditions(clocks_disagree=True))
    assert _refusal(clocks) is Code.CLOCK_DISAGREES
    assert late.entries == clocks.entries == []
    resumed = bench.step(bench.declaration("b"), at=at + 2)
    assert bench.kinds(resumed) == ["Tick", "RunDeclaration"]


def test_a_halted_log_renews_its_head_when_the_quorum_is_back() -> None:
    """Verifiers do not cosign an old head: without this Tick a log that has halted could never publish again."""
    bench = Bench(unwitnessed="1 h")
    bench.step(at=bench.start + 1000)
    stale = Conditions(bench.start + 1000, refresh=True)
    plan = bench.step(bench.declaration("a"), at=bench.start + 4_000_000, conditions=stale)
    assert bench.kinds(plan) == ["Tick"]
    assert _refusal(plan) is Code.HALTED


def test_a_taken_sequence_number_is_refused_and_its_first_holder_named() -> None:
    """SPEC log-10 (FAULTS 32): relayed with the index of the first, also when both come in one step."""
    bench = Bench(period="10 s", due="10 min")
    first, second, third = bench.gap("one"), bench.gap("two"), bench.gap("three")
    plan = bench.step(first, second, at=bench.start + 11_000)
    assert isinstance(plan.outcomes[0], Sequenced)
    assert _refusal(plan, 1) is Code.SEQUENCE_TAKEN
    assert [(conflict.first_index, encode(conflict.second)) for conflict in plan.conflicts] == [(2, second)]
    later = bench.step(third, first, at=bench.start + 12_000)
    assert [conflict.first_index for conflict in later.conflicts] == [2]
    assert _sequenced(later, 1).duplicate


def test_a_conflict_that_nobody_has_signed_is_not_relayed() -> None:
    """SPEC log-10: anybody could accuse a lab otherwise."""
    bench = Bench(period="10 s", due="10 min")
    bench.step(bench.gap("one"), at=bench.start + 11_000)
    forged = envelope_pb2.Envelope.FromString(bench.gap("two"))
    forged.signatures[0].signature = bytes(64)
    plan = bench.step(encode(forged), at=bench.start + 12_000)
    assert _refusal(plan) is Code.BAD_SIGNATURE
    assert plan.conflicts == []


def test_hostile_bytes_are_refused_one_by_one_and_disturb_nothing_else() -> None:
    """FAULTS 43: malformed, not canonical, oversized, unsigned; what is sound in the same step is sequenced."""
    bench = Bench()
    good = bench.declaration("a")
    unsigned = envelope_pb2.Envelope.FromString(good)
    del unsigned.signatures[:]
    # Fits as an envelope, but not as an entry with its time.
    big = envelope_pb2.Envelope.FromString(bench.declaration("b"))
    big.payload += bytes(65_535 - big.ByteSize() - 2)
    assert big.ByteSize() == 65_535
    plan = bench.step(
        b"", b"\xff" * 50, good + b"\x1a\x00", bytes(70_000), encode(unsigned), encode(big), good, at=bench.start + 1000
    )
    assert [_refusal(plan, i) for i in range(6)] == [
        Code.MISSING_SIGNATURE,
        Code.NOT_CANONICAL,
        Code.MALFORMED,
        Code.TOO_LARGE,
        Code.MISSING_SIGNATURE,
        Code.TOO_LARGE,
    ]
    assert _sequenced(plan, 6).index == 2
