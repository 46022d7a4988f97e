"""The log as a real process over mutual TLS: receipts, acceptances, witnessing, relays, halts, hostile callers."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cosigner import Cosigner
from logsite import LogProcess, LogSite
from participants import Participants, make_participants

from pacekeeper.client.receipts import Accepted, SubmitRefused, WitnessedReceipt
from pacekeeper.client.submit import LogClient, TemporaryFailure
from pacekeeper.client.tls import CHANNEL_OPTIONS, channel_credentials, lab_uri, make_certificate, verifier_uri
from pacekeeper.log.fsck import fsck
from pacekeeper.log.server import serve
from pacekeeper.protocol.envelope import encode, parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.merkle import check_inclusion, leaf_hash
from pacekeeper.protocol.tlog.policy import CosignaturePolicy, check_checkpoint
from pacekeeper.v1 import log_pb2, log_pb2_grpc

LAB = "borealis"


@pytest.fixture(scope="module")
def people() -> Participants:
    return make_participants(period="1 h", due="30 min", tick="2 s", tolerance="2 s", unwitnessed="1 h")


@pytest.fixture
def site(tmp_path: Path, people: Participants) -> LogSite:
    return LogSite(tmp_path / "log", people)


@contextlib.asynccontextmanager
async def cosigners(
    log: LogProcess, people: Participants, count: int = 4, **more: bool
) -> AsyncIterator[list[Cosigner]]:
    async with contextlib.AsyncExitStack() as stack:
        parties = people.keys.party_ids[:count]
        yield [await stack.enter_async_context(Cosigner(people, party, log.address, **more)) for party in parties]


async def _fetch(log: LogProcess, path: str) -> bytes:
    def read() -> bytes:
        with urllib.request.urlopen(f"http://{log.http_address}/{path}", timeout=10) as answer:
            return bytes(answer.read())

    return await asyncio.to_thread(read)


async def test_a_submission_is_answered_with_receipts_that_prove_it(site: LogSite) -> None:
    """SPEC log-20, SPEC log-1: proofs in a checkpoint of the quorum; again, the same index; and the same over HTTP."""
    envelopes = [site.declaration(LAB, f"run-{number}") for number in range(300)]
    with site.process() as log:
        async with cosigners(log, site.people) as witnesses, site.client(lab_uri(LAB), log) as client:
            first = await client.submit(envelopes[:100])
            rest = await client.submit(envelopes[100:])
            again = await client.submit(envelopes[90:110])
            receipts = [*first, *rest]
            assert all(isinstance(receipt, WitnessedReceipt) for receipt in receipts)
            indices = [receipt.index for receipt in receipts if isinstance(receipt, WitnessedReceipt)]
            assert indices == list(range(indices[0], indices[0] + 300))
            assert [receipt.index for receipt in again if isinstance(receipt, WitnessedReceipt)] == indices[90:110]
            followed = [entry async for entry in _take(client.follow(), indices[-1] + 1)]
            assert [encode(parse_entry(followed[index]).envelope) for index in indices] == envelopes
            await witnesses[3].cosigned(indices[-1] + 1)
            assert witnesses[3].entries[: len(followed)] == followed
        checked = check_checkpoint(await _fetch(log, "checkpoint"), site.people.agreement.policy())
        assert checked.checkpoint.size >= indices[-1] + 1
        assert len(await _fetch(log, "tile/0/000")) == 8192
    assert fsck(site.state) == []


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask another process again until something holds."""
    async with asyncio.timeout(10):
        while not await holds():  # noqa: ASYNC110  there is no event to wait for in another process
            await asyncio.sleep(0.02)


async def _halted(client: LogClient, code: str) -> bool:
    return (await client.status()).halted == code


async def _nobody_absent(log: LogProcess, policy: CosignaturePolicy) -> bool:
    return not check_checkpoint(await _fetch(log, "checkpoint"), policy).absent


async def _take(batches: AsyncIterator, count: int) -> AsyncIterator[bytes]:  # type: ignore[type-arg]
    taken = 0
    async for batch in batches:
        for entry in batch.entries:
            yield entry
            taken += 1
        if taken >= count:
            return


async def test_without_a_quorum_there_is_an_acceptance_or_a_plain_no(site: LogSite) -> None:
    """SPEC log-14, SPEC log-19 (FAULTS 21): nothing is published, submitters are told, and nothing is lost."""
    first, second = site.declaration(LAB, "one"), site.declaration(LAB, "two")
    with site.process() as log:
        async with cosigners(log, site.people, 2) as witnesses, site.client(lab_uri(LAB), log) as client:
            [accepted] = await client.submit([first], unwitnessed=True)
            assert isinstance(accepted, Accepted)
            with pytest.raises(TemporaryFailure) as failure:
                await client.submit([second], deadline_s=1)
            assert failure.value.code == Code.NOT_WITNESSED
            await witnesses[0].cosigned(1)
            assert (await client.status()).published_size == 0
            with pytest.raises(urllib.error.HTTPError):
                await _fetch(log, "checkpoint")
            async with Cosigner(site.people, site.people.keys.party_ids[2], log.address):
                receipts = await client.submit([first, second])
        assert [receipt.index for receipt in receipts if isinstance(receipt, WitnessedReceipt)] == [
            accepted.index,
            accepted.index + 1,
        ]


