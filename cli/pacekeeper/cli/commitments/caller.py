"""Who acts: a role's connection to the log, and the key that signs for a party or a lab.

The connection is the role's own (its TLS key and certificate, the log's pinned one). The signature is the
participant's: the lab's key, which its configuration names, or the party's, which no running role has.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from pacekeeper.protocol.replay.key_life import RULES_WITH_SUCCESSORS
from pacekeeper.protocol.replay.participants import Authority
from pacekeeper.protocol.replay.state import State

PARTICIPANT = ("party", "lab")
REPORTER = ("verifier", "lab")


@dataclass(frozen=True)
class Connection:
    """A role that may call the log: its bundle, and its transport identity."""

    bundle: Bundle
    credentials: grpc.ChannelCredentials

    @property
    def agreement(self) -> Agreement:
        return self.bundle.agreement


@dataclass(frozen=True)
class Caller(Connection):
    """A connection, and the key files of the participant that it speaks for: of several keys the one in force signs.

    keys: by their files. roles: whose key it may be. who: the participant that it must be of, if that was said.
    """

    keys: Mapping[Path, SigningKey]
    roles: tuple[str, ...]
    who: str | None

    def signer(self, state: State) -> tuple[SigningKey, str]:
        """Return the key that is in force at the log's head, and whose it is.

        SPEC cli-16: the key MUST be of the participant that the statement speaks for, by the log; otherwise nothing is
        signed (Refused(unsafe-state)).
        """
        for path, key in self.keys.items():
            authority = state.keyring.get(key.key_id)
            if authority is not None:
                _check_authority(path, authority, self.roles, self.who)
                return key, authority.owner
        path, key = next(iter(self.keys.items()))
        retired = state.retired.get(key.key_id)
        if retired is None:
            raise Refused(Code.UNSAFE_STATE, f"{path} is no key of this agreement")
        role, owner, _ = retired.authority
        raise Refused(
            Code.UNSAFE_STATE,
            f"{path} is key {retired.epoch} of {role} {owner}, which entry {retired.index} retired",
        )


def open_caller(config: Path, key: Path | None, who: str | None, roles: tuple[str, ...]) -> Caller:
    """Load a lab's or a verifier's configuration, and the key that signs.

    What no log can make good is found out here. ConfigError and Refused(unsafe-state) say what is wrong.
    """
    subject = open_subject(config)
    connection = connect(subject)
    paths = [key] if key else _own_keys(config, subject, roles)
    keys = {path: load_key(path) for path in paths if path.exists()} or {paths[0]: load_key(paths[0])}
    for path, signing in keys.items():
        _check_founding(path, signing, subject.agreement, who, roles)
    return Caller(connection.bundle, connection.credentials, keys, roles, who)


def connect(subject: Subject) -> Connection:
    """Open a role's connection to the log. ConfigError, Sentence and Refused(unsafe-state) say what is wrong."""
    if subject.role == "log":
        message = f"{subject.config_path} is a log's configuration: a lab or a verifier calls the log"
        raise Sentence(message, USAGE)
    if subject.bundle is None:
        raise ConfigError(subject.bundle_error)
    return Connection(subject.bundle, _credentials(subject, subject.bundle))


def _own_keys(config: Path, subject: Subject, roles: tuple[str, ...]) -> list[Path]:
    """The key that the role's configuration names and that may sign, and the one that may have followed it."""
    if subject.role in roles:
        name = "key" if subject.role == "lab" else "statement_key"
        return [path for path in (subject.keys[name], subject.next_keys.get(name)) if path is not None]
    raise Sentence(f"{config} names no party's key: give it with --key", USAGE)


def _check_founding(path: Path, key: SigningKey, agreement: Agreement, who: str | None, roles: tuple[str, ...]) -> None:
    """Refuse what the agreement alone shows to be wrong. No key ever changes hands."""
    founding = State(agreement, 0)
    authority = founding.keyring.get(key.key_id)
    if authority is not None:
        _check_authority(path, authority, roles, who)
    elif agreement.rules_version < RULES_WITH_SUCCESSORS or key.public in founding.members.keys:
        raise Refused(Code.UNSAFE_STATE, f"{path} is no key of this agreement")


def _check_authority(path: Path, authority: Authority, roles: tuple[str, ...], who: str | None) -> None:
    if authority.role not in roles:
        wanted = " or ".join(f"a {role}'s" for role in roles)
        raise Refused(
            Code.UNSAFE_STATE, f"{path} is the key of {authority.role} {authority.owner}; this takes {wanted}"
        )
    if who not in (None, authority.owner):
        raise Refused(Code.UNSAFE_STATE, f'{path} is the key of {authority.role} {authority.owner}, not of "{who}"')


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
