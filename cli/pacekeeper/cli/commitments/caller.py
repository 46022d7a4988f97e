"""Who acts: a role's connection to the log, and the key that signs for a party or a lab.

The connection is the role's own (its TLS key and certificate, the log's pinned one). The signature is the
participant's: the lab's key, which its configuration names, or the party's, which no running role has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from pacekeeper.cli.console import USAGE, Sentence
from pacekeeper.cli.doctor.subject import Subject, open_subject
from pacekeeper.client.bundle import Bundle, transport_pins
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.keyfiles import load_key, read_private
from pacekeeper.client.tls import LOG_URI, channel_credentials, check_certificate
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay.state import State

PARTICIPANT = ("party", "lab")
REPORTER = ("verifier", "lab")


@dataclass(frozen=True)
class Caller:
    """A role that may call the log, and the key and id of the participant that it speaks for."""

    bundle: Bundle
    credentials: grpc.ChannelCredentials
    key: SigningKey
    who: str

    @property
    def agreement(self) -> Agreement:
        return self.bundle.agreement


def open_caller(config: Path, key: Path | None, who: str | None, roles: tuple[str, ...]) -> Caller:
    """Load a lab's or a verifier's configuration, and the key that signs.

    SPEC cli-16: the key MUST be of the participant that the statement speaks for, by the agreement; found out before
    anything is sent. ConfigError and Refused(unsafe-state) say what is wrong.
    """
    subject = open_subject(config)
    if subject.role == "log":
        raise Sentence(f"{config} is a log's configuration: a lab or a verifier calls the log", USAGE)
    if subject.bundle is None:
        raise ConfigError(subject.bundle_error)
    path = key or _own_key(config, subject, roles)
    signing = load_key(path)
    return Caller(
        bundle=subject.bundle,
        credentials=_credentials(subject, subject.bundle),
        key=signing,
        who=_holder(path, signing, subject.agreement, who, roles),
    )


def _own_key(config: Path, subject: Subject, roles: tuple[str, ...]) -> Path:
    """The key that the role's configuration names, if that is one that may sign."""
    if subject.role in roles:
        return subject.keys["key" if subject.role == "lab" else "statement_key"]
    raise Sentence(f"{config} names no party's key: give it with --key", USAGE)


def _holder(path: Path, key: SigningKey, agreement: Agreement, who: str | None, roles: tuple[str, ...]) -> str:
    authority = State(agreement, 0).keyring.get(key.key_id)
    if authority is None:
        raise Refused(Code.UNSAFE_STATE, f"{path} is no key of this agreement")
    if authority.role not in roles:
        wanted = " or ".join(f"a {role}'s" for role in roles)
        raise Refused(
            Code.UNSAFE_STATE, f"{path} is the key of {authority.role} {authority.owner}; this takes {wanted}"
        )
    if who not in (None, authority.owner):
        raise Refused(Code.UNSAFE_STATE, f'{path} is the key of {authority.role} {authority.owner}, not of "{who}"')
    return authority.owner


def _credentials(subject: Subject, bundle: Bundle) -> grpc.ChannelCredentials:
    pin = transport_pins(subject.agreement).get(subject.uri)
    if pin is None:
        raise ConfigError(f'{subject.config_path}: the agreement has no {subject.role} "{subject.holder}"')
    try:
        certificate = check_certificate(subject.tls_certificate.read_bytes(), subject.uri, pin)
    except OSError as error:
        raise ConfigError(f"{subject.tls_certificate} cannot be read: {error.strerror}") from None
    except Refused as refused:
        raise ConfigError(f"{subject.tls_certificate}: {refused.message}") from None
    return channel_credentials(bundle.certificates[LOG_URI], read_private(subject.tls_key), certificate)
