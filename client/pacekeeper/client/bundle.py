"""The agreement bundle: what a participant needs of the others, as one directory.

    agreement.md            the document, exactly as signed; its SHA-256 is the fingerprint
    agreement.envelope      the serialized Envelope of the Agreement statement, signed by every party: entry 0
    certificates/log.pem, verifier-PARTY.pem, lab-LAB.pem

Nothing in it is trusted for being there: the document must compile, the envelope must carry that document and every
party's valid signature, and each certificate must match the pin in the document. Whether it is the right agreement is
for the operator to say, by its fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacekeeper.client import tls
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.keyfiles import write_public
from pacekeeper.client.reading import read_bounded
from pacekeeper.protocol import canonical, envelope, keys, limits
from pacekeeper.protocol.documents.agreement import Agreement, compile_agreement
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import statements_pb2

_DOCUMENT: Final = "agreement.md"
_ENVELOPE: Final = "agreement.envelope"
_MAX_PEM_BYTES: Final = 8_192
_AGREEMENT_TYPE: Final = envelope.PAYLOAD_TYPE_PREFIX + statements_pb2.Agreement.DESCRIPTOR.name


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. entry0 is the serialized Envelope; certificates are clean PEM by transport URI."""

    agreement: Agreement
    entry0: bytes
    certificates: Mapping[str, bytes]

    @property
    def pins(self) -> dict[str, bytes]:
        """Every participant's pin by URI, as PeerCheck wants them."""
        return transport_pins(self.agreement)

    def client_certificates(self) -> list[bytes]:
        """Return the certificates of all who may call the log: verifiers and labs."""
        return [pem for uri, pem in self.certificates.items() if uri != tls.LOG_URI]


def transport_pins(agreement: Agreement) -> dict[str, bytes]:
    """Return the pin of each transport identity of an agreement: the log, then verifiers, then labs."""
    pins = {tls.LOG_URI: agreement.log.tls_spki}
    pins.update({tls.verifier_uri(party.id): party.verifier.tls_spki for party in agreement.parties})
    pins.update({tls.lab_uri(lab.id): lab.tls_spki for lab in agreement.labs})
    return pins


def certificate_file(uri: str) -> str:
    """Return a transport identity's file name in a bundle: pacekeeper:lab/acme -> certificates/lab-acme.pem."""
    return f"certificates/{uri.removeprefix('pacekeeper:').replace('/', '-')}.pem"


def load_bundle(directory: Path) -> Bundle:
    """Return the bundle in a directory, every part checked. ConfigError names the file that is missing or wrong.

    Steps: 1. the document compiles; 2. the envelope carries it, signed by every party; 3. certificates match the pins.
    SPEC transport-8: a bundle whose document, envelope and certificates do not agree MUST be refused.
    """
    document_path, envelope_path = directory / _DOCUMENT, directory / _ENVELOPE
    document = _read(document_path, limits.MAX_DOCUMENT_BYTES)
    try:
        agreement = compile_agreement(document)
    except DocumentError as error:
        raise ConfigError(f"{document_path}: {error}") from None
    entry0 = _read(envelope_path, limits.MAX_ENTRY_BYTES)
    try:
        check_entry0(agreement, entry0)
    except Refused as refused:
        raise ConfigError(f"{envelope_path}: {refused.message}") from None
    certificates = {uri: read_certificate(directory, uri, pin) for uri, pin in transport_pins(agreement).items()}
    return Bundle(agreement, entry0, certificates)


def write_bundle(directory: Path, document: bytes, entry0: bytes, certificates: Mapping[str, bytes]) -> Bundle:
    """Write a new bundle's files and return it as load_bundle checks it. ConfigError if one exists or is wrong."""
    write_public(directory / _DOCUMENT, document)
    write_public(directory / _ENVELOPE, entry0)
    for uri, pem in certificates.items():
        write_public(directory / certificate_file(uri), pem)
    return load_bundle(directory)


def check_entry0(agreement: Agreement, entry0: bytes) -> None:
    """Raise Refused unless the envelope is this agreement's, signed by each party and nobody else."""
    signed = envelope.read_envelope(envelope.parse_envelope(entry0))
    statement = canonical.parse_canonical(statements_pb2.Agreement, signed.payload)
    if signed.payload_type != _AGREEMENT_TYPE or statement is None:
        raise Refused(Code.MALFORMED, "it does not hold an Agreement statement")
    if statement.document != agreement.document:
        raise Refused(Code.WRONG_AGREEMENT, "it holds another document than agreement.md")
    signatures = dict(signed.signatures)
    for party in agreement.parties:
        signature = signatures.pop(keys.key_id(party.key), None)
        if signature is None:
            raise Refused(Code.MISSING_SIGNATURE, f'party "{party.id}" has not signed it')
        if not keys.verify(party.key, signed.message, signature):
            raise Refused(Code.BAD_SIGNATURE, f'the signature of party "{party.id}" does not verify')
    if signatures:
        raise Refused(Code.UNKNOWN_SIGNER, "a key signed it that is no party's")


def read_certificate(directory: Path, uri: str, pin: bytes) -> bytes:
    """Return the certificate of a transport identity from a bundle's directory. ConfigError names a bad file."""
    path = directory / certificate_file(uri)
    try:
        return tls.check_certificate(_read(path, _MAX_PEM_BYTES), uri, pin)
    except Refused as refused:
        raise ConfigError(f"{path}: {refused.message}") from None


def _read(path: Path, limit: int) -> bytes:
    data = read_bounded(path, limit)
    if not data:
        raise ConfigError(f"{path} is empty")
    if len(data) > limit:
        raise ConfigError(f"{path} is too long, at most {limit} bytes")
    return data
