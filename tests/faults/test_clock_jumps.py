"""The log's own clock set forward or back, between two appends and in the midst of one.

The writer, the sequencer and the book of the verifiers' clocks are the real ones; the clock is the test's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from writer_bench import Bench

from pacekeeper.log.sequencer import Conditions, Sequenced
from pacekeeper.log.store.port import Batch, Head
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.log.witnesses import Witnesses
from pacekeeper.protocol.envelope import PAYLOAD_TYPE_PREFIX, parse_entry
from pacekeeper.protocol.errors import Code, Refused

SECOND: Final = 1_000
HOUR: Final = 3_600 * SECOND
YEAR: Final = 365 * 24 * HOUR
NOON: Final = 1_800_000_000_000
JUMPS: Final = [sign * by for by in (SECOND, HOUR, YEAR) for sign in (1, -1)]


class SetClock:
    """A clock that stands still unless it is told otherwise. true_ms is what everybody else's clock says."""

    def __init__(self) -> None:
        self.true_ms = NOON
        self.jump_ms = 0

    def now_ms(self) -> int:
        return self.true_ms + self.jump_ms

    def monotonic_ms(self) -> int:
        return self.true_ms - NOON

    def sleep(self, ms: int) -> None:
        self.true_ms += ms


class SteppedStore(SqliteStore):
    """A store during whose next commit the clock is set."""

    clock: SetClock
    step_ms = 0

    def commit(self, batch: Batch, expected: Head | None) -> None:
        self.clock.jump_ms += self.step_ms
        self.step_ms = 0
        super().commit(batch, expected)


class Scene:
    """A log whose verifiers, all of them connected, have told their clocks."""

    def __init__(self, directory: Path) -> None:
        self.clock = SetClock()
        self.store = SteppedStore(directory / "log.sqlite")
        self.store.clock = self.clock
        self.bench = Bench(self.store, clock=self.clock, conditions=self._conditions)
        agreement = self.bench.world.agreement
        self.tolerance_ms = agreement.timing.tolerance_ms
        self.witnesses = Witnesses(agreement)
        for party, witness in self.witnesses.of.items():
            witness.connected = True
            self.witnesses.heard(party, self.clock.true_ms, self.clock.monotonic_ms())

    def _conditions(self) -> Conditions:
        disagree = self.witnesses.clocks_disagree(self.clock.now_ms(), self.clock.monotonic_ms())
        return Conditions(clocks_disagree=disagree)

    async def submit(self, run: str) -> Sequenced | Refused:
        [outcome] = await self.bench.writer.submit("lab", [self.bench.declaration(run)])
        return outcome

    def entries(self) -> list[tuple[str, int]]:
        """(kind, log time) of every entry."""
        read = [parse_entry(entry) for batch in self.store.batches() for entry in batch.entries]
        return [(one.envelope.payload_type.removeprefix(PAYLOAD_TYPE_PREFIX), one.sequenced_at_ms) for one in read]

    def check_times(self) -> None:
        """Log time never runs back, and never ahead of everybody's clock by more than the tolerance."""
        times = [time_ms for _, time_ms in self.entries()]
        assert times == sorted(times)
        assert times[-1] <= self.clock.true_ms + self.tolerance_ms


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("jump_ms", JUMPS)
@pytest.mark.parametrize("when", ["between two appends", "in the midst of one"])
async def test_a_clock_that_jumps_dates_nothing_falsely_and_is_waited_for(
    scene: Scene, jump_ms: int, when: str
) -> None:
    """SPEC log-6, SPEC log-7, SPEC log-9 (FAULTS 35)."""
    async with scene.bench.running():
        assert isinstance(await scene.submit("before"), Sequenced)
        scene.clock.sleep(100)
        if when == "in the midst of one":
            scene.store.step_ms = jump_ms
            # Its time was taken before; it is durable, and stays.
            assert isinstance(await scene.submit("meanwhile"), Sequenced)
        else:
            scene.clock.jump_ms = jump_ms
        scene.check_times()
        scene.clock.sleep(100)
        size = len(scene.entries())
        outcome = await scene.submit("after-the-jump")
        if abs(jump_ms) <= scene.tolerance_ms:
            assert isinstance(outcome, Sequenced)
        else:
            assert isinstance(outcome, Refused)
            assert outcome.code is Code.CLOCK_DISAGREES
            assert len(scene.entries()) == size
        scene.check_times()
        # The clock is set right: the log goes on, after a stop with a Tick, and there is no gap in its numbers.
        scene.clock.jump_ms = 0
        scene.clock.sleep(100)
        outcome = await scene.submit("set-right")
        assert isinstance(outcome, Sequenced)
        scene.check_times()
        if abs(jump_ms) > scene.tolerance_ms:
            assert [kind for kind, _ in scene.entries()[size:]] == ["Tick", "RunDeclaration"]


async def test_a_clock_set_back_while_the_log_was_down_is_waited_for(scene: Scene, tmp_path: Path) -> None:
    """SPEC log-6 (FAULTS 35): without any verifier to compare with."""
    async with scene.bench.running():
        assert isinstance(await scene.submit("before"), Sequenced)
    scene.store.close()
    scene.clock.jump_ms = -HOUR
    store = SqliteStore(tmp_path / "log.sqlite")
    later = Bench(store, earlier=scene.bench, clock=scene.clock)
    async with later.running():
        [outcome] = await later.writer.submit("lab", [later.declaration("after")])
        assert isinstance(outcome, Refused)
        assert outcome.code is Code.CLOCK_DISAGREES
        scene.clock.jump_ms = 0
        [outcome] = await later.writer.submit("lab", [later.declaration("after")])
        assert isinstance(outcome, Sequenced)
    store.close()
