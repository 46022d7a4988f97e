"""An agreement for measuring: four parties, sixteen labs, every kind of cap, keys that are the same on every machine.

The calendar has periods of an hour, each account due an hour after its period, and ninety periods for filling in, as
the published template has ninety days. Sixteen labs that attest in turn then leave no silence that asks for a Tick.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pacekeeper.client.keyfiles import write_private
from pacekeeper.protocol.documents.agreement import Agreement, compile_agreement
from pacekeeper.protocol.documents.model import Cap, Lab, LogTerms, Party, VerifierTerms
from pacekeeper.protocol.documents.template import (
    fill_template,
    format_cap,
    format_lab,
    format_log,
    format_party,
    join_tables,
)
from pacekeeper.protocol.envelope import encode
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, ED25519, NoteKey
from pacekeeper.v1 import statements_pb2 as pb

PARTIES: Final = ("eastholm", "norland", "sudland", "westmere")
LABS: Final = tuple(f"lab-{number:02d}" for number in range(16))
QUORUM: Final = 3
ORIGIN: Final = "example.org/benchmark"
EPOCH: Final = "2018-01-01T00:00:00Z"  # a million hourly accounts of sixteen labs end before today
PERIOD_MS: Final = 3_600_000
FILL_IN_PERIODS: Final = 90
WINDOW: Final = 30  # periods in the caps of labs and parties
_LIMIT: Final = 10**17  # gigaFLOP, 1e26 FLOP: nobody comes near it, so that every verdict is "within"
_TEMPLATE: Final = Path(__file__).resolve().parents[2] / "specs" / "templates" / "agreement.md"


@dataclass(frozen=True)
class Founding:
    """The agreement, and the keys of everyone in it by label: see seed()."""

    agreement: Agreement
    entry0: bytes
    _keys: dict[str, SigningKey] = field(default_factory=dict)

    def key(self, label: str) -> SigningKey:
        """The signing key of a label, such as "lab/lab-00" or "log/checkpoint"."""
        if label not in self._keys:
            self._keys[label] = SigningKey(seed(label))
        return self._keys[label]


def seed(label: str) -> bytes:
    """The seed of a label's signing key."""
    return hashlib.sha256(f"pacekeeper benchmark key: {label}".encode()).digest()


def write_key(path: Path, label: str) -> None:
    """Write a label's key as the key file that a role loads."""
    write_private(path, b"pacekeeper-ed25519-seed-v1\n" + base64.b64encode(seed(label)) + b"\n")


def found(
    pins: Mapping[str, bytes] | None = None,
    addresses: Mapping[str, str] | None = None,
    names: Sequence[str] = LABS,
) -> Founding:
    """Found the agreement. pins: TLS key hashes, and addresses: host and port, by "log", "verifier/P" or "lab/L".
    names: the labs' ids.

    Without them nobody can be reached, and the document is the same bytes on every machine.
    """
    places = _Places(pins or {}, addresses or {})
    parties = [_party(party, places) for party in PARTIES]
    labs = [_lab(number, lab, places) for number, lab in enumerate(names)]
    caps = [
        Cap("each-run", "run", _LIMIT, 0, ()),
        Cap("each-lab", "lab", _LIMIT, WINDOW, ()),
        Cap("each-party", "party", _LIMIT, WINDOW, ()),
    ]
    values = {
        "title": "Benchmark agreement",
        "origin": ORIGIN,
        "epoch": EPOCH,
        "period": "1 h",
        "due": "1 h",
        "fill_in": f"{FILL_IN_PERIODS} h",
        "tick": "5 min",
        "tolerance": "10 s",
        "unwitnessed": "1 h",
        "quorum": str(QUORUM),
        "liars": "1",
        "framework_count_margin": "5 %",
        "chip_time_margin": "60 %",
        "indeterminate_periods": "3",
        "party_tables": join_tables(map(format_party, parties)),
        "lab_tables": join_tables(map(format_lab, labs)),
        "log_table": format_log(_log(places)),
        "cap_tables": join_tables(map(format_cap, caps)),
    }
    document = fill_template(_TEMPLATE.read_text(encoding="utf-8"), values).encode()
    signers = [SigningKey(seed(f"party/{party}")) for party in PARTIES]
    return Founding(compile_agreement(document), encode(seal(pb.Agreement(document=document), signers)))


@dataclass(frozen=True)
class _Places:
    pins: Mapping[str, bytes]
    addresses: Mapping[str, str]

    def pin(self, holder: str) -> bytes:
        return self.pins.get(holder, seed(f"no TLS: {holder}"))

    def address(self, holder: str) -> str:
        return self.addresses.get(holder, "127.0.0.1:9")


def _public(label: str) -> bytes:
    return SigningKey(seed(label)).public


def _party(party: str, places: _Places) -> Party:
    name = f"{party}.example/verifier"
    verifier = VerifierTerms(
        name=name,
        statement_key=_public(f"verifier-statement/{party}"),
        cosign_key=NoteKey(name, COSIGNATURE_V1, _public(f"verifier-cosign/{party}")),
        tls_spki=places.pin(f"verifier/{party}"),
        address=places.address(f"verifier/{party}"),
    )
    return Party(party, party.capitalize(), _public(f"party/{party}"), verifier)


def _lab(number: int, lab: str, places: _Places) -> Lab:
    party = PARTIES[number % len(PARTIES)]
    return Lab(lab, f"Laboratory {number}", party, _public(f"lab/{lab}"), places.pin(f"lab/{lab}"))


def _log(places: _Places) -> LogTerms:
    return LogTerms(
        key=NoteKey(ORIGIN, ED25519, _public("log/checkpoint")),
        statement_key=_public("log/statement"),
        tls_spki=places.pin("log"),
        address=places.address("log"),
        url="http://127.0.0.1:9",
    )
