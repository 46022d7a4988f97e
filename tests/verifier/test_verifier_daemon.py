"""The verifier as a process: configuration, start, kill -9, a second one, a lost state, exit statuses."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from agreements import signing_key
from cosign_log import CosignLog, pins_of
from participants import Participants, make_participants
from world import World

from pacekeeper.client.keyfiles import create_key, write_private, write_public
from pacekeeper.client.tls import CHANNEL_OPTIONS, channel_credentials, verifier_uri
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.v1 import verifier_pb2, verifier_pb2_grpc

RUN = "import sys; from pathlib import Path; from pacekeeper.verifier.daemon import run; run(Path(sys.argv[1]))"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def write_key(path: Path, label: str) -> None:
    """The deterministic test key of that label, in a key file."""
    seed = hashlib.sha256(label.encode()).digest()
    assert SigningKey(seed).public == signing_key(label).public
    write_private(path, b"pacekeeper-ed25519-seed-v1\n" + base64.b64encode(seed) + b"\n")


class Site:
    """Norland's machine: bundle, keys, configuration; and the processes that were started on it."""

    def __init__(self, directory: Path, people: Participants) -> None:
        self.directory, self.people = directory, people
        self.processes: list[asyncio.subprocess.Process] = []
        people.write_bundle(directory / "bundle")
        key_pem, cert_pem = people.identities[verifier_uri("norland")]
        write_key(directory / "keys/statement.key", "/verifier-statement/norland")
        write_key(directory / "keys/cosign.key", "/verifier-cosign/norland")
        write_private(directory / "keys/tls.pem", key_pem)
        write_public(directory / "keys/tls.crt.pem", cert_pem)
        self.config = directory / "verifier.toml"
        self.configure()

    def configure(self, **changes: str) -> None:
        settings = {
            "bundle": "bundle",
            "party": "norland",
            "state": "state",
            "listen": "127.0.0.1:0",
            "statement_key": "keys/statement.key",
            "cosign_key": "keys/cosign.key",
            "tls_key": "keys/tls.pem",
            "tls_certificate": "keys/tls.crt.pem",
        } | changes
        self.config.write_text("".join(f'{key} = "{value}"\n' for key, value in settings.items()))

    async def start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            RUN,
            str(self.config),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"GRPC_VERBOSITY": "NONE"},  # or gRPC adds lines of its own
        )
        self.processes.append(process)
        return process

    async def ready(self, process: asyncio.subprocess.Process) -> int:
        """Wait for a process's ready file; return its port."""
        path = self.directory / "state" / "ready"
        async with asyncio.timeout(20):
            while True:
                if process.returncode is not None:
                    raise AssertionError((await process.communicate())[1].decode())
                if path.exists() and (facts := json.loads(path.read_text()))["pid"] == process.pid:
                    return int(facts["listen"].rpartition(":")[2])
                await asyncio.sleep(0.02)

    async def fails(self) -> tuple[int | None, str]:
        """Start a process that is to end by itself; return its exit status and what it says."""
        process = await self.start()
        _, said = await asyncio.wait_for(process.communicate(), 20)
        return process.returncode, said.decode()

    async def status(self, port: int) -> verifier_pb2.GetVerifierStatusResponse:
        credentials = channel_credentials(self.people.certificates[verifier_uri("norland")])
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=CHANNEL_OPTIONS) as channel:
            stub: Any = verifier_pb2_grpc.NationalVerifierStub(channel)
            answer = await stub.GetVerifierStatus(verifier_pb2.GetVerifierStatusRequest(), timeout=10)
            assert isinstance(answer, verifier_pb2.GetVerifierStatusResponse)
            return answer


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[tuple[Site, CosignLog]]:
    """A site and a log whose calendar began a moment ago, since the process has a clock of its own."""
    port = free_port()
    document: dict[str, Any] = {
        "period": "10 s",
        "tolerance": "60 s",
        "epoch": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "addresses": {"log": f"127.0.0.1:{port}"},
    }
    people = make_participants(**document)
    log = CosignLog(people, World(pins=pins_of(people), **document))
    await log.start(port)
    site = Site(tmp_path, people)
    yield site, log
    for process in site.processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
    await log.stop()