async def test_a_late_cosignature_is_added_and_an_absence_shows(site: LogSite) -> None:
    parties = site.people.keys.party_ids
    policy = site.people.agreement.policy()
    with site.process() as log:
        async with cosigners(log, site.people, 3), site.client(lab_uri(LAB), log) as client:
            await client.submit([site.declaration(LAB, "one")])
            checked = check_checkpoint(await _fetch(log, "checkpoint"), policy)
            assert checked.absent == (parties[3],)
            status = {witness.party: witness for witness in (await client.status()).witnesses}
            assert not status[parties[3]].connected
            assert status[parties[3]].cosigned_size == 0
            async with Cosigner(site.people, parties[3], log.address) as fourth:
                await client.submit([site.declaration(LAB, "two")])
                await fourth.cosigned(3)
                await _until(lambda: _nobody_absent(log, policy))


async def test_strict_verifiers_get_a_fresh_head_from_a_log_that_was_down(site: LogSite) -> None:
    """SPEC log-9: entry 0 is older than the tolerance by now; a Tick makes a head that they will cosign."""
    site.initialise()
    await asyncio.sleep(site.people.agreement.timing.tolerance_ms / 1000 + 0.2)
    with site.process() as log:
        await asyncio.sleep(site.people.agreement.timing.tolerance_ms / 1000 + 0.2)
        async with cosigners(log, site.people, strict=True) as witnesses:
            for witness in witnesses:
                await witness.cosigned(2)
            async with site.client(lab_uri(LAB), log) as client:
                [receipt] = await client.submit([site.declaration(LAB, "one")])
                assert isinstance(receipt, WitnessedReceipt)


async def test_two_statements_for_one_sequence_number_reach_every_verifier(tmp_path: Path) -> None:
    """SPEC log-10 (FAULTS 32): the second is refused and relayed, once, with the first one's index."""
    short = make_participants(period="1 s", due="10 s", fill_in="1 h", tick="4 s", tolerance="2 s")
    site = LogSite(tmp_path / "log", short)
    site.initialise()
    first, second = site.gap(LAB, "one"), site.gap(LAB, "two")
    with site.process() as log:
        async with cosigners(log, site.people) as witnesses, site.client(lab_uri(LAB), log) as client:
            [receipt] = await client.submit([first])
            assert isinstance(receipt, WitnessedReceipt)
            for _ in range(2):
                [refused] = await client.submit([second])
                assert isinstance(refused, SubmitRefused)
                assert refused.code == Code.SEQUENCE_TAKEN
            await client.submit([site.declaration(LAB, "after")])
            for witness in witnesses:
                await witness.until(lambda witness=witness: witness.conflicts)
                [conflict] = witness.conflicts
                assert (conflict.first_index, encode(conflict.second)) == (receipt.index, second)
            async with Cosigner(site.people, site.people.keys.party_ids[0], log.address) as returning:
                await returning.until(lambda: returning.conflicts)


async def test_the_log_halts_while_verifiers_clocks_disagree_with_its_own(site: LogSite) -> None:
    """SPEC log-7 (FAULTS 35): with two of four an hour off no quorum agrees; it resumes when they are right again."""
    with site.process() as log:
        async with cosigners(log, site.people) as witnesses, site.client(lab_uri(LAB), log) as client:
            await client.submit([site.declaration(LAB, "one")])
            for witness in witnesses[:2]:
                witness.offset_ms = 3_600_000
            await _until(lambda: _halted(client, Code.CLOCK_DISAGREES))
            with pytest.raises(TemporaryFailure) as failure:
                await client.submit([site.declaration(LAB, "two")])
            assert failure.value.code == Code.CLOCK_DISAGREES
            for witness in witnesses[:2]:
                witness.offset_ms = 0
            await _until(lambda: _halted(client, ""))
            [receipt] = await client.submit([site.declaration(LAB, "two")])
            assert isinstance(receipt, WitnessedReceipt)


async def test_a_second_process_on_one_state_directory_refuses(site: LogSite) -> None:
    """SPEC log-5 (FAULTS 8)."""
    with site.process():
        with pytest.raises(Refused) as refused:
            serve(site.config)
        assert refused.value.code is Code.UNSAFE_STATE
        assert "another log process" in refused.value.message


async def test_an_idle_log_ticks_by_itself(site: LogSite) -> None:
    """SPEC log-9: entries come though nobody submits any."""
    with site.process() as log:
        async with cosigners(log, site.people, 3) as witnesses:
            await witnesses[0].cosigned(4)
            kinds = {parse_entry(entry).envelope.payload_type for entry in witnesses[0].entries[1:]}
            assert kinds == {"application/vnd.pacekeeper.v1.Tick"}


