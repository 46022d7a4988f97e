"""A real log over changes of its verifiers: newcomers come in without a restart, a kill loses nothing, damage shows."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cosigner import Cosigner
from living_acts import DELAY, Newcomer, accession, act_statements, amended_quorum, leaving
from logsite import LogProcess, LogSite
from membership_world import newcomer
from participants import Participants, make_participants

from pacekeeper.audit.result import Exit
from pacekeeper.audit.verify import audit
from pacekeeper.client.bundle import certificate_file
from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.fetch import DirectorySource
from pacekeeper.client.receipts import SubmitRefused, WitnessedReceipt
from pacekeeper.client.tls import CHANNEL_OPTIONS, lab_uri, make_certificate, spki_pin, verifier_uri
from pacekeeper.log.fsck import fsck
from pacekeeper.log.restore import restore
from pacekeeper.log.server import serve
from pacekeeper.protocol.envelope import encode
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.v1 import log_pb2, log_pb2_grpc

FOUNDERS = ("norland", "sudland", "westmere", "eastholm")
LAB = "borealis"


def join(people: Participants, party: str) -> Newcomer:
    """Make a newcomer's identity; its address leads nowhere, so that only its certificate's file is found."""
    people.identities[verifier_uri(party)] = make_certificate(verifier_uri(party))
    known = newcomer(party)
    pin = spki_pin(people.certificates[verifier_uri(party)])
    return Newcomer(replace(known, verifier=replace(known.verifier, tls_spki=pin, address="127.0.0.1:9")), ())


async def act(site: LogSite, log: LogProcess, document: bytes, who: tuple[str, ...] = FOUNDERS[:3]) -> int:
    """Propose and pledge; returns the index of the last pledge. It is performed two seconds later."""
    people, index = site.people, 0
    ident = document.split(b'id = "', 1)[1].split(b'"', 1)[0].decode()
    async with site.client(lab_uri(LAB), log) as client:
        for signer, statement in act_statements(people.agreement.fingerprint, document, ident, who):
            [answer] = await client.submit([encode(seal(statement, [people.keys.party(signer)]))])  # type: ignore[arg-type]
            assert isinstance(answer, WitnessedReceipt), answer
            index = answer.index
    return index


def size_of(site: LogSite, name: str) -> int:
    """The size of a public checkpoint file's tree, 0 if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return parse_checkpoint(parse_note((site.state / "public" / name).read_bytes()).text).size
    return 0


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what it waits for is on disk
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def cosigners(site: LogSite, address: str, *parties: str) -> AsyncIterator[dict[str, Cosigner]]:
    async with contextlib.AsyncExitStack() as stack:
        yield {
            party: await stack.enter_async_context(Cosigner(site.people, party, address, strict=True))
            for party in parties
        }


def audited(site: LogSite) -> Exit:
    source = DirectorySource(site.state / "public")
    try:
        return audit(source, site.people.agreement.fingerprint, jobs=0).status
    finally:
        source.close()


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> LogSite:
    """A log over an amended quorum and an accession, stopped."""
    site = LogSite(tmp_path_factory.mktemp("changed") / "log", make_participants())
    highmark = join(site.people, "highmark")

    async def play(log: LogProcess) -> None:
        async with cosigners(site, log.address, *FOUNDERS, "highmark") as running:
            await act(site, log, amended_quorum("stricter", (4, 0)))
            await until(lambda: size_of(site, "transition/1"))
            await act(site, log, accession("welcome", [highmark], (5, 0), parties=4), FOUNDERS)
            # Five of five: nothing is published before the newcomer's certificate is in the bundle's directory.
            await asyncio.sleep(3)
            assert size_of(site, "transition/2") == 0
            path = site.directory / "bundle" / certificate_file(verifier_uri("highmark"))
            path.write_bytes(site.people.certificates[verifier_uri("highmark")])
            await until(lambda: size_of(site, "transition/2"))
            assert running["highmark"].entries, "everything from entry 0 was pushed to the newcomer"

    with site.process() as log:
        asyncio.run(play(log))
    return site


def test_a_newcomers_certificate_is_found_without_a_restart(changed: LogSite) -> None:
    """SPEC transport-22: by its file, and the log that results is sound by fsck and by an audit."""
    assert fsck(changed.state) == []
    assert audited(changed) is Exit.COMPLIANT


