"""Following the log's stream: entries come out only under a quorum's checkpoint over exactly them."""

import random
from collections.abc import Callable

import pytest
from participants import Participants
from scripted_log import ScriptedLog

from pacekeeper.client import follow
from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.follow import Follower, VerifiedBatch
from pacekeeper.client.submit import LogClient
from pacekeeper.client.tls import verifier_uri
from pacekeeper.protocol import envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.tlog.merkle import Frontier, leaf_hash
from pacekeeper.protocol.tlog.transitions import PolicyChain
from pacekeeper.v1 import log_pb2, statements_pb2

CALLER = verifier_uri("norland")


@pytest.fixture
def log(people: Participants) -> ScriptedLog:
    scripted = ScriptedLog(people)
    for index in range(10):
        statement = statements_pb2.Tick(agreement=people.agreement.fingerprint, index=index)
        scripted.append(envelope.encode(seal(statement, [people.keys.log_statement])))
    return scripted


def cover(log: ScriptedLog, size: int) -> log_pb2.FollowResponse:
    return log_pb2.FollowResponse(checkpoint=log.checkpoint(size))


def feed(log: ScriptedLog, messages: list[log_pb2.FollowResponse], start: int = 0) -> list[VerifiedBatch]:
    frontier = Frontier()
    for entry in log.entries[:start]:
        frontier.append(leaf_hash(entry))
    follower = Follower(PolicyChain(log.people.agreement.policy()), frontier)
    return [batch for message in messages for batch in follower.feed(message)]


async def test_a_stream_is_followed_to_its_end_and_taken_up_again(people: Participants, log: ScriptedLog) -> None:
    async with (
        log.serving(people.log_credentials()) as address,
        LogClient(address, people.credentials_of(CALLER), people.agreement) as client,
    ):
        batches = [batch async for batch in client.follow()]
        assert [batch.first_index for batch in batches] == [0, 3, 6, 9]
        assert [entry for batch in batches for entry in batch.entries] == log.entries
        assert batches[-1].checkpoint.checkpoint.size == 10
        last = batches[1]
        rest = [batch async for batch in client.follow(6, frontier=last.frontier)]
        assert [entry for batch in rest for entry in batch.entries] == log.entries[6:]
        log.abort = Refused(Code.HALTED, "stopping")
        with pytest.raises(TemporaryFailure) as caught:
            _ = [batch async for batch in client.follow()]
        assert caught.value.code == Code.HALTED
        with pytest.raises(ValueError, match="does not go on at 6"):
            _ = [batch async for batch in client.follow(6)]


async def test_leaving_early_ends_the_call(people: Participants, log: ScriptedLog) -> None:
    async with (
        log.serving(people.log_credentials()) as address,
        LogClient(address, people.credentials_of(CALLER), people.agreement) as client,
    ):
        stream = client.follow()
        assert (await anext(stream)).first_index == 0
        await stream.aclose()  # type: ignore[attr-defined]
        assert (await client.status()).size == 10


def test_entries_wait_for_the_checkpoint_that_covers_them(log: ScriptedLog) -> None:
    """SPEC transport-17: nothing is used before the quorum's checkpoint over it."""
    assert feed(log, [log.batch(0, 4), log.batch(4, 7)]) == []
    [batch] = feed(log, [log.batch(0, 4), log.batch(4, 7), cover(log, 7)])
    assert batch.entries == tuple(log.entries[:7])
    # Checkpoints that are ahead of the entries are kept; the batch may cross them.
    for messages in [
        [cover(log, 7), log.batch(0, 4), log.batch(4, 9)],
        [log.batch(0, 4), cover(log, 7), log.batch(4, 9)],
        [cover(log, 7), cover(log, 10), log.batch(0, 9)],
        [cover(log, 4), cover(log, 7), log.batch(0, 9)],
    ]:
        batches = feed(log, messages)
        batch = batches[-1]
        assert [entry for one in batches for entry in one.entries] == log.entries[:7]
        assert batch.frontier.root() == log.tree.root(7)
        assert batch.checkpoint.checkpoint.size == 7


