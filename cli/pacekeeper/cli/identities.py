"""Identity files: what one participant hands to the others so that an agreement can name it.

A public identity file is TOML with a role, an id, public keys, addresses and the TLS certificate. The private keys it
belongs to stay beside it in keys/, each readable by its owner only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pacekeeper.client.config import Config, load_config
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.keyfiles import create_key, write_private, write_public
from pacekeeper.client.tls import LOG_URI, check_certificate, lab_uri, make_certificate, spki_pin, verifier_uri
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.model import Lab, LogTerms, Party, VerifierTerms
from pacekeeper.protocol.documents.values import as_address, as_ident, as_name, as_text, as_url
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import format_public_key, parse_public_key
from pacekeeper.protocol.readings import is_id
from pacekeeper.protocol.text import is_plain
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, ED25519, NoteKey, format_vkey, parse_vkey

Role = Literal["party", "verifier", "lab", "log"]


class Identity(Config):
    """A public identity file. Which fields are set depends on the role; see specs/documents.md and the README."""

    role: Role
    id: str
    name: str
    key: str = ""
    party: str = ""
    statement_key: str = ""
    cosign_key: str = ""
    address: str = ""
    url: str = ""
    certificate: str = ""


def make_identity(
    role: Role, identity: str, directory: Path, *, name: str, party: str = "", address: str = "", url: str = ""
) -> Identity:
    """Create a participant's keys in directory/keys and its public identity file beside them.

    For a log, `identity` is the origin. ConfigError when a file is there already: keys are never overwritten.
    SPEC cli-3: a private key MUST be readable by its owner only, and MUST NOT stand in a public file.
    """
    _check_wishes(role, identity, name, party, address, url)
    keys = directory / "keys"
    fields: dict[str, str] = {}
    if role == "party":
        fields["key"] = format_public_key(create_key(keys / "party.key").public)
    elif role == "verifier":
        fields["statement_key"] = format_public_key(create_key(keys / "statement.key").public)
        cosign = create_key(keys / "cosign.key")
        fields["cosign_key"] = format_vkey(NoteKey(name, COSIGNATURE_V1, cosign.public))
        fields["certificate"] = _make_tls(keys, verifier_uri(identity))
    elif role == "lab":
        fields["key"] = format_public_key(create_key(keys / "lab.key").public)
        fields["certificate"] = _make_tls(keys, lab_uri(identity))
    else:
        checkpoint = create_key(keys / "checkpoint.key")
        fields["key"] = format_vkey(NoteKey(identity, ED25519, checkpoint.public))
        fields["statement_key"] = format_public_key(create_key(keys / "statement.key").public)
        fields["certificate"] = _make_tls(keys, LOG_URI)
    made = Identity(role=role, id=identity, name=name, party=party, address=address, url=url, **fields)
    write_public(public_file(directory, made), format_identity(made).encode())
    return made


def _check_wishes(role: Role, identity: str, name: str, party: str, address: str, url: str) -> None:
    """ConfigError unless an agreement can take these words: found out now, not when it is written."""
    if role != "log" and not is_id(identity):
        raise ConfigError(f'"{identity}" is not an id: lower-case letters, digits and hyphens, at most 64')
    parse: dict[str, tuple[str, Callable[[object], object]]] = {"name": (name, as_text)}
    if role == "verifier":
        parse = {"name": (name, as_name), "address": (address, as_address)}
    elif role == "log":
        parse |= {"origin": (identity, as_name), "address": (address, as_address), "url": (url, as_url)}
    elif role == "lab":
        parse["party"] = (party, as_ident)
    for word, (value, check) in parse.items():
        try:
            check(value)
        except ValueError as error:
            raise ConfigError(f"{word}: {error}") from None
        if not is_plain(value, limits.MAX_TEXT_CHARS):
            raise ConfigError(f"{word}: it has characters that cannot be shown")


def public_file(directory: Path, identity: Identity) -> Path:
    """Where make_identity writes the public file."""
    stem = "log" if identity.role == "log" else f"{identity.id}.{identity.role}"
    return directory / f"{stem}.public.toml"


def _make_tls(keys: Path, uri: str) -> str:
    key_pem, certificate_pem = make_certificate(uri)
    write_private(keys / "tls.pem", key_pem)
    write_public(keys / "tls.crt.pem", certificate_pem)
    return certificate_pem.decode()


def format_identity(identity: Identity) -> str:
    """Write an identity as TOML; only what is set."""
    lines = ["# Public: hand this file to whoever writes the agreement. It holds no secret."]
    for field in Identity.__struct_fields__:
        value = getattr(identity, field)
        if field == "certificate" and value:
            lines.append(f"certificate = '''\n{value}'''")
        elif value:
            lines.append(f"{field} = {json.dumps(value, ensure_ascii=False)}")  # as TOML writes plain text
    return "\n".join(lines) + "\n"


def read_identity(path: Path) -> Identity:
    """Read a public identity file. ConfigError names the file and what is wrong."""
    return load_config(path, Identity)


def uri_of(identity: Identity) -> str | None:
    """The transport identity of a participant; a party has none."""
    if identity.role == "verifier":
        return verifier_uri(identity.id)
    if identity.role == "lab":
        return lab_uri(identity.id)
    return LOG_URI if identity.role == "log" else None


def pin_of(identity: Identity) -> bytes:
    """The pin of an identity's certificate, once it is known to be for that identity. ConfigError otherwise."""
    uri = uri_of(identity)
    assert uri is not None
    try:
        pin = spki_pin(identity.certificate.encode())
        check_certificate(identity.certificate.encode(), uri, pin)
    except (Refused, ValueError) as error:
        raise ConfigError(f"{identity.role} {identity.id}: certificate: {error}") from None
    return pin


def to_terms(identities: list[Identity]) -> tuple[list[Party], list[Lab], LogTerms]:
    """Sort identities into an agreement's parties, labs and log. ConfigError when one is missing or doubled."""
    by_role: dict[str, dict[str, Identity]] = {"party": {}, "verifier": {}, "lab": {}, "log": {}}
    for identity in identities:
        if by_role[identity.role].setdefault(identity.id, identity) is not identity:
            raise ConfigError(f"two identity files for {identity.role} {identity.id}")
    if len(by_role["log"]) != 1:
        raise ConfigError(f"an agreement has one log; {len(by_role['log'])} identity files are of a log")
    for side, other in (("party", "verifier"), ("verifier", "party")):
        lost = by_role[side].keys() - by_role[other].keys()
        if lost:
            raise ConfigError(f"{side} {min(lost)} has no identity file of its {other}")
    try:
        parties = [_party(party, by_role["verifier"][party.id]) for party in by_role["party"].values()]
        labs = [
            Lab(lab.id, lab.name, lab.party, parse_public_key(lab.key), pin_of(lab)) for lab in by_role["lab"].values()
        ]
        [log] = by_role["log"].values()
        terms = LogTerms(
            parse_vkey(log.key), parse_public_key(log.statement_key), pin_of(log), address=log.address, url=log.url
        )
    except (ValueError, Refused) as error:
        raise ConfigError(f"an identity file has a bad key: {error}") from None
    return parties, labs, terms


def _party(party: Identity, verifier: Identity) -> Party:
    return Party(
        party.id,
        party.name,
        parse_public_key(party.key),
        VerifierTerms(
            verifier.name,
            parse_public_key(verifier.statement_key),
            parse_vkey(verifier.cosign_key),
            pin_of(verifier),
            verifier.address,
        ),
    )