def test_who_follows_is_shown_each_transition_where_it_stands(changed: LogSite, tmp_path: Path) -> None:
    """SPEC transition-9: from the beginning, from right at a change, and from after it."""
    shutil.copytree(changed.directory, tmp_path / "copy")
    site = LogSite.__new__(LogSite)
    site.__dict__.update(changed.__dict__, directory=tmp_path / "copy")
    site.config, site.state = site.directory / "log.toml", site.directory / "state"
    sizes = [size_of(site, f"transition/{number}") for number in (1, 2)]
    notes = [(site.state / "public" / f"transition/{number}").read_bytes() for number in (1, 2)]

    async def shown(address: str, first: int) -> list[int | bytes]:
        """What the stream says until it has no more: sizes reached by entries, and notes, but for the head's."""
        said: list[int | bytes] = []
        credentials = site.people.credentials_of(lab_uri(LAB))
        async with grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS) as channel:
            call = log_pb2_grpc.TransparencyLogStub(channel).Follow(log_pb2.FollowRequest(from_index=first))
            with contextlib.suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(2):
                        message = await call.read()
                    assert isinstance(message, log_pb2.FollowResponse)
                    batch = message.batch
                    said.append(message.checkpoint or batch.first_index + len(batch.entries))
            call.cancel()
        return said[:-1]

    with site.process() as log:
        published = size_of(site, "checkpoint")
        everything = [sizes[0], notes[0], sizes[1], notes[1]]
        rest = [published] if published > sizes[1] else []
        for first, expected in (
            (0, [*everything, *rest]),
            (sizes[0], [*everything[1:], *rest]),
            (sizes[0] + 1, [*everything[2:], *rest]),
            (sizes[1], [*everything[3:], *rest]),
        ):
            assert asyncio.run(shown(log.address, first)) == expected, first


def test_a_log_killed_before_a_transition_is_published_does_it_after(tmp_path: Path) -> None:
    """SPEC transition-5: what it needs follows from the store; cosignatures gathered so far are gathered again."""
    site = LogSite(tmp_path / "log", make_participants())
    parties = ("sudland", "westmere", "eastholm")

    async def play() -> None:
        log = site.start()
        async with cosigners(site, log.address, *FOUNDERS) as running:
            await act(site, log, leaving("farewell", "norland", (3, 0)))
            running["eastholm"].willing = False
            before = size_of(site, "checkpoint")
            await until(lambda: running["westmere"].sizes[-1] > before)  # the candidate is out, one line is lacking
            await asyncio.sleep(2.5)
            assert size_of(site, "transition/1") == 0
        log.kill()
        log = site.start()
        async with cosigners(site, log.address, *parties) as running:
            await asyncio.sleep(1)
            assert size_of(site, "transition/1") > 0, (
                "three of the four are enough for the quorum before, and all after"
            )
            await until(lambda: size_of(site, "checkpoint") >= size_of(site, "transition/1"))
        log.kill()
        assert fsck(site.state) == []
        log = site.start()
        async with cosigners(site, log.address, "norland") as running:
            await until(lambda: running["norland"].ended_with is not None)
            assert running["norland"].ended_with in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED}
        log.process.terminate()
        log.process.wait(30)

    asyncio.run(play())
    assert audited(site) is Exit.COMPLIANT


def test_who_leaves_is_turned_away_once_the_transition_is_published(tmp_path: Path) -> None:
    """SPEC transition-8, SPEC transport-22: the open stream ends, and no other opens; its lab still brings accounts."""
    site = LogSite(tmp_path / "log", make_participants())

    async def play(log: LogProcess) -> None:
        async with cosigners(site, log.address, *FOUNDERS) as running:
            await act(site, log, leaving("farewell", "sudland", (3, 0)), ("norland", "westmere", "eastholm"))
            await until(lambda: size_of(site, "transition/1"))
            await until(lambda: running["sudland"].ended_with is not None)
            last = size_of(site, "transition/1")
            assert running["sudland"].sizes[-1] <= last
            async with site.client(lab_uri("meridian"), log) as client:
                [answer] = await client.submit([site.gap("meridian", "as owed")])
                assert isinstance(answer, SubmitRefused)
                assert answer.code == Code.PERIOD_NOT_OVER, "it is heard, and only early"
            async with site.client(verifier_uri("sudland"), log) as client:
                with pytest.raises((Refused, TemporaryFailure)):
                    await client.status()

    with site.process() as log:
        asyncio.run(play(log))


