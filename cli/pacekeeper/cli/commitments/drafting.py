"""Drafting a commitment: a template filled in as far as one knows, and every fault of what was written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pacekeeper.cli.founding import shipped_file
from pacekeeper.client.bundle import load_bundle
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.reading import read_bounded
from pacekeeper.protocol.documents.agreement import RULES_VERSION, Agreement
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.commitment import Commitment, compile_commitment
from pacekeeper.protocol.documents.commitment_lint import lint_commitment
from pacekeeper.protocol.documents.lint import Problem
from pacekeeper.protocol.documents.template import placeholders
from pacekeeper.protocol.limits import MAX_DOCUMENT_BYTES
from pacekeeper.protocol.replay.acts import KINDS
from pacekeeper.protocol.replay.participants import members_of
from pacekeeper.protocol.units import format_time

# What a first draft can begin with where --sample is given: round figures that go together, and nobody's proposal.
SAMPLE: Final[Mapping[str, str]] = {
    "threshold": "1e25 FLOP",
    "stage_threshold": "4e25 FLOP",
    "wind_down": "6 h",
    "evaluation_budget": "1e22 FLOP",
    "inference_budget": "1e24 FLOP",
    "window": "30 periods",
    "baseline": "90 periods",
    "growth": "5 %",
    "stage_growth": "15 %",
    "floor": "1e22 FLOP",
    "banking": "20 %",
    "parties": "2",
    "labs": "1",
    "clean_periods": "1",
    "weight": "55 %",
    "delay": "30 d",
    "notice": "2 h",
    "term": "365 d",
    "minimum": "30 d",
    "extension": "180 d",
    "lifting_parties": "2",
    "stage": "30 d",
    "cut_off": "7 d",
    "withdrawal_notice": "90 d",
    "breach_response": "release-others",
    "lease": "1 h",
    "families": "2",
    "code_on": "80 %",
    "code_off": "70 %",
    "horizon_on": "40 h",
    "horizon_off": "30 h",
    "research_on": "50 %",
    "research_off": "40 %",
    "reports": "2",
    "every": "30 d",
    "grace": "15 d",
}
_PLEDGES_BY_DAYS: Final = 60
_DAY_MS: Final = 86_400_000

_PLACEHOLDER: Final = re.compile(r"\{\{([^{}\n]{0,80})\}?\}?")


def read_document(path: Path) -> bytes:
    """Return a document's bytes. ConfigError when there is none; one that is too long is cut, and then refused."""
    return read_bounded(path, MAX_DOCUMENT_BYTES)


def parse_settings(settings: tuple[str, ...]) -> dict[str, str]:
    """Read "key=value" options. ConfigError for another form, or for a key that comes twice."""
    found: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f'--set "{setting}": expected key=value')
        if key in found:
            raise ConfigError(f'--set "{setting}": "{key}" is set twice')
        found[key] = value
    return found


def sample(now_ms: int) -> dict[str, str]:
    """Return values for a first draft that is written now; names of participants are not among them."""
    by_ms = (now_ms // _DAY_MS + _PLEDGES_BY_DAYS) * _DAY_MS
    return {**SAMPLE, "pledges_by": format_time(by_ms)}


def fill_in(
    template: str, settings: Mapping[str, str], otherwise: Mapping[str, str] | None = None
) -> tuple[str, list[str]]:
    """Return the named template with these values put in, and the placeholders that remain, in their order.

    otherwise: what stands in for a value that is not set, where there is something.

    SPEC cli-13: each value MUST be put in where its placeholder stands, and one that has no place be refused.
    """
    text = shipped_file(f"commitment-{template}.md", f"specs/templates/commitment-{template}.md").read_text("utf-8")
    known = placeholders(text)
    unused = sorted(settings.keys() - known)
    if unused:
        raise ConfigError(f'--set: the template {template} has no "{unused[0]}"; it has {", ".join(sorted(known))}')
    # In one pass: what is put in is not looked at again.
    values = {**(otherwise or {}), **settings}
    filled = _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)
    left = [match[1] for match in _PLACEHOLDER.finditer(text) if match[1] not in values]
    return filled, list(dict.fromkeys(left))


def lint(document: bytes, bundle: Path | None) -> list[Problem]:
    """Return every problem of a document, in the order of lines; with a bundle, also what its members make one.

    SPEC cli-14: every fault MUST be listed with its line; given the bundle, also whom the document names wrongly.
    """
    agreement = None if bundle is None else load_bundle(bundle).agreement
    problems = lint_commitment(document, None if agreement is None else members_of(agreement))
    open_places = _unfilled(document)
    if open_places:
        problems = open_places
    elif not any(problem.severity == "error" for problem in problems):
        problems = sorted([*_not_admitted(document, agreement), *problems], key=lambda problem: problem.line)
    return problems


def _unfilled(document: bytes) -> list[Problem]:
    """Name every placeholder that was left in, where the compiler stops at the first."""
    found = []
    for number, line in enumerate(document.decode("utf-8", "replace").split("\n"), start=1):
        for match in _PLACEHOLDER.finditer(line):
            found.append(Problem(number, "error", f'placeholder "{match[1]}" is still to be filled in'))
    return found


def _not_admitted(document: bytes, agreement: Agreement | None) -> list[Problem]:
    """Warn of what compiles and would be refused on the log all the same."""
    lines = document.decode().split("\n")
    line = next((number for number, text in enumerate(lines, start=1) if text == "[commitment]"), 1)
    kind = compile_commitment(document).kind
    version = RULES_VERSION if agreement is None else agreement.rules_version
    if kind not in KINDS[version]:
        return [Problem(line, "warning", f"rules version {version} does not take the kind {kind} on the log")]
    return []


def compile_document(path: Path) -> Commitment:
    """Return what a document says by itself, whoever the members are. ConfigError names the file and the line."""
    try:
        return compile_commitment(read_document(path))
    except DocumentError as error:
        raise ConfigError(f"{path}: {error}") from None


def check_document(path: Path, agreement: Agreement) -> Commitment:
    """Return what a document says, for an agreement's founding members. ConfigError names the file and the line."""
    try:
        return compile_commitment(read_document(path), members_of(agreement))
    except DocumentError as error:
        raise ConfigError(f"{path}: {error}") from None