async def test_a_life_with_kill_9_in_it(scene: tuple[Site, CosignLog], eventually: Callable[..., Any]) -> None:
    """SPEC verifier-14, SPEC verifier-27, SPEC verifier-29: killed, it goes on, and publishes once."""
    site, log = scene
    log.world.put_entry(b"garbage")
    first = await site.start()
    port = await site.ready(first)
    stream = await log.accept()
    assert stream.hello.size == 0
    await stream.push(0, log.world.entries[:2])
    await stream.checkpoint(log.note(2))
    line = (await stream.answer()).cosignature
    policy = log.world.agreement.policy()
    assert set(check_checkpoint(log.note(2) + line, policy, require_quorum=False).cosigners) == {"norland"}
    await eventually(lambda: len(log.world.state.findings) == 1)
    now = await site.status(port)
    assert (now.size, now.connected, now.refusing, now.findings, now.void_entries) == (2, True, "", 1, 1)

    first.send_signal(signal.SIGKILL)
    await first.wait()
    second = await site.start()
    port = await site.ready(second)
    stream = await log.accept()
    assert stream.hello.size == 2
    await stream.push(2, log.world.entries[2:])
    await stream.checkpoint(log.note(3))
    assert (await stream.answer()).WhichOneof("item") == "cosignature"
    now = await site.status(port)
    assert (now.size, now.findings) == (3, 1)
    assert len(log.world.state.findings) == 1, "the finding is on the log once"

    status, said = await site.fails()
    assert (status, "another process uses this key" in said) == (5, True)
    second.send_signal(signal.SIGTERM)
    await asyncio.wait_for(second.wait(), 10)
    assert second.returncode == 0
    assert not (site.directory / "state" / "ready").exists()

    for name in ("verifier.db", "verifier.db-wal", "verifier.db-shm"):
        (site.directory / "state" / name).unlink(missing_ok=True)
    status, said = await site.fails()
    assert status == 5
    assert "this key has cosigned 3 entries from another store" in said
    assert "Traceback" not in said


async def test_a_second_process_under_another_key_is_refused_too(scene: tuple[Site, CosignLog]) -> None:
    """SPEC verifier-13: the state directory has a lock of its own."""
    site, _ = scene
    first = await site.start()
    await site.ready(first)
    (site.directory / "copy").mkdir()
    os.link(site.directory / "keys/cosign.key", site.directory / "copy/cosign.key")
    site.configure(cosign_key="copy/cosign.key")
    status, said = await site.fails()
    assert (status, "another verifier process holds" in said) == (5, True)


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"party": "nobody"}, 2, 'no party "nobody"'),
        ({"party": "sudland"}, 2, "statement_key: this is not the one that the agreement names"),
        ({"cosign_key": "keys/statement.key"}, 2, "cosign_key: this is not the one"),
        ({"tls_certificate": "bundle/certificates/log.pem"}, 2, "tls_certificate: this is not the one"),
        ({"tls_certificate": "verifier.toml"}, 2, "verifier.toml"),
        ({"tls_key": "keys/other.key"}, 2, "tls_key: this is not the one"),
        ({"surprise": "yes"}, 2, "surprise"),
        ({"bundle": "nowhere"}, 2, "agreement.md"),
        ({"listen": "192.0.2.1:1"}, 2, "cannot be listened on"),
        ({"cosign_key": "keys/missing.key"}, 5, "missing.key"),
        ({"cosign_key": "verifier.toml"}, 5, "verifier.toml"),
        ({"state": "verifier.toml"}, 5, "verifier.toml"),
    ],
)
async def test_mistakes_are_named_without_a_traceback(
    scene: tuple[Site, CosignLog], changes: dict[str, str], status: int, says: str
) -> None:
    """SPEC verifier-31: exit status 2 for the configuration, 5 for keys and state, and a sentence."""
    site, _ = scene
    create_key(site.directory / "keys/other.key")
    site.configure(**changes)
    code, said = await site.fails()
    assert code == status, said
    assert says in said
    assert said.count("\n") == 1
    assert "Traceback" not in said


async def test_log_that_is_not_there_yet_is_waited_for(scene: tuple[Site, CosignLog]) -> None:
    """SPEC verifier-17: and the status is served meanwhile."""
    site, log = scene
    port = log.port
    await log.stop()
    process = await site.start()
    answer = await site.status(await site.ready(process))
    assert (answer.connected, answer.size, answer.checkpoint) == (False, 0, b"")
    await log.start(port)
    assert (await log.accept()).hello.party == "norland"
