"""A log's site on disk, as init would make it: bundle, keys, configuration; and the log as a real process of its own.

Example:
    site = LogSite(tmp_path, make_participants())
    with site.process() as log:
        async with site.client(lab_uri("borealis"), log) as client: ...
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from participants import Participants

from pacekeeper.client.submit import LogClient
from pacekeeper.client.tls import LOG_URI
from pacekeeper.log.server import initialise
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol.envelope import encode, parse_entry
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import statements_pb2 as pb

_PROGRAM = """
import sys
from pathlib import Path
from pacekeeper.log.server import serve
from pacekeeper.protocol.errors import Refused
try:
    serve(Path(sys.argv[1]))
except Refused as refused:
    print(refused.message, file=sys.stderr)
    sys.exit(5)
"""


class NotServing(AssertionError):
    """The log did not come up: its exit status, and what it said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


@dataclass
class LogProcess:
    """A running log: its process and where it listens."""

    process: subprocess.Popen[bytes]
    address: str
    http_address: str

    def kill(self) -> None:
        """End it as a power failure would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class LogSite:
    """The directory of a log, initialised."""

    def __init__(self, directory: Path, people: Participants) -> None:
        self.directory = directory
        self.people = people
        directory.mkdir(parents=True, exist_ok=True)
        people.write_bundle(directory / "bundle")
        key_pem, certificate_pem = people.identities[LOG_URI]
        keys = directory / "keys"
        keys.mkdir()
        _private(keys / "checkpoint.key", _seed_file("/log-checkpoint/"))
        _private(keys / "statement.key", _seed_file("/log-statement/"))
        _private(keys / "tls.pem", key_pem)
        (keys / "tls.crt.pem").write_bytes(certificate_pem)
        self.config = directory / "log.toml"
        self.config.write_text(
            'bundle = "bundle"\nstate = "state"\nlisten = "127.0.0.1:0"\nhttp_listen = "127.0.0.1:0"\n'
            'checkpoint_key = "keys/checkpoint.key"\nstatement_key = "keys/statement.key"\n'
            'tls_key = "keys/tls.pem"\ntls_certificate = "keys/tls.crt.pem"\n'
        )
        self.state = directory / "state"
        self.initialised = False

    @classmethod
    def over(cls, directory: Path, people: Participants) -> LogSite:
        """A site over a directory that has a log already."""
        site = cls.__new__(cls)
        site.directory, site.people, site.config = directory, people, directory / "log.toml"
        site.state, site.initialised = directory / "state", True
        return site

    def initialise(self) -> None:
        """Sequence entry 0."""
        initialise(self.config)
        self.initialised = True

    def start(self, port: int = 0) -> LogProcess:
        """Start the log and wait until it serves; port pins the gRPC port of an earlier process."""
        if not self.initialised:
            self.initialise()
        text = self.config.read_text()
        self.config.write_text(text.replace(text.split('listen = "')[1].split('"')[0], f"127.0.0.1:{port}", 1))
        ready = self.state / "ready"
        ready.unlink(missing_ok=True)
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
        with (self.directory / "log.out").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(self.config)], env=environment, stdout=out, stderr=out
            )
        deadline = time.monotonic() + 60
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise NotServing(process.wait(), (self.directory / "log.out").read_text()[-4000:])
            time.sleep(0.01)
        facts = json.loads(ready.read_text())
        return LogProcess(process, facts["listen"], facts["http_listen"])

    @contextlib.contextmanager
    def process(self) -> Iterator[LogProcess]:
        """A running log; stopped cleanly at the end."""
        log = self.start()
        try:
            yield log
        finally:
            if log.process.poll() is None:
                log.process.terminate()
            assert log.process.wait(30) in {0, -signal.SIGKILL}, (self.directory / "log.out").read_text()[-4000:]

    def client(self, uri: str, log: LogProcess) -> LogClient:
        """A client with a participant's identity."""
        return LogClient(log.address, self.people.credentials_of(uri), self.people.agreement)

    def declaration(self, lab: str, run: str) -> bytes:
        """A run declaration, sealed: the simplest statement that a lab can submit."""
        statement = pb.RunDeclaration(
            agreement=self.people.agreement.fingerprint,
            lab=lab,
            run=run,
            initial_state=pb.INITIAL_STATE_FRESH,
            initial_digest=run.encode().ljust(32, b"\x01")[:32],
        )
        return encode(seal(statement, [self.people.keys.lab(lab)]))

    def gap(self, lab: str, note: str) -> bytes:
        """A lab's first chain statement, sealed: a gap over the period in which the log was founded."""
        store = SqliteStore(self.state / "log.sqlite", read_only=True)
        founded_ms = parse_entry(store.read(0, 1, 1)[0]).sequenced_at_ms
        store.close()
        period = self.people.agreement.period_of(founded_ms)
        statement = pb.Gap(
            agreement=self.people.agreement.fingerprint,
            lab=lab,
            link=pb.Link(sequence=1),
            first_period=period,
            last_period=period,
            reason=pb.GAP_REASON_LATE,
            note=note,
        )
        return encode(seal(statement, [self.people.keys.lab(lab)]))


def _seed_file(label: str) -> bytes:
    seed = hashlib.sha256(label.encode()).digest()
    return b"pacekeeper-ed25519-seed-v1\n" + base64.b64encode(seed) + b"\n"


def _private(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)
