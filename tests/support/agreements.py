"""A complete agreement for tests, from the published template, with deterministic keys for every role.

Example: document, keys = build_document(period="10 s", caps=[{"id": "big", "kind": "run", "limit": "1e15 FLOP"}])
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from pacekeeper.protocol.documents.model import Lab, LogTerms, Party, VerifierTerms
from pacekeeper.protocol.documents.template import (
    fill_template,
    format_lab,
    format_log,
    format_party,
    join_tables,
)
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, ED25519, NoteKey

TEMPLATE: Final = Path(__file__).resolve().parents[2] / "specs" / "templates" / "agreement.md"
ORIGIN: Final = "example.org/pacekeeper"
DEFAULT_CAPS: Final[Sequence[Mapping[str, object]]] = ({"id": "run", "kind": "run", "limit": "1e24 FLOP"},)

_PARTIES: Final = ("norland", "sudland", "westmere", "eastholm")
_LABS: Final = ("borealis", "meridian")


@cache
def signing_key(label: str) -> SigningKey:
    """Return the signing key whose seed is the SHA-256 of a label."""
    return SigningKey(hashlib.sha256(label.encode()).digest())


@dataclass(frozen=True)
class Keys:
    """Every signing key of a built agreement; salt tells apart agreements that must not share keys."""

    party_ids: tuple[str, ...]
    lab_ids: tuple[str, ...]
    salt: str = ""

    def party(self, party: str) -> SigningKey:
        return self._key("party", party)

    def verifier_statement(self, party: str) -> SigningKey:
        return self._key("verifier-statement", party)

    def verifier_cosign(self, party: str) -> SigningKey:
        return self._key("verifier-cosign", party)

    def lab(self, lab: str) -> SigningKey:
        return self._key("lab", lab)

    @property
    def log_checkpoint(self) -> SigningKey:
        return self._key("log-checkpoint", "")

    @property
    def log_statement(self) -> SigningKey:
        return self._key("log-statement", "")

    def parties(self) -> list[SigningKey]:
        """Return every party's key: who signs entry 0."""
        return [self.party(party) for party in self.party_ids]

    def _key(self, role: str, holder: str) -> SigningKey:
        return signing_key(f"{self.salt}/{role}/{holder}")


def verifier_name(party: str) -> str:
    """Return the name of a party's verifier, which its cosigning key bears."""
    return f"{party}.example/verifier"


def build_document(
    *,
    parties: int | Sequence[str] = 4,
    labs: int | Sequence[int] = 2,
    quorum: int | None = None,
    liars: int | None = None,
    caps: Sequence[Mapping[str, object]] = DEFAULT_CAPS,
    title: str = "Test agreement",
    origin: str = ORIGIN,
    epoch: str = "2026-01-01T00:00:00Z",
    period: str = "1 d",
    due: str = "6 h",
    fill_in: str = "90 d",
    tick: str = "5 min",
    tolerance: str = "10 s",
    unwitnessed: str = "1 h",
    framework_count_margin: str = "5 %",
    chip_time_margin: str = "60 %",
    chip_time: bool = True,
    indeterminate_periods: int = 3,
    addresses: Mapping[str, str] | None = None,
    url: str = "http://127.0.0.1:7402",
    pins: Mapping[str, bytes] | None = None,
    salt: str = "",
    rules: int = 4,
) -> tuple[bytes, Keys]:
    """Return an agreement's document and its keys.

    parties: how many, or their ids. labs: how many, given to the parties in turn, or how many for each party.
    quorum, liars: by default what tolerates most liars (4 parties: 3 and 1). With a period of seconds the defaults of
    due, fill_in and tick follow it unless they are given too.
    caps: one mapping of TOML keys to values for each. chip_time: whether that method is admitted at all.
    rules: the version. addresses: host:port by "log" or a party's id. pins: SPKI hashes by "log", "verifier/PARTY" or
    "lab/LAB".
    Nothing is checked here, so that a test can build what must be refused.
    """
    party_ids = _names(_PARTIES, "party", parties) if isinstance(parties, int) else tuple(parties)
    homes = _homes(party_ids, labs)
    lab_ids = _names(_LABS, "lab", len(homes))
    keys = Keys(party_ids, lab_ids, salt)
    places = _Places(party_ids, dict(addresses or {}), dict(pins or {}), salt)
    if period.endswith(" s"):
        seconds = int(period.removesuffix(" s"))
        due, tick, fill_in = (
            f"{max(2, seconds // 2)} s" if due == "6 h" else due,
            "1 s" if tick == "5 min" else tick,
            f"{seconds * 90} s" if fill_in == "90 d" else fill_in,
        )
    tolerated = (len(party_ids) - 1) // 3 if liars is None else liars
    template = TEMPLATE.read_text(encoding="utf-8")
    text = fill_template(
        template if chip_time else template.replace("\nchip-time =", "\n# chip-time ="),
        {
            "title": title,
            "origin": origin,
            "epoch": epoch,
            "period": period,
            "due": due,
            "fill_in": fill_in,
            "tick": tick,
            "tolerance": tolerance,
            "unwitnessed": unwitnessed,
            "quorum": str(len(party_ids) - tolerated if quorum is None else quorum),
            "liars": str(tolerated),
            "framework_count_margin": framework_count_margin,
            "chip_time_margin": chip_time_margin,
            "indeterminate_periods": str(indeterminate_periods),
            "party_tables": join_tables(format_party(_party(party, keys, places)) for party in party_ids),
            "lab_tables": join_tables(
                format_lab(_lab(lab, home, keys, places)) for lab, home in zip(lab_ids, homes, strict=True)
            ),
            "log_table": format_log(_log(origin, keys, places, url)),
            "cap_tables": join_tables(_cap(cap) for cap in caps),
        },
    )
    return text.replace("rules = 4", f"rules = {rules}").encode(), keys