DAMAGED = {
    "the first one left out": (
        "DELETE FROM transitions WHERE number = 1",
        "transition/1 differs",
    ),
    "the last one left out": (
        "DELETE FROM transitions WHERE number = 2",
        "the verifiers changed before it|cosignatures of",
    ),
    "one of them altered": (
        "UPDATE transitions SET note = CAST(substr(note, 1, length(note) - 20) || x'41' || substr(note, "
        "length(note) - 18) AS BLOB) WHERE number = 2",
        "transition/2( is damaged)?: ",
    ),
    "exchanged": (
        "UPDATE transitions SET note = (SELECT t.note FROM transitions t WHERE t.number = 3 - transitions.number)",
        "transition/[12]: ",
    ),
    "no note": ("UPDATE transitions SET note = x'00' WHERE number = 1", "transition/1 is damaged: "),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_store_whose_transitions_do_not_hold_does_not_start(changed: LogSite, tmp_path: Path, what: str) -> None:
    """SPEC transition-13: the sentence names the one at fault, and fsck finds the same."""
    statement, sentence = DAMAGED[what]
    shutil.copytree(changed.directory, tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(tmp_path / "copy/state/log.sqlite")) as db, db:
        assert db.execute(statement).rowcount

    def unexpected(_facts: dict[str, object]) -> None:
        raise AssertionError("the log serves")

    with pytest.raises(Refused, match=sentence) as refused:
        serve(tmp_path / "copy/log.toml", ready=unexpected)
    assert refused.value.code is Code.UNSAFE_STATE
    problems = fsck(tmp_path / "copy/state")
    assert any("transition" in problem or "verifiers changed" in problem for problem in problems), problems


def test_missing_transition_files_are_made_again_and_others_are_named(changed: LogSite, tmp_path: Path) -> None:
    """SPEC transition-6, SPEC transition-7."""
    shutil.copytree(changed.directory, tmp_path / "copy")
    config, public = tmp_path / "copy/log.toml", tmp_path / "copy/state/public"
    original = (public / "transition/1").read_bytes()

    class Served(Exception):
        pass

    def stop(_facts: dict[str, object]) -> None:
        raise Served

    (public / "transition/1").unlink()
    (public / "transition/3").write_bytes(original)
    assert set(fsck(tmp_path / "copy/state")) == {
        "transition/1 is missing from the public files",
        "transition/3 is not in the store",
    }
    (public / "transition/3").unlink()
    with pytest.raises(Served):
        serve(config, ready=stop)
    assert (public / "transition/1").read_bytes() == original
    assert fsck(tmp_path / "copy/state") == []
    (public / "transition/1").write_bytes(original + b"x")
    assert fsck(tmp_path / "copy/state") == ["transition/1 differs from the one in the store"]
    with pytest.raises(Refused, match="transition/1 differs"):
        serve(config, ready=stop)


@pytest.mark.parametrize("spoil", ["nothing", "transition/2 missing", "transition/1 of others"])
def test_a_lost_store_is_made_again_with_its_transitions(changed: LogSite, tmp_path: Path, spoil: str) -> None:
    """SPEC transition-13, SPEC log-31: from a copy of the public files, whose changes of the verifiers have to hold."""
    shutil.copytree(changed.directory, tmp_path / "copy")
    shutil.copytree(changed.state / "public", tmp_path / "mirror")
    config, mirror = tmp_path / "copy/log.toml", tmp_path / "mirror"
    shutil.rmtree(tmp_path / "copy/state")
    if spoil == "nothing":
        assert restore(config, str(mirror)) == size_of(changed, "checkpoint")

        def stop(_facts: dict[str, object]) -> None:
            raise InterruptedError

        with pytest.raises(InterruptedError):
            serve(config, ready=stop)
        assert fsck(tmp_path / "copy/state") == []
        for number in (1, 2):
            name = f"transition/{number}"
            assert (tmp_path / "copy/state/public" / name).read_bytes() == (mirror / name).read_bytes()
        return
    if spoil == "transition/2 missing":
        (mirror / "transition/2").unlink()
    else:
        note = (mirror / "transition/1").read_bytes().decode()
        kept = [line for line in note.split("\n") if not line.startswith(("— norland", "— sudland"))]
        (mirror / "transition/1").write_text("\n".join(kept))
    with pytest.raises(Refused) as refused:
        restore(config, str(mirror))
    assert refused.value.code is Code.UNSAFE_STATE
    assert not (tmp_path / "copy/state/log.sqlite").exists()


assert DELAY == "2 s"  # what the waiting above counts on
