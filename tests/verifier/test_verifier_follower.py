"""The Cosign stream over mutual TLS against a log that the test plays, honest and not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from agreements import signing_key
from cosign_log import CosignLog, Stream
from world import World

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.v1 import log_pb2
from pacekeeper.verifier import follower as follower_module
from pacekeeper.verifier.follower import Follower

T = 1_767_225_600_000


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "BACKOFF_S", (0.01, 0.05))
    monkeypatch.setattr(follower_module, "GOODBYE_S", 0.2)


@pytest.fixture
async def follower(verifier: Any, log: CosignLog) -> AsyncIterator[Follower]:
    yield verifier.follow(log)
    await verifier.stop()


async def cosigned(log: CosignLog, stream: Stream, first: int, size: int) -> dict[str, int]:
    """Push the world's entries from first on and their checkpoint; return who cosigned when."""
    if first < size:
        await stream.push(first, log.world.entries[first:size])
    await stream.checkpoint(log.note(size))
    answer = await stream.answer()
    assert answer.WhichOneof("item") == "cosignature", answer
    policy = log.world.agreement.policy()
    return check_checkpoint(log.note(size) + answer.cosignature, policy, require_quorum=False).cosigners


async def refused(stream: Stream) -> log_pb2.Refusal:
    answer = await stream.answer()
    assert answer.WhichOneof("item") == "refusal", answer
    return answer.refusal