@dataclass(frozen=True)
class _Places:
    """Where servers listen and which TLS keys they have, unless overridden."""

    party_ids: tuple[str, ...]
    addresses: Mapping[str, str]
    pins: Mapping[str, bytes]
    salt: str

    def address(self, holder: str) -> str:
        port = 7401 if holder == "log" else 7501 + self.party_ids.index(holder)
        return self.addresses.get(holder, f"127.0.0.1:{port}")

    def pin(self, holder: str) -> bytes:
        return self.pins.get(holder, hashlib.sha256(f"{self.salt}/tls/{holder}".encode()).digest())


def _names(first: tuple[str, ...], word: str, count: int) -> tuple[str, ...]:
    return tuple(first[i] if i < len(first) else f"{word}-{i + 1}" for i in range(count))


def _homes(party_ids: tuple[str, ...], labs: int | Sequence[int]) -> list[str]:
    if isinstance(labs, int):
        return [party_ids[i % len(party_ids)] for i in range(labs)]
    return [party for party, count in zip(party_ids, labs, strict=True) for _ in range(count)]


def _party(party: str, keys: Keys, places: _Places) -> Party:
    name = verifier_name(party)
    return Party(
        id=party,
        name=party.capitalize(),
        key=keys.party(party).public,
        verifier=VerifierTerms(
            name=name,
            statement_key=keys.verifier_statement(party).public,
            cosign_key=NoteKey(name, COSIGNATURE_V1, keys.verifier_cosign(party).public),
            tls_spki=places.pin(f"verifier/{party}"),
            address=places.address(party),
        ),
    )


def _lab(lab: str, party: str, keys: Keys, places: _Places) -> Lab:
    return Lab(lab, f"{lab.capitalize()} Laboratory", party, keys.lab(lab).public, places.pin(f"lab/{lab}"))


def _log(origin: str, keys: Keys, places: _Places, url: str) -> LogTerms:
    return LogTerms(
        key=NoteKey(origin, ED25519, keys.log_checkpoint.public),
        statement_key=keys.log_statement.public,
        tls_spki=places.pin("log"),
        address=places.address("log"),
        url=url,
    )


def _cap(terms: Mapping[str, object]) -> str:
    lines = ["[[cap]]"]
    for key, value in terms.items():
        if isinstance(value, (list, tuple)):
            lines.append(f"{key} = [{', '.join(chr(34) + str(item) + chr(34) for item in value)}]")
        else:
            lines.append(f"{key} = {value}" if isinstance(value, int) else f'{key} = "{value}"')
    return "\n".join(lines)


def edit(document: bytes, old: str, new: str, occurrence: int = 1) -> tuple[bytes, int]:
    """Replace one occurrence of old (counted from 1) by new; return the document and the line that it begins on."""
    text = document.decode()
    position = -1
    for _ in range(occurrence):
        position = text.index(old, position + 1)
    edited = text[:position] + new + text[position + len(old) :]
    return edited.encode(), text.count("\n", 0, position) + 1
