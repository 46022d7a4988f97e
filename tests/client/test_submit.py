"""Submission against a real gRPC server that answers honestly, and then in every dishonest way we could think of."""

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from agreements import signing_key
from google.protobuf.message import DecodeError
from key_world import KeyWorld
from participants import Participants
from scripted_log import TIME_MS, ScriptedLog, statement_id

from pacekeeper.client import rpc
from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.client.receipts import check_acceptance, verify_answer
from pacekeeper.client.submit import Accepted, LogClient, SubmitRefused, WitnessedReceipt, split_batches
from pacekeeper.client.tls import LOG_URI, lab_uri, make_certificate, server_credentials
from pacekeeper.protocol import envelope, limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import Applied
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.tlog.receipt import check_receipt, parse_receipt
from pacekeeper.v1 import log_pb2, statements_pb2

LAB = lab_uri("borealis")


def tick(people: Participants, index: int) -> bytes:
    statement = statements_pb2.Tick(agreement=people.agreement.fingerprint, index=index)
    return envelope.encode(seal(statement, [people.keys.log_statement]))


@pytest.fixture
def log(people: Participants) -> ScriptedLog:
    scripted = ScriptedLog(people)
    for index in range(1, 6):  # so that proofs are not empty
        scripted.append(tick(people, index))
    return scripted


@pytest.fixture
async def client(people: Participants, log: ScriptedLog) -> AsyncIterator[LogClient]:
    async with (
        log.serving(people.log_credentials()) as address,
        LogClient(address, people.credentials_of(LAB), people.agreement) as opened,
    ):
        yield opened


async def test_a_witnessed_receipt_proves_itself_offline(
    people: Participants, log: ScriptedLog, client: LogClient
) -> None:
    """SPEC transport-14: verified over the submitter's own bytes; what is returned is a whole .tlog-proof."""
    envelopes = [tick(people, index) for index in range(100, 103)]
    receipts = await client.submit(envelopes)
    assert len(receipts) == 3
    for offset, (data, receipt) in enumerate(zip(envelopes, receipts, strict=True)):
        assert isinstance(receipt, WitnessedReceipt)
        assert (receipt.index, receipt.sequenced_at_ms) == (5 + offset, TIME_MS + 5 + offset)
        assert receipt.id == statement_id(data)
        entry = envelope.frame_entry(receipt.sequenced_at_ms, data)
        checked = check_receipt(parse_receipt(receipt.tlog_proof), entry, people.agreement.policy())
        assert checked.checkpoint.size == 8


async def test_submitting_again_gives_the_same_place(people: Participants, client: LogClient) -> None:
    data = tick(people, 100)
    [first] = await client.submit([data])
    await client.submit([tick(people, 101)])
    [again] = await client.submit([data])
    assert isinstance(first, WitnessedReceipt)
    assert isinstance(again, WitnessedReceipt)
    assert (again.index, again.sequenced_at_ms, again.id) == (first.index, first.sequenced_at_ms, first.id)


async def test_a_full_batch_is_answered(people: Participants, client: LogClient) -> None:
    receipts = await client.submit([tick(people, 100 + index) for index in range(limits.MAX_BATCH)])
    assert [receipt.index for receipt in receipts if isinstance(receipt, WitnessedReceipt)] == list(range(5, 261))


async def test_an_acceptance_is_verified_and_kept(people: Participants, client: LogClient) -> None:
    """SPEC transport-16: signed by the log's statement key, under this agreement."""
    envelopes = [tick(people, 100), tick(people, 101)]
    accepted = await client.submit(envelopes, unwitnessed=True)
    assert [item.index for item in accepted if isinstance(item, Accepted)] == [5, 6]
    for data, item in zip(envelopes, accepted, strict=True):
        assert isinstance(item, Accepted)
        assert item.id == statement_id(data)
        envelope.parse_envelope(item.acceptance)


async def test_who_does_not_wait_still_takes_a_witnessed_receipt(
    people: Participants, log: ScriptedLog, client: LogClient
) -> None:
    def witnessed(response: log_pb2.SubmitResponse) -> None:
        response.ClearField("acceptance")
        response.checkpoint = log.checkpoint()
        for result in response.results:
            result.sequenced.inclusion_proof.extend(log.tree.prove_inclusion(result.sequenced.index))

    log.spoil = witnessed
    [receipt] = await client.submit([tick(people, 100)], unwitnessed=True)
    assert isinstance(receipt, WitnessedReceipt)