async def test_an_honest_log_is_cosigned_as_it_grows(
    log: CosignLog, world: World, verifier: Any, follower: Follower
) -> None:
    """SPEC verifier-4, SPEC verifier-18: hello with the size, entries, checkpoint, cosignature, clock."""
    stream = await log.accept()
    assert (stream.hello.party, stream.hello.size, stream.clocks) == ("norland", 0, [T])
    assert await cosigned(log, stream, 0, 1) == {"norland": T // 1000}
    for number in range(1, 4):
        world.declare("borealis", f"run-{number}", at=T + 1_000 * number)
    assert await cosigned(log, stream, 1, 4) == {"norland": T // 1000 + 3}
    assert follower.connected
    assert follower.refusing == ""
    assert verifier.store.witness.size == verifier.store.size == 4


async def test_the_clock_is_told_at_least_every_second(log: CosignLog, verifier: Any, follower: Follower) -> None:
    """SPEC verifier-18: also while nothing else is said."""
    stream = await log.accept()
    verifier.offset_ms = 123_456
    async with asyncio.timeout(5):
        while len(stream.clocks) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert set(stream.clocks[2:]) == {T + 123_456}
    assert follower_module.CLOCK_EVERY_S < 1


async def test_stream_broken_in_the_middle_goes_on_without_duplicates(
    log: CosignLog, world: World, verifier: Any, follower: Follower
) -> None:
    """SPEC verifier-17: entries that were pushed before the break are kept, and named in the next hello."""
    for number in range(1, 10):
        world.declare("borealis", f"run-{number}", at=T + number)
    stream = await log.accept()
    await stream.push(0, world.entries[:4])
    await stream.push(4, world.entries[4:5])
    await stream.close()
    stream = await log.accept()
    assert stream.hello.size == 5
    await cosigned(log, stream, 5, 10)
    await stream.close(grpc.StatusCode.UNAVAILABLE)
    stream = await log.accept()
    assert stream.hello.size == 10
    assert verifier.ledger.state.describe() == world.state.describe()
    await verifier.stop()
    verifier.restart()
    assert [entry for _, some in verifier.store.bundles() for entry in some] == world.entries
    verifier.follow(log)
    assert (await log.accept()).hello.size == 10


async def test_log_that_comes_back_is_found_again(
    log: CosignLog, verifier: Any, follower: Follower, eventually: Any
) -> None:
    """SPEC verifier-17"""
    await log.accept()
    await eventually(lambda: follower.connected)
    port = log.port
    await log.stop()
    await eventually(lambda: not follower.connected)
    await asyncio.sleep(0.2)
    await log.start(port)
    await cosigned(log, await log.accept(), 0, 1)


async def test_the_same_checkpoint_again_is_cosigned_again(log: CosignLog, verifier: Any, follower: Follower) -> None:
    """SPEC verifier-3, FAULTS 13 and 19: over the stream, and after a break."""
    stream = await log.accept()
    await cosigned(log, stream, 0, 1)
    await cosigned(log, stream, 1, 1)
    await stream.close()
    verifier.offset_ms = 60_000
    assert await cosigned(log, await log.accept(), 1, 1) == {"norland": T // 1000 + 60}


async def test_fork_of_equal_size_is_refused_and_convicts(
    log: CosignLog, world: World, verifier: Any, follower: Follower
) -> None:
    """SPEC verifier-3, SPEC verifier-23, FAULTS 17: the second tree of a size, properly signed."""
    stream = await log.accept()
    world.declare("borealis", "run-1", at=T)
    await cosigned(log, stream, 0, 2)
    forked = log.note(2, [world.entries[0], b"another"])
    await stream.checkpoint(forked)
    assert (await refused(stream)).code == Code.WRONG_ROOT
    assert follower.refusing == Code.WRONG_ROOT
    [finding] = verifier.store.findings(0, 10)
    assert b"log-fork" in finding.envelope
    stream = await log.accept()
    assert stream.hello.size == 2, "the verifier comes back, with the tree that it cosigned"
    await stream.checkpoint(forked)
    await refused(stream)
    assert verifier.store.count_findings() == 1, "the same fork is one finding"
    await cosigned(log, await log.accept(), 2, 2)
    assert follower.refusing == ""


async def test_fork_before_the_first_cosignature_convicts_when_its_size_is_reached(
    log: CosignLog, world: World, verifier: Any, follower: Follower
) -> None:
    """SPEC verifier-24, FAULTS 18: the refused checkpoint is kept, and compared once the own tree has its size."""
    world.declare("borealis", "run-1", at=T)
    stream = await log.accept()
    await stream.push(0, world.entries)
    await stream.checkpoint(log.note(2, [world.entries[0], b"another"]))
    assert (await refused(stream)).code == Code.WRONG_ROOT
    stream = await log.accept()
    assert stream.hello.size == 0, "what was pushed is given up, for the log signed another tree"
    assert verifier.store.count_findings() == 0
    await verifier.stop()
    verifier.restart()
    verifier.follow(log)
    stream = await log.accept()
    await cosigned(log, stream, 0, 2)
    await cosigned(log, stream, 2, 2)
    assert verifier.store.count_findings() == 1
    assert verifier.store.suspects(2) == []


async def test_rolled_back_tree_is_refused(log: CosignLog, world: World, verifier: Any, follower: Follower) -> None:
    """SPEC verifier-2: an older checkpoint, true as it was, is no accusation but no cosignature either."""
    world.declare("borealis", "run-1", at=T)
    stream = await log.accept()
    await cosigned(log, stream, 0, 1)
    await cosigned(log, stream, 1, 2)
    await stream.checkpoint(log.note(1))
    assert (await refused(stream)).code == Code.ROLLED_BACK
    assert verifier.store.count_findings() == 0
    assert verifier.store.witness.size == 2


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda log: b"", Code.BAD_NOTE),
        (lambda log: b"\xff" * 2_000_000, Code.TOO_LARGE),
        (lambda log: log.note(1, key=signing_key("not the log's")), Code.BAD_SIGNATURE),
        (lambda log: log.note(1).replace(b"example.org/pacekeeper\n", b"example.org/other\n"), Code.BAD_CHECKPOINT),
        (lambda log: log.note(2, [b"a", b"b"]), Code.BAD_CHECKPOINT),
        (lambda log: log.note(1, [b"another entry 0"]), Code.WRONG_ROOT),
    ],
    ids=["empty", "huge", "log-signature", "origin", "size", "root"],
)
async def test_checkpoints_that_are_refused_each_for_its_reason(
    log: CosignLog, verifier: Any, follower: Follower, make: Any, code: Code
) -> None:
    """SPEC verifier-1, SPEC verifier-4, SPEC verifier-5, SPEC verifier-19, FAULTS 23: the honest one is cosigned."""
    stream = await log.accept()
    await stream.push(0, log.world.entries)
    await stream.checkpoint(make(log))
    assert (await refused(stream)).code == code
    assert follower.refusing == code
    stream = await log.accept()
    await cosigned(log, stream, stream.hello.size, 1)
    assert follower.refusing == ""


async def test_head_from_the_past_is_refused_until_a_tick(
    log: CosignLog, world: World, verifier: Any, follower: Follower
) -> None:
    """SPEC verifier-8, SPEC verifier-19: on one and the same stream."""
    verifier.offset_ms = 2_001
    stream = await log.accept()
    await stream.push(0, world.entries)
    await stream.checkpoint(log.note(1))
    refusal = await refused(stream)
    assert (refusal.code, follower.refusing) == (Code.CLOCK_DISAGREES, Code.CLOCK_DISAGREES)
    assert "2001 ms behind" in refusal.message
    verifier.offset_ms = 0
    world.tick(T + 2_500)
    await cosigned(log, stream, 1, 2)
    assert follower.refusing == ""


async def test_entry_from_the_future_is_not_even_replayed(
    log: CosignLog, world: World, verifier: Any, follower: Follower
) -> None:
    """SPEC verifier-7"""
    stream = await log.accept()
    await cosigned(log, stream, 0, 1)
    world.tick(T + 100_000)
    verifier.offset_ms = -100_000
    await stream.push(1, world.entries[1:])
    assert (await refused(stream)).code == Code.CLOCK_DISAGREES
    assert verifier.ledger.size == 1
    verifier.offset_ms = 0
    await cosigned(log, await log.accept(), 1, 2)


