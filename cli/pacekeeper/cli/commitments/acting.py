"""One statement on the log, from reading what is there to knowing what it brought about.

1. Follow the log from entry 0, which must be the bundle's agreement; every entry is covered by its quorum's cosigned
   checkpoint before it is looked at, and replayed with its signatures verified. What this machine has read and verified
   before comes from its own copy (client/cache.py). What is too old is not signed upon.
2. Build the statement from the replayed state: digest, round and the index of the pledge that stands.
3. Sign it, submit it, and verify the receipt, quorum and inclusion.
4. Follow on to the statement's own entry, and look at the commitments as they then stand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from pacekeeper.cli.commitments.caller import Caller, Connection
from pacekeeper.cli.console import USAGE, Sentence, progress
from pacekeeper.client.cache import EntryCache, follow_on
from pacekeeper.client.collector import settle
from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.client.follow import VerifiedBatch
from pacekeeper.client.receipts import SubmitRefused, WitnessedReceipt
from pacekeeper.client.submit import LogClient
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.envelope import encode
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import State, apply, genesis
from pacekeeper.protocol.statements import parse_statement, seal
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import CosignaturePolicy, check_checkpoint
from pacekeeper.protocol.tlog.transitions import FIRST_RULES
from pacekeeper.protocol.units import format_duration
from pacekeeper.v1.envelope_pb2 import Envelope

Build = Callable[[State, str], Message]
Policy = Callable[[], CosignaturePolicy | None]
Sign = Callable[[State], Envelope]

_PATIENCE_S: Final = 30.0  # without a further entry: a quorum that takes longer than this is not at work


@dataclass(frozen=True)
class Outcome:
    """A statement that is on the log: its verified receipt, and the state after its entry."""

    receipt: WitnessedReceipt
    state: State


def act(caller: Caller, build: Build, cache: EntryCache | None = None) -> Outcome:
    """Put one statement on the log. build(state, who) makes it. cache: what was read of the log before.

    Raises Refused for what the replayed log already rules out, Sentence with the log's code when the log refuses it,
    and TemporaryFailure when it has no final outcome: the same command may then be given again.
    SPEC cli-17: nothing MUST be signed before the log was replayed under the bundle's agreement, and nothing be called
    done without a receipt that verifies.
    """

    def sign(state: State) -> Envelope:
        key, who = caller.signer(state)
        return seal(build(state, who), [key])

    return put(caller, sign, cache)


def put(connection: Connection, sign: Sign, cache: EntryCache | None = None) -> Outcome:
    """As act, for an envelope that sign(state) makes."""
    return asyncio.run(_put(connection, sign, cache))


async def _put(connection: Connection, sign: Sign, cache: EntryCache | None) -> Outcome:
    agreement = connection.agreement
    async with LogClient(agreement.log.address, connection.credentials, agreement) as log:
        reading = Reading(agreement, lambda policy: follow_on(log, cache, policy), cache)
        with progress("replaying") as report:
            state = await reading.reach(await _vouched_size(log, agreement), report)
        check_fresh(state, time.time_ns() // 1_000_000)
        settle()
        envelope = sign(state)
        parse_statement(envelope)  # a field that no log takes is better refused here, with nothing sent
        [answer] = await log.submit([encode(envelope)])
        if isinstance(answer, SubmitRefused):
            raise Sentence(f"the log refused it: {answer.message} ({answer.code})", USAGE)
        assert isinstance(answer, WitnessedReceipt), "nothing less was asked for"
        return Outcome(answer, await reading.reach(answer.index + 1))


async def read_head(connection: Connection) -> State:
    """Return the state at the head that the quorum vouches for. Raises as act does; nothing is signed."""
    agreement = connection.agreement
    async with LogClient(agreement.log.address, connection.credentials, agreement) as log:
        reading = Reading(agreement, lambda policy: log.follow(policy=policy))
        return await reading.reach(await _vouched_size(log, agreement))


async def _vouched_size(log: LogClient, agreement: Agreement) -> int:
    """How far to read: what the quorum has cosigned, whatever size the log itself claims. At least entry 0, which is
    waited for where the quorum has not met yet.

    Where the verifiers may have changed, who is the quorum is known only when that far is read: a log that claims more
    than it then shows makes a temporary failure.
    """
    note = (await log.status()).checkpoint
    if not note:
        return 1
    try:
        return check_checkpoint(note, agreement.policy()).checkpoint.size
    except Refused as refused:
        if refused.code is not Code.NO_QUORUM or agreement.rules_version < FIRST_RULES:
            raise
        return parse_checkpoint(parse_note(note).text).size


def check_fresh(state: State, now_ms: int) -> None:
    """Raise TemporaryFailure if the log shows nothing newer than an agreement allows: what came after may be hidden.

    SPEC cli-22: nothing MUST be signed upon a state that is older than the agreement allows.
    """
    timing = state.agreement.timing
    age_ms = now_ms - state.last_time_ms
    # As an audit counts (audit-10): the last entry was news until the next tick was due.
    if age_ms > 2 * timing.tick_ms + timing.unwitnessed_ms + timing.tolerance_ms:
        age = format_duration(age_ms // 1000 * 1000)
        raise TemporaryFailure(Code.HALTED, f"the newest entry that the log shows is {age} old")


class Reading:
    """The log's verified entries, replayed as they come, and kept in the cache."""

    def __init__(
        self,
        agreement: Agreement,
        follow: Callable[[Policy], AsyncIterator[VerifiedBatch]],
        cache: EntryCache | None = None,
    ) -> None:
        self._agreement = agreement
        self._cache = cache
        self._state: State | None = None
        self._batches = follow(lambda: None if self._state is None else self._state.agreement.policy())

    async def reach(self, size: int, report: Callable[[int, int], None] = lambda _done, _total: None) -> State:
        """Replay until there are at least so many entries; return the state. TemporaryFailure if they do not come."""
        while self._state is None or self._state.size < size:
            batch = await self._next(size)
            for entry in batch.entries:
                self._take(entry)
            assert self._state is not None
            if self._cache is not None:
                self._cache.keep(batch)
            report(self._state.size, size)
        if self._cache is not None:
            self._cache.save()
        return self._state

    async def _next(self, size: int) -> VerifiedBatch:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await anext(self._batches)
        except TimeoutError:
            sentence = f"the log does not show the quorum's checkpoint of its {size} entries"
            raise TemporaryFailure(Outage.DEADLINE_EXCEEDED, sentence) from None
        except StopAsyncIteration:
            raise TemporaryFailure(Outage.UNREACHABLE, "the log's stream of entries has ended") from None

    def _take(self, entry: bytes) -> None:
        if self._state is not None and self._cache is not None:
            self._cache.apply(self._state, entry)
            return
        if self._state is not None:
            apply(self._state, entry)
            return
        self._state = genesis(entry)
        if self._state.agreement.fingerprint != self._agreement.fingerprint:
            raise Refused(Code.WRONG_AGREEMENT, "the log begins with another agreement than the bundle's")
