"""Asking a running verifier on this machine how it stands."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import grpc

from pacekeeper.client.bundle import load_bundle
from pacekeeper.client.config import load_config, resolve
from pacekeeper.client.errors import ConfigError, Outage, TemporaryFailure
from pacekeeper.client.tls import CHANNEL_OPTIONS, channel_credentials, verifier_uri
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.text import printable
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.v1 import verifier_pb2, verifier_pb2_grpc
from pacekeeper.verifier.daemon import VerifierConfig

_DEADLINE_S = 5.0


def ask_verifier(config_path: Path) -> dict[str, object]:
    """Return a verifier's status as printable values. TemporaryFailure when it does not answer."""
    config = load_config(config_path, VerifierConfig)
    bundle = load_bundle(resolve(config_path, config.bundle))
    certificate = bundle.certificates.get(verifier_uri(config.party))
    if certificate is None and config.accession:
        certificate = _own_certificate(resolve(config_path, config.tls_certificate))
    if certificate is None:
        raise ConfigError(f'{config_path}: the agreement has no party "{config.party}"')
    address = _bound_address(resolve(config_path, config.state) / "ready", config.listen)
    with grpc.secure_channel(address, channel_credentials(certificate), options=CHANNEL_OPTIONS) as channel:
        stub = verifier_pb2_grpc.NationalVerifierStub(channel)
        try:
            status = stub.GetVerifierStatus(verifier_pb2.GetVerifierStatusRequest(), timeout=_DEADLINE_S)
        except grpc.RpcError:
            raise TemporaryFailure(Outage.UNREACHABLE, f"the verifier at {address} does not answer") from None
    return {
        "party": printable(status.party),
        "origin": printable(status.origin),
        "entries": status.size,
        "cosigned": _describe(status.checkpoint),
        "connected": status.connected,
        "refusing": printable(status.refusing) or "no",
        "violations": status.violations,
        "void entries": status.void_entries,
        "findings": status.findings,
    }


def _own_certificate(path: Path) -> bytes:
    """A newcomer's certificate, which is in no bundle."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _describe(note: bytes) -> str:
    if not note:
        return "nothing yet"
    try:
        checkpoint = parse_checkpoint(parse_note(note).text)
    except Refused as refusal:
        return f"unreadable ({refusal.code})"
    return f"{checkpoint.size} entries, root {base64.b64encode(checkpoint.root).decode()}"


def _bound_address(ready: Path, listen: str) -> str:
    """The address that the process said it bound, since a configuration may ask for any free port."""
    host, _, port = listen.rpartition(":")
    if port == "0":
        try:
            port = str(json.loads(ready.read_text())["port"])
        except (OSError, ValueError, KeyError):
            raise TemporaryFailure(Outage.UNREACHABLE, f"{ready} is absent; the verifier does not run") from None
    return f"{host}:{port}"
