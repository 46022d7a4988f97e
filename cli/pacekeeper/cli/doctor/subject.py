"""The role that a configuration file is of, and everything that it names, read without starting anything.

A role is known by a key that only its configuration has. The file is read as strictly as the role itself reads it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pacekeeper.client.bundle import Bundle, load_bundle
from pacekeeper.client.config import load_config, resolve
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.newcomers import with_newcomers
from pacekeeper.client.tls import LOG_URI, lab_uri, verifier_uri
from pacekeeper.log.settings import LogConfig
from pacekeeper.node.config import LabConfig
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.verifier.daemon import VerifierConfig

_MARKS: Final = {"checkpoint_key": "log", "cosign_key": "verifier", "pools": "lab", "lab": "lab", "party": "verifier"}


@dataclass(frozen=True)
class Subject:
    """A role to look at. keys: what each signing key is for -> its file; next_keys: the same, for the file of the
    one that follows it. listen: what each address is for -> host:port.

    bundle is None, and why in bundle_error, when it cannot be loaded: what needs no agreement is still looked at.
    """

    role: str
    holder: str
    uri: str
    config_path: Path
    state: Path
    keys: Mapping[str, Path]
    tls_key: Path
    tls_certificate: Path
    listen: Mapping[str, str]
    bundle: Bundle | None
    bundle_error: str = ""
    lab: LabConfig | None = field(default=None, repr=False)
    next_keys: Mapping[str, Path] = field(default_factory=dict)
    accession: Path | None = None

    @property
    def agreement(self) -> Agreement:
        """The bundle's agreement, and what a newcomer's accession adds to it. ValueError if there is no bundle."""
        if self.bundle is None:
            raise ValueError("there is no bundle")
        return with_newcomers(self.bundle.agreement, self.accession)

    @property
    def ready(self) -> Path:
        """Where the running role says what it bound."""
        return self.state / "ready"

    def public_keys(self, agreement: Agreement) -> dict[str, bytes]:
        """The public keys that the agreement names for this role; empty if it does not know it."""
        if self.role == "log":
            return {"checkpoint_key": agreement.log.key.public_key, "statement_key": agreement.log.statement_key}
        if self.role == "verifier":
            for party in agreement.parties:
                if party.id == self.holder:
                    terms = party.verifier
                    return {"statement_key": terms.statement_key, "cosign_key": terms.cosign_key.public_key}
            return {}
        key = next((lab.key for lab in agreement.labs if lab.id == self.holder), None)
        return {} if key is None else {"key": key}


def open_subject(path: Path) -> Subject:
    """Recognise the role of a configuration and resolve what it names. ConfigError when it is none, or is wrong."""
    role = _recognise(path)
    if role == "log":
        return _log(path)
    return _verifier(path) if role == "verifier" else _lab(path)


def _recognise(path: Path) -> str:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    for key, role in _MARKS.items():
        if key in found:
            return role
    raise ConfigError(f"{path} is no configuration of a log, a verifier or a lab")


def _log(path: Path) -> Subject:
    config = load_config(path, LogConfig)
    bundle, error = _bundle(path, config.bundle)
    return Subject(
        role="log",
        holder="log",
        uri=LOG_URI,
        config_path=path,
        state=resolve(path, config.state),
        keys={
            "checkpoint_key": resolve(path, config.checkpoint_key),
            "statement_key": resolve(path, config.statement_key),
        },
        next_keys=_next_keys(path, "statement_key", config.next_statement_key),
        tls_key=resolve(path, config.tls_key),
        tls_certificate=resolve(path, config.tls_certificate),
        listen={"listen": config.listen, "http_listen": config.http_listen},
        bundle=bundle,
        bundle_error=error,
    )


def _verifier(path: Path) -> Subject:
    config = load_config(path, VerifierConfig)
    accession = resolve(path, config.accession) if config.accession else None
    bundle, error = _bundle(path, config.bundle, accession)
    return Subject(
        role="verifier",
        holder=config.party,
        uri=verifier_uri(config.party),
        config_path=path,
        state=resolve(path, config.state),
        keys={"statement_key": resolve(path, config.statement_key), "cosign_key": resolve(path, config.cosign_key)},
        next_keys=_next_keys(path, "statement_key", config.next_statement_key),
        tls_key=resolve(path, config.tls_key),
        tls_certificate=resolve(path, config.tls_certificate),
        listen={"listen": config.listen},
        bundle=bundle,
        bundle_error=error,
        accession=accession,
    )


def _lab(path: Path) -> Subject:
    config = load_config(path, LabConfig)
    accession = resolve(path, config.accession) if config.accession else None
    bundle, error = _bundle(path, config.bundle, accession)
    return Subject(
        role="lab",
        holder=config.lab,
        uri=lab_uri(config.lab),
        config_path=path,
        state=resolve(path, config.state),
        keys={"key": resolve(path, config.key)},
        next_keys=_next_keys(path, "key", config.next_key),
        tls_key=resolve(path, config.tls_key),
        tls_certificate=resolve(path, config.tls_certificate),
        listen={},
        bundle=bundle,
        bundle_error=error,
        lab=config,
        accession=accession,
    )


def _next_keys(path: Path, name: str, value: str) -> dict[str, Path]:
    return {name: resolve(path, value)} if value else {}


def _bundle(path: Path, name: str, accession: Path | None = None) -> tuple[Bundle | None, str]:
    try:
        bundle = load_bundle(resolve(path, name))
        with_newcomers(bundle.agreement, accession)
        return bundle, ""
    except ConfigError as error:
        return None, str(error)
