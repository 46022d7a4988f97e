"""The published templates of commitments, filled in for tests.

Example: fill("pause") is a document that compiles for MEMBERS.
"""

from __future__ import annotations

from typing import Final

from agreements import ORIGIN, Keys, verifier_name
from vectors import ROOT

from pacekeeper.protocol.documents.model import Lab, Party, VerifierTerms
from pacekeeper.protocol.documents.template import fill_template, format_lab, format_party, join_tables, placeholders
from pacekeeper.protocol.keys import format_public_key
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, NoteKey

NAMES: Final = ("pause", "growth", "bilateral", "triggered-pause", "accession", "exit", "keys")

_KEYS: Final = Keys(("farland",), ("corona",), "accession")
_PARTY: Final = Party(
    id="farland",
    name="Farland",
    key=_KEYS.party("farland").public,
    verifier=VerifierTerms(
        name=verifier_name("farland"),
        statement_key=_KEYS.verifier_statement("farland").public,
        cosign_key=NoteKey(verifier_name("farland"), COSIGNATURE_V1, _KEYS.verifier_cosign("farland").public),
        tls_spki=bytes(range(32)),
        address="verifier.farland.example:7411",
    ),
)
_LAB: Final = Lab(
    id="corona", name="Corona", party="farland", key=_KEYS.lab("corona").public, tls_spki=bytes(range(1, 33))
)

VALUES: Final[dict[str, str]] = {
    "title": "A commitment under " + ORIGIN.partition("/")[0],
    "threshold": "1e24 FLOP",
    "stage_threshold": "4e24 FLOP",
    "wind_down": "6 h",
    "evaluation_budget": "1e21 FLOP",
    "inference_budget": "5e22 FLOP",
    "window": "30 periods",
    "baseline": "90 periods",
    "growth": "5 %",
    "stage_growth": "15 %",
    "floor": "1e22 FLOP",
    "banking": "20 %",
    "parties": "3",
    "labs": "2",
    "clean_periods": "3",
    "weight": "55 %",
    "weight_tables": join_tables(
        f'[[weight]]\nparty = "{party}"\nweight = {weight}'
        for party, weight in (("norland", 40), ("sudland", 30), ("westmere", 20), ("eastholm", 10))
    ),
    "pledges_by": "2026-03-01T00:00:00Z",
    "delay": "30 d",
    "notice": "2 h",
    "term": "730 d",
    "minimum": "90 d",
    "extension": "365 d",
    "lifting_parties": "3",
    "stage": "30 d",
    "cut_off": "7 d",
    "withdrawal_notice": "90 d",
    "breach_response": "release-others",
    "lease": "1 h",
    "first_party": "norland",
    "second_party": "sudland",
    "families": "2",
    "code_on": "80 %",
    "code_off": "70 %",
    "horizon_on": "12 h",
    "horizon_off": "8 h",
    "research_on": "50 %",
    "research_off": "40 %",
    "reports": "3",
    "every": "30 d",
    "grace": "15 d",
    "lab_reporters": '"borealis", "meridian"',
    "external_reporters": '"westmere"',
    "party_tables": format_party(_PARTY),
    "lab_tables": format_lab(_LAB),
    "party": "eastholm",
    "quorum": "4",
    "liars": "1",
    "role": "lab",
    "holder": "borealis",
    "epoch": "2",
    "key": format_public_key(_KEYS.lab("borealis").public),
}
_OF_EXIT: Final = {"quorum": "2", "liars": "0"}


def template(name: str) -> str:
    """Return a template's text."""
    return (ROOT / "specs" / "templates" / f"commitment-{name}.md").read_text(encoding="utf-8")


def values_of(name: str, **changes: str) -> dict[str, str]:
    """Return the values that fill a template, with the id "NAME" and any of them changed."""
    values = VALUES | (_OF_EXIT if name == "exit" else {}) | {"id": name} | changes
    return {key: values[key] for key in placeholders(template(name))}


def fill(name: str, **changes: str) -> bytes:
    """Return a template filled in."""
    return fill_template(template(name), values_of(name, **changes)).encode()
