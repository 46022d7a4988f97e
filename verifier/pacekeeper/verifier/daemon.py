"""The verifier's process: opens what it must not lose, replays it, then follows, answers, compares and publishes.

Nothing is signed before the stored entries have been replayed and hashed to the root that was cosigned last. Whatever
makes the own state doubtful ends the process with exit status 5, and a mistake in the configuration with 2; both say in
one sentence which file it is about. SIGTERM and SIGINT end it with 0.

Configuration (TOML, paths relative to the file):
    bundle = "bundle"        party = "norland"         state = "state"              listen = "0.0.0.0:7811"
    statement_key = "keys/statement.key"               next_statement_key = "keys/statement.next.key"
    cosign_key = "keys/cosign.key"
    tls_key = "keys/tls.pem"                           tls_certificate = "keys/tls.crt.pem"
    accession = "accession.md"       only for a party that is no founder: the commitment's document by which it joins
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pacekeeper.client.bundle import Bundle, load_bundle
from pacekeeper.client.collector import settle
from pacekeeper.client.config import Config, load_config, resolve
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.fetch import open_source
from pacekeeper.client.keyfiles import load_key, read_private
from pacekeeper.client.newcomers import with_newcomers
from pacekeeper.client.submit import LogClient
from pacekeeper.client.successors import open_key_files
from pacekeeper.client.tls import (
    CHANNEL_OPTIONS,
    LOG_URI,
    channel_credentials,
    server_credentials,
    spki_pin,
)
from pacekeeper.protocol.documents.agreement import Agreement, Party
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay.key_life import RULES_WITH_SUCCESSORS
from pacekeeper.protocol.text import printable
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.verifier.findings import Findings
from pacekeeper.verifier.follower import Follower
from pacekeeper.verifier.gossip import Gossip
from pacekeeper.verifier.joining import Joining
from pacekeeper.verifier.ledger import Ledger, cosigner
from pacekeeper.verifier.marker import KeyMarker
from pacekeeper.verifier.publish import Publisher
from pacekeeper.verifier.rpc import StatusService, bind_server
from pacekeeper.verifier.store import STORE_FILE, Store
from pacekeeper.verifier.voice import StatementKeys

EXIT_CONFIG: Final = 2
EXIT_UNSAFE: Final = 5
_STOP_S: Final = 1.0  # for calls in progress when the process is told to stop
Ready = Callable[[dict[str, object]], None]
_log = structlog.get_logger()


class VerifierConfig(Config):
    """verifier.toml."""

    bundle: str
    party: str
    state: str
    listen: str
    statement_key: str
    cosign_key: str
    tls_key: str
    tls_certificate: str
    next_statement_key: str = ""
    accession: str = ""


@dataclass(frozen=True)
class Identity:
    """Who this verifier is, loaded and compared with the agreement."""

    party: Party
    bundle: Bundle
    statement_keys: StatementKeys
    cosign_key: SigningKey
    tls_key: bytes
    tls_certificate: bytes

    @property
    def is_founder(self) -> bool:
        return any(party.id == self.party.id for party in self.bundle.agreement.parties)


def run(config_path: Path, *, ready: Ready | None = None) -> None:
    """Run until told to stop; ready gets the ready file's facts. SystemExit(2 or 5) after a sentence on stderr."""
    try:
        asyncio.run(serve(config_path, ready=ready))
    except ConfigError as error:
        _leave(EXIT_CONFIG, str(error))
    except Refused as refused:
        _leave(EXIT_UNSAFE, refused.message)


def _leave(status: int, sentence: str) -> None:
    sys.stderr.write(f"pacekeeper verifier: {printable(sentence)}\n")
    raise SystemExit(status)


async def serve(config_path: Path, *, ready: Ready | None = None) -> None:
    """Run until SIGTERM, SIGINT or cancellation. Raises ConfigError, or Refused when the own state is unsafe."""
    config = load_config(config_path, VerifierConfig)
    identity = load_identity(config_path, config)
    with opened(config_path, config, identity) as (store, marker):
        await _serve(config, identity, store, marker, resolve(config_path, config.state), ready)


def load_identity(config_path: Path, config: VerifierConfig) -> Identity:
    """Load keys and bundle. ConfigError where one is not the agreement's, Refused(unsafe-state) for a bad key file."""
    bundle = load_bundle(resolve(config_path, config.bundle))
    accession = resolve(config_path, config.accession) if config.accession else None
    parties = with_newcomers(bundle.agreement, accession).parties
    party = next((party for party in parties if party.id == config.party), None)
    if party is None:
        raise ConfigError(f'{config_path}: party: the agreement has no party "{config.party}"')
    identity = Identity(
        party=party,
        bundle=bundle,
        statement_keys=_statement_keys(config_path, config, bundle.agreement, party),
        cosign_key=load_key(resolve(config_path, config.cosign_key)),
        tls_key=read_private(resolve(config_path, config.tls_key)),
        tls_certificate=_read_certificate(resolve(config_path, config.tls_certificate)),
    )
    # SPEC verifier-31: a verifier MUST NOT start with a key or certificate other than the agreement's for its party.
    terms = party.verifier
    for name, matches in (
        ("cosign_key", identity.cosign_key.public == terms.cosign_key.public_key),
        ("tls_key", _key_pin(identity.tls_key) == terms.tls_spki),
        ("tls_certificate", spki_pin(identity.tls_certificate) == terms.tls_spki),
    ):
        if not matches:
            raise ConfigError(f"{config_path}: {name}: this is not the one that the agreement names for {party.id}")
    return identity


