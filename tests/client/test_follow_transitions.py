"""Following a log whose verifiers change: by its stream, by its files, and by its receipts. Fail closed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from changing_log import ChangingLog

from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.fetch import DirectorySource
from pacekeeper.client.follow import Follower, VerifiedBatch
from pacekeeper.client.receipts import WitnessedReceipt, verify_answer
from pacekeeper.client.static import StaticFollower
from pacekeeper.protocol.envelope import encode, parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import State, apply, genesis
from pacekeeper.protocol.tlog.merkle import Frontier, HashTree, hash_leaves
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.protocol.tlog.transitions import PolicyChain
from pacekeeper.v1 import log_pb2


@pytest.fixture
def log(tmp_path: Path) -> ChangingLog:
    return ChangingLog(tmp_path / "log")


class Reader:
    """One who replays what was followed, and so knows who the verifiers are."""

    def __init__(self, log: ChangingLog) -> None:
        self.state: State | None = None
        self.chain = PolicyChain(log.agreements[0].policy())
        self.follower = Follower(self.chain, Frontier(), self.policy)

    def policy(self) -> CosignaturePolicy | None:
        return None if self.state is None else self.state.agreement.policy()

    def replay(self, batch: VerifiedBatch) -> None:
        for entry in batch.entries:
            if self.state is None:
                self.state = genesis(entry)
            else:
                apply(self.state, entry)

    def feed(self, messages: Sequence[log_pb2.FollowResponse]) -> None:
        for message in messages:
            for batch in self.follower.feed(message):
                self.replay(batch)

    def again(self) -> None:
        """Open a new stream, from where the old one broke off."""
        frontier = Frontier()
        assert self.state is not None
        frontier.extend([])
        self.follower = Follower(self.chain, self.follower._frontier, self.policy)

    @property
    def size(self) -> int:
        return 0 if self.state is None else self.state.size


def batch(log: ChangingLog, first: int, end: int) -> log_pb2.FollowResponse:
    return log_pb2.FollowResponse(batch=log_pb2.EntryBatch(first_index=first, entries=log.world.entries[first:end]))


def cover(note: bytes) -> log_pb2.FollowResponse:
    return log_pb2.FollowResponse(checkpoint=note)


def stream(log: ChangingLog) -> list[log_pb2.FollowResponse]:
    """What an honest log sends from entry 0: each transition after the entries of its tree, then the head."""
    messages, position = [], 0
    for number in (1, 2, 3):
        messages += [batch(log, position, log.sizes[number]), cover(log.read(f"transition/{number}"))]
        position = log.sizes[number]
    return [*messages, batch(log, position, len(log.world.entries)), cover(log.read("checkpoint"))]


def test_a_stream_is_followed_over_every_change(log: ChangingLog) -> None:
    """SPEC transition-9, SPEC transition-11: however it is cut, and with checkpoints that come before their entries."""
    messages = stream(log)
    early = [messages[index] for index in (1, 3, 5, 7, 0, 2, 4, 6)]
    for order in (messages, early):
        reader = Reader(log)
        reader.feed(order)
        assert reader.size == len(log.world.entries)
        assert reader.chain.transitions == 3
        assert [reader.chain.policy_at(size) for size in log.sizes[1:]] == [
            agreement.policy() for agreement in log.agreements[1:]
        ]


def test_a_stream_that_breaks_at_a_transition_is_taken_up_there(log: ChangingLog) -> None:
    """The entries are replayed and the connection is gone before the new quorum was looked at: it is looked at then."""
    reader = Reader(log)
    messages = stream(log)
    for message in messages[:2]:
        for handed in reader.follower.feed(message):
            reader.replay(handed)
            break
    assert (reader.size, reader.chain.transitions) == (log.sizes[1], 0)
    reader.again()
    reader.feed([messages[1], *messages[2:]])
    assert (reader.size, reader.chain.transitions) == (len(log.world.entries), 3)


Spoil = Callable[[ChangingLog, list[log_pb2.FollowResponse]], list[log_pb2.FollowResponse]]

LIES: dict[str, tuple[Spoil, Code]] = {
    "the transition is left out": (
        lambda log, messages: [*messages[:2], messages[2], batch(log, log.sizes[2], log.sizes[3]), messages[5]],
        Code.BAD_TRANSITION,
    ),
    "without the new quorum": (
        lambda log, messages: [messages[0], cover(log.transition(1, cosigners=log.quorum(0)))],
        Code.BAD_TRANSITION,
    ),
    "without the old quorum": (
        lambda log, messages: [
            *messages[:4],
            messages[4],
            cover(log.transition(3, cosigners=log.quorum(3))),
        ],
        Code.NO_QUORUM,
    ),
    "of another tree": (
        lambda log, messages: [messages[0], cover(log.transition(1, root=bytes(32)))],
        Code.BAD_PROOF,
    ),
    "with the founders' quorum for ever": (
        lambda log, messages: [
            *messages[:6],
            batch(log, log.sizes[3], len(log.world.entries)),
            cover(log.note(len(log.world.entries), log.root(), cosigners=("westmere", "sudland", "norland"))),
        ],
        Code.NO_QUORUM,
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_stream_that_does_not_show_a_change_with_both_quorums_ends(log: ChangingLog, lie: str) -> None:
    """SPEC transition-11: and the same again after a reconnection: nothing more is taken from this log."""
    spoil, code = LIES[lie]
    messages = spoil(log, stream(log))
    if lie == "the transition is left out":
        # The second change comes with the cosignatures of those after the third alone.
        messages[-1] = cover(log.transition(3, cosigners=("norland", "sudland", "highmark")))
    reader = Reader(log)
    with pytest.raises(Refused) as refused:
        reader.feed(messages)
    assert refused.value.code in {code, Code.NO_QUORUM}
    transitions = reader.chain.transitions
    if reader.size == log.sizes[1] and transitions == 0:
        reader.again()
        later = [batch(log, log.sizes[1], log.sizes[2]), cover(log.transition(2, cosigners=("highmark", "westmere")))]
        with pytest.raises(Refused) as again:
            reader.feed(later)
        assert again.value.code is Code.BAD_TRANSITION, "it says what is lacking"
        assert reader.chain.transitions == 0


def far_head(log: ChangingLog) -> None:
    """Have the newest checkpoint cosigned by so few founders that it says nothing to who knows only these."""
    log.put("checkpoint", log.note(len(log.world.entries), log.root(), cosigners=("highmark", "eastholm", "sudland")))


class Counting(DirectorySource):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.paths: list[str] = []

    def read(self, path: str) -> bytes | None:
        self.paths.append(path)
        return super().read(path)


class StaticReader(Reader):
    def __init__(self, log: ChangingLog, directory: Path | None = None) -> None:
        super().__init__(log)
        self.source = Counting(directory or log.directory)
        self.static = StaticFollower(self.source, log.agreements[0].policy(), self.policy)

    def poll(self) -> None:
        for handed in self.static.poll():
            self.replay(handed)


@pytest.fixture
def static(log: ChangingLog) -> Iterator[StaticReader]:
    reader = StaticReader(log)
    yield reader
    reader.source.close()


def test_files_are_followed_over_every_change_and_nothing_is_asked_in_vain(
    log: ChangingLog, static: StaticReader
) -> None:
    far_head(log)
    static.poll()
    assert static.size == len(log.world.entries)
    assert static.policy() == log.agreements[3].policy()
    assert [path for path in static.source.paths if path.startswith("transition")] == [
        "transition/1",
        "transition/2",
        "transition/3",
    ]
    static.source.paths.clear()
    static.poll()
    assert static.source.paths == ["checkpoint"]


def test_files_are_followed_step_by_step_as_the_log_grows(log: ChangingLog, tmp_path: Path) -> None:
    """One who watches from the founding on reads each transition checkpoint once, and none before it is needed."""
    world, directory = log.world, tmp_path / "growing"
    reader = StaticReader(log)
    reader.source.close()
    shutil.copytree(log.directory, directory)
    shutil.rmtree(directory / "transition")
    entries = list(world.entries)
    asked = []
    reader = StaticReader(log, directory)
    for size in range(1, len(entries) + 1):
        number = sum(size >= limit for limit in log.sizes[1:])
        grown = ChangingLog.__new__(ChangingLog)
        grown.__dict__.update(log.__dict__, directory=directory)
        grown.write(
            entries=entries[:size],
            cosigners=log.both(number) if size == log.sizes[number] and number else log.quorum(number),
        )
        if number and size == log.sizes[number]:
            grown.put(f"transition/{number}", log.read(f"transition/{number}"))
        reader.source.paths.clear()
        reader.poll()
        asked += [path for path in reader.source.paths if path.startswith("transition")]
        assert reader.size == size
    assert reader.static.chain.transitions == 3
    assert asked == [], "every checkpoint on the way met the quorum known, and the transitions were seen as such"
    reader.source.close()


DAMAGED: dict[str, tuple[Callable[[ChangingLog], object], Code]] = {
    "missing": (lambda log: log.remove("transition/2"), Code.NO_QUORUM),
    "without the old quorum": (lambda log: log.put_transition(2, cosigners=("highmark", "norland")), Code.NO_QUORUM),
    "without the new quorum": (lambda log: log.put_transition(1, cosigners=log.quorum(0)), Code.BAD_TRANSITION),
    "over no change": (lambda log: log.put_transition(1, size=2, cosigners=log.both(1)), Code.BAD_TRANSITION),
    "of another tree": (lambda log: log.put_transition(1, root=bytes(32)), Code.BAD_CHECKPOINT),
    "not a note": (lambda log: log.put("transition/1", b"nothing\n"), Code.BAD_NOTE),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_files_that_do_not_show_a_change_with_both_quorums_are_refused(
    log: ChangingLog, static: StaticReader, what: str
) -> None:
    """SPEC transition-11: also where the newest checkpoint has its own quorum, of verifiers that nobody vouched for."""
    damage, code = DAMAGED[what]
    end = len(log.world.entries)
    far_head(log)
    damage(log)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            static.poll()
        assert refused.value.code is code, refused.value
        assert static.size < end


def test_files_that_are_not_there_for_a_moment_cost_nothing(log: ChangingLog, static: StaticReader) -> None:
    """A source that fails now and then is read on from where it failed, once each file."""
    far_head(log)
    failing = {path for path in log.files() if path != "checkpoint"}
    read = static.source.read

    def unsteady(path: str) -> bytes | None:
        if path in failing:
            failing.remove(path)
            raise TemporaryFailure("unreachable", path)
        return read(path)

    static.source.read = unsteady  # type: ignore[method-assign]
    failures = 0
    while static.size < len(log.world.entries):
        try:
            static.poll()
        except TemporaryFailure:
            failures += 1
    assert failures > 3
    assert static.policy() == log.agreements[3].policy()


def test_a_receipt_is_judged_by_the_verifiers_of_its_tree(log: ChangingLog) -> None:
    """SPEC transition-12: those before the change for a tree before it, those after it for one after."""
    reader = Reader(log)
    reader.feed(stream(log))
    entries, founding = log.world.entries, log.agreements[0]

    def answer(size: int, cosigners: Sequence[str]) -> log_pb2.SubmitResponse:
        tree = HashTree(hash_leaves(entries[:size]))
        response = log_pb2.SubmitResponse(checkpoint=log.note(size, tree.root(), cosigners=cosigners))
        entry = parse_entry(entries[1])
        result = response.results.add()
        result.sequenced.index, result.sequenced.sequenced_at_ms = 1, entry.sequenced_at_ms
        result.sequenced.inclusion_proof.extend(tree.prove_inclusion(1, size))
        return response

    envelope = encode(parse_entry(entries[1]).envelope)
    founders, present = ("norland", "sudland", "westmere"), ("norland", "eastholm", "highmark")
    for size, cosigners, good in (
        (log.sizes[1] - 1, founders, True),
        (log.sizes[1] - 1, present, False),
        (log.sizes[2], founders, False),
        (len(entries), founders, False),
        (len(entries), present, True),
    ):
        response = answer(size, cosigners)
        if good:
            [receipt] = verify_answer(
                [envelope], response, founding, policy_at=reader.chain.policy_at, unwitnessed=False
            )
            assert isinstance(receipt, WitnessedReceipt)
        else:
            with pytest.raises(Refused) as refused:
                verify_answer([envelope], response, founding, policy_at=reader.chain.policy_at, unwitnessed=False)
            assert refused.value.code is Code.NO_QUORUM
