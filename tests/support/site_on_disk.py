"""A whole site on loopback: one log, four verifiers and any labs, each a real `pacekeeper` process of its own.

    site = found_site(tmp_path, {"borealis": "norland"}, BRISK_TERMS)
    with Processes(site) as running:
        running.start_role("log", *site.verifiers)
        running.wait_ready("log", *site.verifiers)
        async with site.client("borealis") as log: ...

The agreement, keys and configurations are made by the same code as `pacekeeper keygen`, `agreement` and `init`. Ports
lie below the range from which the system takes the ports of outgoing connections, so that a process that is killed
finds its own port free again.
"""

from __future__ import annotations

import json
import math
import os
import random
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from pacekeeper.cli.configs import LAB, LOG, VERIFIER
from pacekeeper.cli.demo.scene import PARTIES
from pacekeeper.cli.founding import assemble, sign_agreement, write_agreement
from pacekeeper.cli.identities import Identity, make_identity
from pacekeeper.client.bundle import Bundle
from pacekeeper.client.config import write_config
from pacekeeper.client.keyfiles import load_key
from pacekeeper.client.submit import LogClient
from pacekeeper.client.tls import LOG_URI, channel_credentials
from pacekeeper.log.server import initialise
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.documents.model import Cap
from pacekeeper.protocol.envelope import encode
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import statements_pb2 as pb

ORIGIN: Final = "pacekeeper.example/system-test"
_PORTS: Final = range(20_000, 32_000)

# Periods that pass while one watches. Fill-in is longer than any test: an account may come late, never too late.
BRISK_TERMS: Final[Mapping[str, str]] = {
    "period": "3 s",
    "due": "8 s",
    "fill_in": "6 h",
    "tick": "1 s",
    "tolerance": "3 s",
    "unwitnessed": "1 min",
    "chip_time_margin": "100 %",
}
# Nothing falls due and no heartbeat comes while a test runs: what is on the log is what was submitted. The first period
# is over soon all the same, so that labs can say something about it.
STILL_TERMS: Final[Mapping[str, str]] = {
    "period": "1 s",
    "due": "6 h",
    "fill_in": "90 d",
    "tick": "1 h",
    "tolerance": "30 s",
    "unwitnessed": "2 h",
    "chip_time_margin": "100 %",
}


@dataclass(frozen=True)
class Site:
    """Where everything lies. Processes are named "log", "verifier-PARTY" and "lab-LAB"."""

    root: Path
    bundle: Bundle
    labs: tuple[str, ...]

    @property
    def agreement(self) -> Agreement:
        return self.bundle.agreement

    @property
    def url(self) -> str:
        return self.agreement.log.url

    @property
    def verifiers(self) -> tuple[str, ...]:
        return tuple(f"verifier-{party}" for party in PARTIES)

    @property
    def public(self) -> Path:
        """The static log on disk."""
        return self.state("log") / "public"

    def home(self, name: str) -> Path:
        """The directory of a process."""
        return self.root.joinpath(*name.split("-", 1))

    def state(self, name: str) -> Path:
        """The state directory of a process."""
        return self.home(name) / "state"

    def command(self, name: str) -> list[str]:
        """The `pacekeeper` command that is this process."""
        role = name.partition("-")[0]
        return [role, "serve" if role == "log" else "run", str(self.home(name) / f"{role}.toml")]

    def credentials(self, name: str) -> grpc.ChannelCredentials:
        """What a participant calls the log with."""
        keys = self.home(name) / "keys"
        server = self.bundle.certificates[LOG_URI]
        return channel_credentials(server, (keys / "tls.pem").read_bytes(), (keys / "tls.crt.pem").read_bytes())

    def client(self, lab: str) -> LogClient:
        """A client with a lab's transport identity."""
        return LogClient(self.agreement.log.address, self.credentials(f"lab-{lab}"), self.agreement)

    def lab_key(self, lab: str) -> SigningKey:
        return load_key(self.home(f"lab-{lab}") / "keys/lab.key")

    def declaration(self, lab: str, run: str, key: SigningKey | None = None) -> bytes:
        """A run declaration, sealed: the simplest statement that a lab can submit. key: not to read it each time."""
        statement = pb.RunDeclaration(
            agreement=self.agreement.fingerprint,
            lab=lab,
            run=run,
            initial_state=pb.INITIAL_STATE_FRESH,
            initial_digest=run.encode().ljust(32, b"\x01")[:32],
        )
        return encode(seal(statement, [key or self.lab_key(lab)]))


def found_site(root: Path, labs: Mapping[str, str], terms: Mapping[str, str]) -> Site:
    """Make all keys, found the agreement (labs: id -> party), write all configurations, and sequence entry 0."""
    ports = iter(quiet_ports(2 + len(PARTIES)))
    address, http_address = f"127.0.0.1:{next(ports)}", f"127.0.0.1:{next(ports)}"
    listen = {party: f"127.0.0.1:{next(ports)}" for party in PARTIES}
    people = [make_identity("log", ORIGIN, root / "log", name="log", address=address, url=f"http://{http_address}")]
    for party, name in PARTIES.items():
        people.append(make_identity("party", party, root / "party" / party, name=name))
        home, cosigner = root / "verifier" / party, f"{party}.example/verifier"
        people.append(make_identity("verifier", party, home, name=cosigner, address=listen[party]))
    people.extend(make_identity("lab", lab, root / "lab" / lab, name=lab, party=labs[lab]) for lab in labs)
    bundle = _found(root, people, terms)
    write_config(
        root / "log/log.toml",
        LOG.format(bundle="../bundle", keys="keys", listen=address, http_listen=http_address),
    )
    for party in PARTIES:
        text = VERIFIER.format(party=party, bundle="../../bundle", keys="keys", listen=listen[party])
        write_config(root / "verifier" / party / "verifier.toml", text)
    for lab in labs:
        # A peak far above what the test jobs claim, and a wide margin: count and time never contradict each other.
        text = LAB.format(
            lab=lab,
            bundle="../../bundle",
            keys="keys",
            model="test-chip",
            count=64,
            peak="1e15 FLOP/s",
            margin="100 %",
        )
        write_config(root / "lab" / lab / "lab.toml", text)
    initialise(root / "log/log.toml")
    return Site(root, bundle, tuple(labs))


def _found(root: Path, people: list[Identity], terms: Mapping[str, str]) -> Bundle:
    epoch_ms = math.floor(time.time()) * 1000
    terms = {"title": "System test", "epoch": format_time(epoch_ms), "quorum": "3", "liars": "1", **terms}
    document = write_agreement(people, [Cap("frontier", "run", 10**15, 0, ())], terms)
    keys = [load_key(root / "party" / party / "keys/party.key") for party in PARTIES]
    return assemble(document, [sign_agreement(document, key) for key in keys], people, root / "bundle")


def quiet_ports(count: int) -> list[int]:
    """Ports that are free now and that the system gives to nobody who does not ask for them."""
    found: dict[int, socket.socket] = {}
    try:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            if len(found) == count:
                break
            one = socket.socket()
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                one.close()
            else:
                found[port] = one
        return list(found)
    finally:
        for one in found.values():
            one.close()


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which a child process imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **(extra or {})}


def read_ready(state: Path) -> dict[str, object]:
    """What a process said when it was ready last; empty if it never was."""
    try:
        facts = json.loads((state / "ready").read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def names_of(site: Site, labs: Iterable[str] | None = None) -> list[str]:
    """All processes of a site, in the order in which they are started; labs: only those with a daemon."""
    return ["log", *site.verifiers, *(f"lab-{lab}" for lab in (site.labs if labs is None else labs))]