def _statement_keys(path: Path, config: VerifierConfig, agreement: Agreement, party: Party) -> StatementKeys:
    """Load the keys that may make statements. Which of them does, the log says, where keys can follow each other.

    Before there is a store, it can only be the one that the agreement names.
    """
    paths = [resolve(path, config.statement_key)]
    started = (resolve(path, config.state) / STORE_FILE).exists()
    if agreement.rules_version >= RULES_WITH_SUCCESSORS and config.next_statement_key:
        paths.append(resolve(path, config.next_statement_key))
    statement_keys = StatementKeys(party.id, open_key_files(paths), party.verifier.statement_key)
    if not statement_keys.founding_at_hand and not (started and agreement.rules_version >= RULES_WITH_SUCCESSORS):
        raise ConfigError(f"{path}: statement_key: this is not the one that the agreement names for {party.id}")
    return statement_keys


def _key_pin(key_pem: bytes) -> bytes:
    try:
        public = load_pem_private_key(key_pem, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return b""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _read_certificate(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        spki_pin(data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except Refused as refused:
        raise ConfigError(f"{path}: {refused.message}") from None
    return data


@contextlib.contextmanager
def opened(config_path: Path, config: VerifierConfig, identity: Identity) -> Iterator[tuple[Store, KeyMarker]]:
    """Open store and marker, both locked, and close them at the end."""
    agreement = identity.bundle.agreement
    marker = KeyMarker(resolve(config_path, config.cosign_key))
    try:
        directory = resolve(config_path, config.state)
        with contextlib.closing(Store(directory, origin=agreement.origin, fingerprint=agreement.fingerprint)) as store:
            yield store, marker
    finally:
        marker.close()


async def _serve(
    config: VerifierConfig,
    identity: Identity,
    store: Store,
    marker: KeyMarker,
    directory: Path,
    ready: Ready | None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the main thread may; elsewhere the caller stops this task by cancelling it.
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, stop.set)
    party, bundle = identity.party, identity.bundle
    agreement = bundle.agreement
    certificate = (identity.tls_key, identity.tls_certificate)
    credentials = channel_credentials(bundle.certificates[LOG_URI], *certificate)

    def connect() -> grpc.aio.Channel:
        return grpc.aio.secure_channel(agreement.log.address, credentials, options=CHANNEL_OPTIONS)

    def policy_at(size: int) -> CosignaturePolicy:
        return ledger.policy_at(size)

    async with LogClient(agreement.log.address, credentials, agreement, policy_at=policy_at) as client:
        voice = identity.statement_keys
        publisher = Publisher(store, client, lambda envelope: voice.renewed(envelope, ledger.state))
        findings = Findings(store, party.id, voice, publisher.wake)
        sign = cosigner(party.verifier.name, identity.cosign_key)
        ledger = Ledger(store, marker, agreement, sign, findings.observe)
        for _ in ledger.replay_stored():
            if stop.is_set():
                return
            await asyncio.sleep(0)
        findings.conclude(ledger)
        settle()
        follower = Follower(connect, party.id, ledger, findings, clock_ms)

        def others() -> list[Party]:
            return [other for other in ledger.present.parties if other.id != party.id]

        gossip = Gossip(others, bundle.certificates.values(), ledger, findings)
        service = StatusService(party.id, ledger, follower, store, clock_ms)
        server, port = _bind(service, config.listen, server_credentials(*certificate, None))
        await server.start()
        facts: dict[str, object] = {"pid": os.getpid(), "listen": f"{config.listen.rpartition(':')[0]}:{port}"}
        _announce(directory / "ready", facts)
        _log.info("verifier ready", party=party.id, size=ledger.size, **facts)
        if ready is not None:
            ready(facts)
        try:
            await _until(stop, _follow(identity, ledger, follower), publisher.run(), gossip.run())
        finally:
            await server.stop(_STOP_S)
            (directory / "ready").unlink(missing_ok=True)
        ledger.flush()


async def _follow(identity: Identity, ledger: Ledger, follower: Follower) -> None:
    """Follow the log: a newcomer its public files at first, and its stream from the accession on."""
    if not identity.is_founder and not ledger.witness.size:
        source = open_source(ledger.agreement.log.url)
        try:
            await Joining(source, identity.party.id, ledger, clock_ms).run()
        finally:
            source.close()
        _log.info("the party has acceded", party=identity.party.id, size=ledger.size)
    await follower.run()


def clock_ms() -> int:
    """Return this machine's time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _bind(service: StatusService, listen: str, credentials: grpc.ServerCredentials) -> tuple[grpc.aio.Server, int]:
    try:
        return bind_server(service, listen, credentials)
    except RuntimeError:
        raise ConfigError(f'listen: "{listen}" cannot be listened on; is it in use, or not this machine\'s?') from None


def _announce(path: Path, facts: dict[str, object]) -> None:
    """Write the ready file, whole or not at all, for whoever started this process."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    temporary.replace(path)


async def _until(stop: asyncio.Event, *jobs: Coroutine[Any, Any, None]) -> None:
    """Run the jobs, which never end, until stop is set; the first one that fails ends all and its error is raised."""
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(job) for job in (*jobs, stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