async def test_log_time_running_back_is_refused(
    log: CosignLog, world: World, verifier: Any, follower: Follower
) -> None:
    """SPEC verifier-6: and what was pushed is given up, so that a log that mends it is followed again."""
    stream = await log.accept()
    await cosigned(log, stream, 0, 1)
    world.tick(T + 1_000)
    world.tick(T + 999)
    await stream.push(1, world.entries[1:])
    await stream.checkpoint(log.note(3))
    assert (await refused(stream)).code == Code.TIME_RUNS_BACK
    stream = await log.accept()
    assert stream.hello.size == 1
    assert verifier.store.count_findings() == 0, "the log has signed no tree that could convict it by a void entry"


@pytest.mark.parametrize(
    "push",
    [
        lambda stream, entries: stream.push(1, entries),
        lambda stream, entries: stream.push(0, []),
        lambda stream, entries: stream.push(0, [b"x" * 70_000]),
        lambda stream, entries: stream.push(0, [b""] * 70_000),
        lambda stream, entries: stream.push(0, [b"no agreement"]),
        lambda stream, entries: stream.nothing(),
    ],
    ids=["not-next", "empty", "large-entry", "many-entries", "no-founding", "nothing"],
)
async def test_malformed_pushes_are_refused_and_the_next_stream_is_clean(
    log: CosignLog, verifier: Any, follower: Follower, push: Any
) -> None:
    """SPEC verifier-15, SPEC verifier-16, SPEC verifier-19"""
    stream = await log.accept()
    await push(stream, log.world.entries)
    assert (await refused(stream)).code in {Code.BAD_FIELD, Code.TOO_LARGE, Code.NOT_CANONICAL, Code.MALFORMED}
    assert follower.refusing != ""
    await cosigned(log, await log.accept(), 0, 1)


async def test_message_over_the_limit_is_not_read(log: CosignLog, verifier: Any, follower: Follower) -> None:
    """SPEC verifier-17: gRPC ends the stream, memory is not spent, and the verifier comes back."""
    stream = await log.accept()
    await stream.push(0, [b"x" * 60_000] * 72)
    await cosigned(log, await log.accept(), 0, 1)


async def test_log_that_rejects_the_size_is_asked_again_with_the_cosigned_one(
    log: CosignLog, world: World, verifier: Any, follower: Follower
) -> None:
    """SPEC verifier-5, SPEC verifier-17: entries that the log pushed and then denies must not lock the verifier out."""
    stream = await log.accept()
    await cosigned(log, stream, 0, 1)
    await stream.push(1, [b"never signed"])
    await stream.close(grpc.StatusCode.UNAVAILABLE)
    stream = await log.accept()
    assert stream.hello.size == 2
    await stream.close(grpc.StatusCode.FAILED_PRECONDITION)
    stream = await log.accept()
    assert stream.hello.size == 1
    world.tick(T + 1)
    await cosigned(log, stream, 1, 2)


async def test_stalled_log_is_left_and_called_again(
    log: CosignLog, verifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC verifier-17: two tick intervals without a word, and the stream is taken for dead."""
    monkeypatch.setattr(follower_module, "SILENCE_SLACK_S", -2 * verifier.ledger.agreement.timing.tick_ms / 1000 + 0.3)
    verifier.follow(log)
    first = await log.accept()
    second = await log.accept()
    async with asyncio.timeout(5):
        await first.ended.wait()
    await cosigned(log, second, 0, 1)
    await verifier.stop()


async def test_void_entries_do_not_block_the_cosignature(
    log: CosignLog, world: World, verifier: Any, follower: Follower, eventually: Any
) -> None:
    """SPEC verifier-20: they become findings against the log, once the log has signed the tree with them."""
    world.put_entry(b"garbage")
    world.declare("borealis", "run-1", at=T + 5)
    stream = await log.accept()
    await stream.push(0, world.entries)
    await asyncio.sleep(0.05)
    assert verifier.store.count_findings() == 0
    assert await cosigned(log, stream, 3, 3) == {"norland": T // 1000}
    await eventually(lambda: verifier.store.count_findings() == 1)


async def test_unsafe_state_ends_following(log: CosignLog, world: World, verifier: Any) -> None:
    """SPEC verifier-11: the process must stop, and nothing is signed."""
    verifier.follow(log)
    stream = await log.accept()
    verifier.store._failed = True
    await stream.push(0, world.entries)
    await stream.checkpoint(log.note(1))
    with pytest.raises(Refused, match="not written to any more"):
        await asyncio.wait_for(verifier._tasks[0], 10)
    await stream.ended.wait()
    assert stream._answers.empty()
    verifier._tasks.clear()