async def test_a_refusal_passes_through_beside_receipts(
    people: Participants, log: ScriptedLog, client: LogClient
) -> None:
    envelopes = [tick(people, index) for index in range(100, 104)]
    log.refusals[statement_id(envelopes[1])] = Refused(Code.BAD_TICK, "names another index")
    log.refusals[statement_id(envelopes[3])] = Refused(Code.BAD_TICK, "x" * 10_000)
    outcomes = await client.submit(envelopes)
    assert isinstance(outcomes[0], WitnessedReceipt)
    assert outcomes[1] == SubmitRefused("bad-tick", "names another index")
    assert isinstance(outcomes[2], WitnessedReceipt)
    assert outcomes[2].index == 6
    assert isinstance(outcomes[3], SubmitRefused)
    assert len(outcomes[3].message) == limits.MAX_TEXT_CHARS


@pytest.mark.parametrize("unwitnessed", [False, True])
async def test_a_batch_of_refusals_needs_no_checkpoint(
    people: Participants, log: ScriptedLog, client: LogClient, unwitnessed: bool
) -> None:
    data = tick(people, 100)
    log.refusals[statement_id(data)] = Refused(Code.BAD_TICK, "no")
    assert await client.submit([data], unwitnessed=unwitnessed) == [SubmitRefused("bad-tick", "no")]


@pytest.mark.parametrize("code", sorted(rpc.TEMPORARY))
async def test_what_may_pass_is_a_temporary_failure(
    people: Participants, log: ScriptedLog, client: LogClient, code: Code
) -> None:
    data = tick(people, 100)
    log.refusals[statement_id(data)] = Refused(code, "later")
    with pytest.raises(TemporaryFailure) as caught:
        await client.submit([tick(people, 99), data])
    assert (caught.value.code, caught.value.message) == (code, "later")
    log.refusals.clear()
    log.abort = Refused(code, "later: much later")
    with pytest.raises(TemporaryFailure) as caught:
        await client.submit([data])
    assert (caught.value.code, caught.value.message) == (code, "later: much later")


@pytest.mark.parametrize("code", [Code.WRONG_IDENTITY, Code.TOO_LARGE, Code.WRONG_AGREEMENT, Code.NOT_FOUND])
async def test_a_refused_call_is_refused_with_its_code(
    people: Participants, log: ScriptedLog, client: LogClient, code: Code
) -> None:
    """SPEC transport-12: the code and the sentence cross the wire."""
    log.abort = Refused(code, "because")
    with pytest.raises(Refused) as caught:
        await client.submit([tick(people, 100)])
    assert (caught.value.code, caught.value.message) == (code, "because")


Spoil = Callable[[ScriptedLog, log_pb2.SubmitResponse], object]