def test_late_cosignatures_over_an_old_tree_release_nothing(log: ScriptedLog) -> None:
    messages = [log.batch(0, 4), cover(log, 4), log.batch(4, 6), cover(log, 4), cover(log, 3), cover(log, 6)]
    assert [batch.first_index for batch in feed(log, messages)] == [0, 4]
    assert len(feed(log, [log.batch(0, 4), cover(log, 4), cover(log, 4)])) == 1


def _other_entry(log: ScriptedLog) -> list[log_pb2.FollowResponse]:
    message = log.batch(0, 3)
    message.batch.entries[1] = log.entries[5]
    return [message, cover(log, 3)]


def _fewer_cosigners(log: ScriptedLog) -> list[log_pb2.FollowResponse]:
    log.cosigners = log.people.keys.party_ids[:2]
    return [log.batch(0, 3), cover(log, 3)]


def _other_origin(log: ScriptedLog) -> list[log_pb2.FollowResponse]:
    log.origin = "example.org/elsewhere"
    return [log.batch(0, 3), cover(log, 3)]


def _large(log: ScriptedLog) -> list[log_pb2.FollowResponse]:
    return [log_pb2.FollowResponse(batch=log_pb2.EntryBatch(entries=[bytes(65_536)]))]


LIES: dict[str, tuple[Callable[[ScriptedLog], list[log_pb2.FollowResponse]], Code]] = {
    "another entry": (_other_entry, Code.BAD_PROOF),
    "entries left out": (lambda log: [log.batch(0, 3), log.batch(4, 6)], Code.BAD_PROOF),
    "entries twice": (lambda log: [log.batch(0, 3), log.batch(0, 3)], Code.BAD_PROOF),
    "another beginning": (lambda log: [log.batch(1, 3)], Code.BAD_PROOF),
    "no quorum": (_fewer_cosigners, Code.NO_QUORUM),
    "another origin": (_other_origin, Code.BAD_CHECKPOINT),
    "an empty batch": (lambda log: [log.batch(3, 3)], Code.MALFORMED),
    "an empty message": (lambda log: [log_pb2.FollowResponse()], Code.MALFORMED),
    "an entry too large": (_large, Code.TOO_LARGE),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_stream_that_is_not_right_ends(log: ScriptedLog, lie: str) -> None:
    """SPEC transport-17: covered by a quorum, and with the root of all entries, or not used."""
    make, code = LIES[lie]
    with pytest.raises(Refused) as caught:
        feed(log, make(log))
    assert caught.value.code is code


def test_another_history_is_noticed(people: Participants, log: ScriptedLog) -> None:
    """A log that goes on from another past than the caller's has another root, with every signature in order."""
    other = ScriptedLog(people)
    for entry in [log.entries[1], log.entries[0], *log.entries[2:]]:
        parsed = envelope.parse_entry(entry)
        other.append(envelope.encode(parsed.envelope))
    frontier = Frontier()
    for entry in log.entries[:3]:
        frontier.append(leaf_hash(entry))
    follower = Follower(PolicyChain(people.agreement.policy()), frontier)
    assert list(follower.feed(other.batch(3, 6))) == []
    with pytest.raises(Refused) as caught:
        list(follower.feed(cover(other, 6)))
    assert caught.value.code is Code.BAD_PROOF


def test_what_is_held_back_is_bounded(log: ScriptedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "MAX_HELD_BYTES", sum(map(len, log.entries[:6])))
    assert len(feed(log, [log.batch(0, 6), cover(log, 6), log.batch(6, 10), cover(log, 10)])) == 2
    with pytest.raises(Refused) as caught:
        feed(log, [log.batch(0, 6), log.batch(6, 10)])
    assert caught.value.code is Code.TOO_LARGE


def test_however_the_stream_is_cut_the_same_entries_come_out(log: ScriptedLog) -> None:
    for seed in range(200):
        chance = random.Random(seed)
        messages, position = [], 0
        while position < len(log.entries):
            if chance.random() < 0.4:
                messages.append(cover(log, chance.randint(1, len(log.entries))))
            stop = min(len(log.entries), position + chance.randint(1, 4))
            messages.append(log.batch(position, stop))
            position = stop
        messages.append(cover(log, len(log.entries)))
        batches = feed(log, messages)
        assert [entry for batch in batches for entry in batch.entries] == log.entries, seed
        assert batches[-1].frontier.root() == log.tree.root()
