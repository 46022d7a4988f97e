"""An agreement whose participants have real transport identities: keys, certificates, pins, and a bundle on disk.

Example: people = make_participants(); bundle = people.write_bundle(tmp_path / "bundle")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from agreements import Keys, build_document

from pacekeeper.client.bundle import Bundle, write_bundle
from pacekeeper.client.tls import LOG_URI, channel_credentials, make_certificate, server_credentials, spki_pin
from pacekeeper.protocol.documents.agreement import Agreement, compile_agreement
from pacekeeper.protocol.envelope import encode
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import statements_pb2


@dataclass(frozen=True)
class Participants:
    """Everything that the participants of one agreement hold. identities: URI -> (key_pem, cert_pem)."""

    document: bytes
    keys: Keys
    agreement: Agreement
    identities: dict[str, tuple[bytes, bytes]]
    entry0: bytes

    @property
    def certificates(self) -> dict[str, bytes]:
        return {uri: certificate for uri, (_, certificate) in self.identities.items()}

    def write_bundle(self, directory: Path) -> Bundle:
        return write_bundle(directory, self.document, self.entry0, self.certificates)

    def log_credentials(self) -> grpc.ServerCredentials:
        """What the log's private port is served with."""
        others = [certificate for uri, certificate in self.certificates.items() if uri != LOG_URI]
        return server_credentials(*self.identities[LOG_URI], others)

    def credentials_of(self, uri: str) -> grpc.ChannelCredentials:
        """What a participant calls the log with."""
        return channel_credentials(self.certificates[LOG_URI], *self.identities[uri])


def make_participants(*, parties: int = 4, labs: int = 2, **document: Any) -> Participants:
    """Make identities for a built agreement; further arguments go to build_document."""
    _, keys = build_document(parties=parties, labs=labs, **document)
    holders = ["log", *(f"verifier/{party}" for party in keys.party_ids), *(f"lab/{lab}" for lab in keys.lab_ids)]
    identities = {f"pacekeeper:{holder}": make_certificate(f"pacekeeper:{holder}") for holder in holders}
    pins = {holder: spki_pin(identities[f"pacekeeper:{holder}"][1]) for holder in holders}
    text, keys = build_document(parties=parties, labs=labs, pins=pins, **document)
    entry0 = encode(seal(statements_pb2.Agreement(document=text), keys.parties()))
    return Participants(text, keys, compile_agreement(text), identities, entry0)