def _change_first(**changes: Any) -> Spoil:
    def spoil(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
        for field, value in changes.items():
            setattr(response.results[0].sequenced, field, value)

    return spoil


def _flip_proof(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    proof = response.results[1].sequenced.inclusion_proof
    proof[0] = bytes([proof[0][0] ^ 1]) + proof[0][1:]


def _swap_results(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    first, second = response.results[1], response.results[0]
    response.results.extend([first, second])
    del response.results[:2]


def _set_cosigners(count: int) -> Spoil:
    def spoil(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
        log.cosigners = log.people.keys.party_ids[:count]
        response.checkpoint = log.checkpoint()

    return spoil


def _another_origin(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    log.origin = "example.org/elsewhere"
    response.checkpoint = log.checkpoint()


def _another_log_key(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    log.log_key = signing_key("impostor")
    response.checkpoint = log.checkpoint()


def _forged_cosignature(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    lines = response.checkpoint.decode().splitlines(keepends=True)
    start, end = lines[-1][:-12], lines[-1][-12:]
    response.checkpoint = "".join([*lines[:-1], start, end.swapcase()]).encode()


def _old_checkpoint(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    response.checkpoint = log.checkpoint(5)


def _replay_old_answer(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    """A valid receipt, of another entry."""
    for result in response.results:
        result.sequenced.index = 2
        result.sequenced.sequenced_at_ms = TIME_MS + 2
        result.sequenced.ClearField("inclusion_proof")
        result.sequenced.inclusion_proof.extend(log.tree.prove_inclusion(2))


def _empty_outcome(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    response.results[1].ClearField("sequenced")


def _nameless_refusal(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    response.results[1].refusal.message = "just so"


def _hostile_refusal(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    response.results[1].refusal.code = "\x1b[2J"


def _swap_checkpoint_for_acceptance(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    response.ClearField("checkpoint")
    response.acceptance.CopyFrom(log.accept([tick(log.people, 100), tick(log.people, 101)]))


WITNESSED_LIES: dict[str, tuple[Spoil, set[Code]]] = {
    "wrong index": (_change_first(index=6), {Code.BAD_PROOF}),
    "index beyond the tree": (_change_first(index=7), {Code.BAD_PROOF}),
    "huge index": (_change_first(index=2**64 - 1), {Code.BAD_PROOF}),
    "wrong time": (_change_first(sequenced_at_ms=TIME_MS), {Code.BAD_PROOF}),
    "no time": (_change_first(sequenced_at_ms=0), {Code.BAD_PROOF}),
    "impossible time": (_change_first(sequenced_at_ms=2**63), {Code.BAD_FIELD}),
    "wrong proof": (_flip_proof, {Code.BAD_PROOF}),
    "no proof": (lambda log, response: response.results[0].sequenced.ClearField("inclusion_proof"), {Code.BAD_PROOF}),
    "longer proof": (
        lambda log, response: response.results[0].sequenced.inclusion_proof.append(bytes(32)),
        {Code.BAD_PROOF},
    ),
    "short hash": (
        lambda log, response: response.results[0].sequenced.inclusion_proof.append(bytes(31)),
        {Code.BAD_PROOF},
    ),
    "endless proof": (
        lambda log, response: response.results[0].sequenced.inclusion_proof.extend([bytes(32)] * 10_000),
        {Code.BAD_PROOF},
    ),
    "results in another order": (_swap_results, {Code.BAD_PROOF}),
    "one cosignature too few": (_set_cosigners(2), {Code.NO_QUORUM}),
    "no cosignature": (_set_cosigners(0), {Code.NO_QUORUM}),
    "a forged cosignature": (_forged_cosignature, {Code.BAD_SIGNATURE, Code.BAD_NOTE}),
    "another origin": (_another_origin, {Code.BAD_CHECKPOINT}),
    "another log key": (_another_log_key, {Code.BAD_SIGNATURE, Code.BAD_NOTE}),
    "a checkpoint from before": (_old_checkpoint, {Code.BAD_PROOF}),
    "a receipt of another entry": (_replay_old_answer, {Code.BAD_PROOF}),
    "no checkpoint": (lambda log, response: response.ClearField("checkpoint"), {Code.NO_QUORUM}),
    "not a checkpoint": (lambda log, response: setattr(response, "checkpoint", b"\xff\x00"), {Code.BAD_NOTE}),
    "acceptance instead": (_swap_checkpoint_for_acceptance, {Code.NO_QUORUM}),
    "no results": (lambda log, response: response.ClearField("results"), {Code.MALFORMED}),
    "nothing at all": (lambda log, response: response.Clear(), {Code.MALFORMED}),
    "a result too few": (lambda log, response: response.results.pop(), {Code.MALFORMED}),
    "a result too many": (lambda log, response: response.results.append(response.results[0]), {Code.MALFORMED}),
    "an empty outcome": (_empty_outcome, {Code.MALFORMED}),
    "a refusal without code": (_nameless_refusal, {Code.MALFORMED}),
    "a refusal with a terminal sequence": (_hostile_refusal, {Code.MALFORMED}),
}


@pytest.mark.parametrize("lie", WITNESSED_LIES)
async def test_a_lying_log_gives_no_receipt(
    people: Participants, log: ScriptedLog, client: LogClient, lie: str
) -> None:
    """SPEC transport-13: one outcome for each envelope. SPEC transport-14: each verified.

    SPEC transport-15: a bare index, or an acceptance that was not asked for, is no receipt.
    """
    spoil, codes = WITNESSED_LIES[lie]
    log.spoil = lambda response: spoil(log, response)
    with pytest.raises(Refused) as caught:
        await client.submit([tick(people, 100), tick(people, 101)])
    assert caught.value.code in codes
    # The same submission succeeds once the log is honest again, so that it was the lie that failed.
    log.spoil = lambda response: None
    log.cosigners, log.origin = people.keys.party_ids, people.agreement.origin
    log.log_key = people.keys.log_checkpoint
    receipts = await client.submit([tick(people, 100), tick(people, 101)])
    assert [type(receipt) for receipt in receipts] == [WitnessedReceipt, WitnessedReceipt]


def test_whatever_bit_flips_on_the_way_no_false_receipt_comes_out(people: Participants, log: ScriptedLog) -> None:
    """SPEC transport-14: what is returned as a receipt verifies by itself, whatever the answer's bytes were."""
    envelopes = [tick(people, index) for index in range(100, 103)]
    honest = log.respond(log_pb2.SubmitRequest(envelopes=envelopes)).SerializeToString()
    refused = 0
    for seed in range(1_000):
        chance = random.Random(seed)
        data = bytearray(honest)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            response = log_pb2.SubmitResponse.FromString(bytes(data))
            outcomes = verify_answer(envelopes, response, people.agreement, unwitnessed=False)
        except (DecodeError, Refused, TemporaryFailure):
            refused += 1
            continue
        for sent, outcome in zip(envelopes, outcomes, strict=True):
            if isinstance(outcome, WitnessedReceipt):
                entry = envelope.frame_entry(outcome.sequenced_at_ms, sent)
                check_receipt(parse_receipt(outcome.tlog_proof), entry, people.agreement.policy())
    assert refused > 700  # nearly every bit counts; a flag and unknown fields do not


def _acceptance(**changed: Any) -> Spoil:
    def spoil(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
        response.acceptance.CopyFrom(log.accept([tick(log.people, 100), tick(log.people, 101)], **changed))

    return spoil


def _partial_acceptance(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    response.acceptance.CopyFrom(log.accept([tick(log.people, 100)]))


def _forged_acceptance(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    response.acceptance.signatures[0].signature = bytes(64)


def _another_payload_type(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    statement = statements_pb2.Tick(agreement=log.people.agreement.fingerprint, index=1)
    response.acceptance.CopyFrom(seal(statement, [log.people.keys.log_statement]))


def _non_canonical_acceptance(log: ScriptedLog, response: log_pb2.SubmitResponse) -> None:
    honest = log.accept([tick(log.people, 100), tick(log.people, 101)])
    padded = envelope.sign_envelope(honest.payload_type, honest.payload + b"\x78\x01", [log.people.keys.log_statement])
    response.acceptance.CopyFrom(padded)


ACCEPTED_LIES: dict[str, tuple[Spoil, Code]] = {
    "no acceptance": (lambda log, response: response.ClearField("acceptance"), Code.NO_QUORUM),
    "no signature": (lambda log, response: response.acceptance.ClearField("signatures"), Code.MISSING_SIGNATURE),
    "forged": (_forged_acceptance, Code.BAD_SIGNATURE),
    "another key": (_acceptance(signers=[signing_key("impostor")]), Code.UNKNOWN_SIGNER),
    "nobody's acceptance": (_acceptance(entries=[]), Code.BAD_SIGNATURE),
    "another agreement": (_acceptance(agreement=bytes(32)), Code.WRONG_AGREEMENT),
    "one entry missing": (_partial_acceptance, Code.BAD_SIGNATURE),
    "another index": (_change_first(index=0), Code.BAD_SIGNATURE),
    "another time": (_change_first(sequenced_at_ms=1), Code.BAD_SIGNATURE),
    "another statement": (_another_payload_type, Code.MALFORMED),
    "not canonical": (_non_canonical_acceptance, Code.MALFORMED),
    "a result too few": (lambda log, response: response.results.pop(), Code.MALFORMED),
}


@pytest.mark.parametrize("lie", ACCEPTED_LIES)
async def test_a_lying_log_gives_no_acceptance(
    people: Participants, log: ScriptedLog, client: LogClient, lie: str
) -> None:
    """SPEC transport-16: an acceptance that does not hold is none."""
    spoil, code = ACCEPTED_LIES[lie]
    log.spoil = lambda response: spoil(log, response)
    with pytest.raises(Refused) as caught:
        await client.submit([tick(people, 100), tick(people, 101)], unwitnessed=True)
    assert caught.value.code is code
    log.spoil = lambda response: None
    accepted = await client.submit([tick(people, 100), tick(people, 101)], unwitnessed=True)
    assert [type(item) for item in accepted] == [Accepted, Accepted]


async def test_the_callers_own_mistakes(people: Participants, client: LogClient) -> None:
    for batch in [[], [tick(people, 1)] * (limits.MAX_BATCH + 1), [bytes(60_000)] * 100]:
        with pytest.raises(ValueError, match="a batch has"):
            await client.submit(batch)
    closed = LogClient("127.0.0.1:1", people.credentials_of(LAB), people.agreement)
    with pytest.raises(ValueError, match="not open"):
        await closed.submit([tick(people, 1)])


def test_batches_hold_what_one_submission_takes() -> None:
    small = [bytes([i % 256]) for i in range(600)]
    assert [len(batch) for batch in split_batches(small)] == [256, 256, 88]
    large = [bytes(60_000)] * 100
    batches = list(split_batches(large))
    assert [data for batch in batches for data in batch] == large
    assert all(sum(map(len, batch)) < limits.MAX_SUBMIT_BYTES for batch in batches)
    assert list(split_batches([])) == []


async def test_no_answer_in_time_is_a_temporary_failure(people: Participants, log: ScriptedLog) -> None:
    async def stall(request: Any, context: Any) -> log_pb2.SubmitResponse:
        import asyncio

        await asyncio.sleep(60)
        raise AssertionError

    log.Submit = stall  # type: ignore[method-assign]
    async with (
        log.serving(people.log_credentials()) as address,
        LogClient(address, people.credentials_of(LAB), people.agreement) as client,
    ):
        with pytest.raises(TemporaryFailure) as caught:
            await client.submit([tick(people, 100)], deadline_s=0.3)
        assert caught.value.code == Outage.DEADLINE_EXCEEDED
        # Another call on the same connection is served meanwhile.
        assert (await client.status()).size == 5


async def test_a_crashing_server_is_a_temporary_failure(people: Participants, log: ScriptedLog) -> None:
    def crash(response: log_pb2.SubmitResponse) -> None:
        raise ZeroDivisionError

    log.spoil = crash
    async with (
        log.serving(people.log_credentials()) as address,
        LogClient(address, people.credentials_of(LAB), people.agreement) as client,
    ):
        with pytest.raises(TemporaryFailure) as caught:
            await client.submit([tick(people, 100)])
        assert caught.value.code == Outage.SERVER_ERROR


async def test_an_impostor_is_named_as_one(people: Participants, log: ScriptedLog) -> None:
    credentials = server_credentials(*make_certificate(LOG_URI), [people.certificates[LAB]])
    async with (
        log.serving(credentials) as address,
        LogClient(address, people.credentials_of(LAB), people.agreement) as client,
    ):
        with pytest.raises(Refused) as caught:
            await client.submit([tick(people, 100)])
        assert caught.value.code is Code.WRONG_NETWORK_PIN
    assert len(log.entries) == 5


def test_a_promise_is_judged_by_the_statement_key_in_force() -> None:
    """SPEC transport-16: after the log's key was followed by another, the agreement in force has that one."""
    world = KeyWorld()
    promise = statements_pb2.Acceptance(agreement=world.agreement.fingerprint)
    assert isinstance(world.rotate("log", "log"), Applied)
    by_new = envelope.encode(seal(promise, [world.key("log", "log")]))
    by_old = envelope.encode(seal(promise, [world.key("log", "log", 1)]))
    assert check_acceptance(by_new, world.state.agreement) == {}
    with pytest.raises(Refused, match="not signed by the log's statement key"):
        check_acceptance(by_old, world.state.agreement)
