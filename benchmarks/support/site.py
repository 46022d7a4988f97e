"""Everyone's machine in one directory: an agreement with real TLS identities, a log and its verifiers as processes.

Example:
    site = Site(work)
    with site.log(items=[first]) as log, site.verifiers(): cpu_s(log.pid)
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.support.children import Launch, server, servers
from benchmarks.support.founding import LABS, PARTIES, Founding, found, write_key
from benchmarks.support.made_logs import write_store
from benchmarks.support.script import Item
from pacekeeper.client.bundle import write_bundle
from pacekeeper.client.config import write_config
from pacekeeper.client.keyfiles import write_private, write_public
from pacekeeper.client.submit import LogClient
from pacekeeper.client.tls import LOG_URI, channel_credentials, lab_uri, make_certificate, spki_pin, verifier_uri

_TLS: Final = 'tls_key = "keys/tls.pem"\ntls_certificate = "keys/tls.crt.pem"\n'


class Site:
    """An agreement of this run alone, and a directory for each role's files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        uris = [LOG_URI, *map(verifier_uri, PARTIES), *map(lab_uri, LABS)]
        self._identities = {uri: make_certificate(uri) for uri in uris}
        pins = {uri.removeprefix("pacekeeper:"): spki_pin(pem) for uri, (_, pem) in self._identities.items()}
        holders = ["log", *(f"verifier/{party}" for party in PARTIES)]
        self._addresses = {holder: f"127.0.0.1:{port}" for holder, port in zip(holders, _free_ports(5), strict=True)}
        self.founding: Founding = found(pins, self._addresses)
        certificates = {uri: pem for uri, (_, pem) in self._identities.items()}
        write_bundle(directory / "bundle", self.founding.agreement.document, self.founding.entry0, certificates)
        self._turn = 0

    def next_turn(self) -> None:
        """Begin again with empty state directories: the roles that are started from now on know nothing."""
        self._turn += 1

    @contextlib.contextmanager
    def log(self, items: Iterable[Item], *, patience_s: float = 60) -> Iterator[subprocess.Popen[bytes]]:
        """A log that has published these entries and then was away until now."""
        home = self._home("log")
        state = home / "state"
        state.mkdir(exist_ok=True)
        write_store(state / "log.sqlite", self.founding, items)
        self._write_identity(home, LOG_URI, {"checkpoint": "log/checkpoint", "statement": "log/statement"})
        config = home / "log.toml"
        write_config(
            config,
            f'bundle = "{self.directory / "bundle"}"\nstate = "state"\nlisten = "{self._addresses["log"]}"\n'
            'http_listen = "127.0.0.1:0"\ncheckpoint_key = "keys/checkpoint.key"\n'
            'statement_key = "keys/statement.key"\n' + _TLS,
        )
        ready = home / "state" / "ready"
        with server("log", config, ready=ready, output=home / "output", patience_s=patience_s) as process:
            yield process

    @contextlib.contextmanager
    def verifiers(self) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
        """All parties' verifiers, new ones, following the log."""
        with servers([self._verifier(party) for party in PARTIES]) as processes:
            yield dict(zip(PARTIES, processes, strict=True))

    def client(self, lab: str = LABS[0]) -> LogClient:
        """A connection to the log with a lab's identity."""
        credentials = channel_credentials(self._identities[LOG_URI][1], *self._identities[lab_uri(lab)])
        return LogClient(self._addresses["log"], credentials, self.founding.agreement)

    def _verifier(self, party: str) -> Launch:
        home = self._home(f"verifier-{party}")
        keys = {"statement": f"verifier-statement/{party}", "cosign": f"verifier-cosign/{party}"}
        self._write_identity(home, verifier_uri(party), keys)
        config = home / "verifier.toml"
        write_config(
            config,
            f'bundle = "{self.directory / "bundle"}"\nparty = "{party}"\nstate = "state"\n'
            f'listen = "{self._addresses[f"verifier/{party}"]}"\nstatement_key = "keys/statement.key"\n'
            'cosign_key = "keys/cosign.key"\n' + _TLS,
        )
        return Launch("verifier", (config,), home / "state" / "ready", home / "output")

    def _home(self, name: str) -> Path:
        home = self.directory / f"{name}-{self._turn}"
        home.mkdir()
        return home

    def _write_identity(self, home: Path, uri: str, labels: dict[str, str]) -> None:
        for name, label in labels.items():
            write_key(home / "keys" / f"{name}.key", label)
        key_pem, certificate_pem = self._identities[uri]
        write_private(home / "keys" / "tls.pem", key_pem)
        write_public(home / "keys" / "tls.crt.pem", certificate_pem)


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses; the agreement must name them before anyone listens."""
    with contextlib.ExitStack() as stack:
        found_ones = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in found_ones]
