"""Founding: from identity files to a signed agreement bundle. The commands and the demo use the same steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from pacekeeper.cli.identities import Identity, to_terms, uri_of
from pacekeeper.client.bundle import Bundle, check_entry0, write_bundle
from pacekeeper.client.errors import ConfigError
from pacekeeper.protocol import units
from pacekeeper.protocol.documents.agreement import compile_agreement
from pacekeeper.protocol.documents.model import Cap
from pacekeeper.protocol.documents.template import (
    fill_template,
    format_cap,
    format_lab,
    format_log,
    format_party,
    join_tables,
)
from pacekeeper.protocol.envelope import Signer, encode, parse_envelope
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.readings import is_id
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

DEFAULT_TERMS: Final[Mapping[str, str]] = {
    "period": "1 d",
    "due": "6 h",
    "fill_in": "90 d",
    "tick": "5 min",
    "tolerance": "10 s",
    "unwitnessed": "1 h",
    "framework_count_margin": "5 %",
    "chip_time_margin": "60 %",
    "indeterminate_periods": "3",
}


def shipped_file(name: str, in_checkout: str) -> Path:
    """Return a file that the package ships, or the checkout's original when the package is installed in place."""
    shipped = Path(str(resources.files("pacekeeper.cli"))) / "shipped" / name
    return shipped if shipped.exists() else Path(__file__).resolve().parents[3] / in_checkout


def agreement_template() -> str:
    """The agreement's template text."""
    return shipped_file("agreement.md", "specs/templates/agreement.md").read_text(encoding="utf-8")


def parse_cap(text: str) -> Cap:
    """Read "ID:KIND:LIMIT[:PERIODS]", for example "frontier:run:1e26 FLOP" or "quarter:lab:5e25 FLOP:90"."""
    parts = text.split(":")
    if len(parts) not in (3, 4) or parts[1] not in ("run", "lab", "party") or (len(parts) == 4) == (parts[1] == "run"):
        raise ConfigError(f'cap "{text}": expected "ID:run:LIMIT", "ID:lab:LIMIT:PERIODS" or "ID:party:LIMIT:PERIODS"')
    if not is_id(parts[0]):
        raise ConfigError(f'cap "{text}": "{parts[0]}" is not an id')
    try:
        limit = units.parse_flop(parts[2])
        window = int(parts[3]) if len(parts) == 4 else 0
    except ValueError as error:
        raise ConfigError(f'cap "{text}": {error}') from None
    return Cap(parts[0], parts[1], limit, window, ())


def write_agreement(identities: list[Identity], caps: list[Cap], terms: Mapping[str, str]) -> bytes:
    """Fill the template. terms: title, epoch, quorum, liars and whatever differs from DEFAULT_TERMS."""
    parties, labs, log = to_terms(identities)
    values = {
        **DEFAULT_TERMS,
        **terms,
        "origin": log.key.name,
        "party_tables": join_tables(format_party(party) for party in parties),
        "lab_tables": join_tables(format_lab(lab) for lab in labs),
        "log_table": format_log(log),
        "cap_tables": join_tables(format_cap(cap) for cap in caps),
    }
    try:
        document = fill_template(agreement_template(), values).encode()
    except ValueError as error:
        raise ConfigError(str(error)) from None
    compile_agreement(document)
    return document


def default_quorum(parties: int) -> tuple[int, int]:
    """Return (quorum, liars) for n verifiers: as many liars as 3f + 1 <= n allows, and n - f cosignatures."""
    liars = (parties - 1) // 3
    return parties - liars, liars


def sign_agreement(document: bytes, signer: Signer) -> bytes:
    """Return a serialized Envelope of the agreement with one party's signature."""
    compile_agreement(document)
    return encode(seal(pb.Agreement(document=document), [signer]))


def assemble(document: bytes, signatures: Iterable[bytes], identities: list[Identity], directory: Path) -> Bundle:
    """Join the parties' signatures into entry 0 and write the bundle. ConfigError says whose is missing or wrong."""
    merged = envelope_pb2.Envelope()
    found: dict[bytes, bytes] = {}
    for data in signatures:
        try:
            envelope = parse_envelope(data)
        except Refused as refusal:
            raise ConfigError(f"a signature file is not one: {refusal.message}") from None
        if merged.payload and (envelope.payload != merged.payload or envelope.payload_type != merged.payload_type):
            raise ConfigError("the signature files are over different documents")
        merged.payload_type, merged.payload = envelope.payload_type, envelope.payload
        found.update({signature.key_id: signature.signature for signature in envelope.signatures})
    merged.signatures.extend(
        envelope_pb2.Signature(key_id=key_id, signature=signature) for key_id, signature in sorted(found.items())
    )
    certificates = {
        uri: identity.certificate.encode() for identity in identities if (uri := uri_of(identity)) is not None
    }
    agreement = compile_agreement(document)
    try:
        check_entry0(agreement, encode(merged))
    except Refused as refusal:
        raise ConfigError(f"the agreement cannot be assembled: {refusal.message}") from None
    return write_bundle(directory, document, encode(merged), certificates)