async def test_hostile_callers_get_typed_refusals_and_others_do_not_notice(site: LogSite) -> None:
    """SPEC log-21, SPEC log-16 (FAULTS 41, 43): wrong identity, wrong party, wrong sizes, bytes that are nothing."""
    people = site.people
    party = people.keys.party_ids[0]
    with site.process() as log:
        async with cosigners(log, people, 3), site.client(lab_uri(LAB), log) as client:
            async with _stub(log, people, lab_uri(LAB)) as stub:
                for request, code in (
                    (log_pb2.SubmitRequest(), Code.MALFORMED),
                    (log_pb2.SubmitRequest(envelopes=[b"x"] * 257), Code.TOO_LARGE),
                ):
                    assert await _details(stub.Submit(request)) == code
                response = await stub.Submit(log_pb2.SubmitRequest(envelopes=[b"\x00", b"", bytes(70_000)]))
                assert [result.refusal.code for result in response.results] == [
                    Code.NOT_CANONICAL,
                    Code.MISSING_SIGNATURE,
                    Code.TOO_LARGE,
                ]
                assert not response.checkpoint
                hello = log_pb2.CosignHello(party=party, size=0)
                assert await _cosign(stub, hello=hello) == Code.WRONG_IDENTITY
                assert (
                    await _details(stub.GetInclusionProof(log_pb2.GetInclusionProofRequest(id=b"x"))) == Code.BAD_FIELD
                )
                unknown = log_pb2.GetInclusionProofRequest(id=bytes(32))
                assert await _details(stub.GetInclusionProof(unknown)) == Code.NOT_FOUND
                with pytest.raises(grpc.aio.AioRpcError) as oversize:
                    await stub.Submit(log_pb2.SubmitRequest(envelopes=[bytes(5_000_000)]))
                assert oversize.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            async with _stub(log, people, verifier_uri(party)) as stub:
                other = log_pb2.CosignHello(party=people.keys.party_ids[1])
                assert await _cosign(stub, hello=other) == Code.WRONG_IDENTITY
                assert await _cosign(stub, cosignature=b"x") == Code.MALFORMED
                assert await _cosign(stub, hello=log_pb2.CosignHello(party=party, size=10**6)) == Code.UNSAFE_STATE
                assert await _cosign(stub, hello=log_pb2.CosignHello(party=party, size=2**64 - 1)) == Code.BAD_FIELD
            stranger = channel_credentials(people.certificates["pacekeeper:log"], *make_certificate(lab_uri(LAB)))
            async with grpc.aio.secure_channel(log.address, stranger, options=CHANNEL_OPTIONS) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await log_pb2_grpc.TransparencyLogStub(channel).GetStatus(log_pb2.GetStatusRequest(), timeout=10)
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            [receipt] = await client.submit([site.declaration(LAB, "still")])
            assert isinstance(receipt, WitnessedReceipt)


async def test_an_inclusion_proof_is_had_by_a_statements_identity(site: LogSite) -> None:
    data = site.declaration(LAB, "one")
    with site.process() as log:
        async with cosigners(log, site.people, 3), site.client(lab_uri(LAB), log) as client:
            [receipt] = await client.submit([data])
            assert isinstance(receipt, WitnessedReceipt)
            async with _stub(log, site.people, lab_uri(LAB)) as stub:
                answer = await stub.GetInclusionProof(log_pb2.GetInclusionProofRequest(id=receipt.id))
            checked = check_checkpoint(answer.checkpoint, site.people.agreement.policy())
            entry = b"\x08" + _varint(answer.sequenced_at_ms) + b"\x12" + _varint(len(data)) + data
            check_inclusion(
                leaf_hash(entry),
                answer.index,
                checked.checkpoint.size,
                answer.inclusion_proof,
                checked.checkpoint.root,
            )


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


@contextlib.asynccontextmanager
async def _stub(
    log: LogProcess, people: Participants, uri: str
) -> AsyncIterator[log_pb2_grpc.TransparencyLogAsyncStub]:
    options = [(name, value) for name, value in CHANNEL_OPTIONS if "send_message" not in name]
    options.append(("grpc.max_send_message_length", -1))
    async with grpc.aio.secure_channel(log.address, people.credentials_of(uri), options=options) as channel:
        yield log_pb2_grpc.TransparencyLogStub(channel)


async def _details(call: object) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    return (error.value.details() or "").partition(":")[0]


async def _cosign(stub: log_pb2_grpc.TransparencyLogAsyncStub, **item: object) -> str:
    call = stub.Cosign()
    await call.write(log_pb2.CosignRequest(clock_ms=1, **item))  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as error:  # noqa: PT012  whichever read comes after the end
        while await call.read() is not grpc.aio.EOF:
            pass
    return (error.value.details() or "").partition(":")[0]
