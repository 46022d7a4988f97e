"""Drafting a commitment: templates filled in, every fault with its line, nothing overwritten."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commitment_templates import NAMES, VALUES, fill, values_of

from pacekeeper.cli.commands.commitment_documents import TEMPLATES

Run = Callable[..., Any]
Must = Callable[..., str]


def settings(name: str, **changes: str) -> list[str]:
    """The options that fill a template wholly."""
    return [word for key, value in sorted(values_of(name, **changes).items()) for word in ("--set", f"{key}={value}")]


def test_every_published_template_is_offered() -> None:
    assert sorted(TEMPLATES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_filled_in_wholly_compiles(must: Must, tmp_path: Path, name: str) -> None:
    """SPEC cli-13."""
    out = tmp_path / "c.md"
    said = must("commitment", "new", "--template", name, *settings(name), "--out", out)
    assert said == f"wrote {out}\nnext: pacekeeper commitment lint {out}\n"
    assert out.read_bytes() == fill(name)
    assert f"{out} compiles; " in must("commitment", "lint", out)


def test_what_remains_to_be_filled_in_is_listed_and_linted_at_its_lines(
    pacekeeper: Run, must: Must, tmp_path: Path
) -> None:
    """SPEC cli-13, cli-5."""
    out = tmp_path / "c.md"
    said = must("commitment", "new", "--template", "exit", "--set", "id=x", "--set", "party=norland", "--out", out)
    assert "still to fill in: title, quorum, liars, pledges_by, delay, notice\n" in said
    outcome = pacekeeper("commitment", "lint", out)
    assert outcome.status == 2
    lines = out.read_text().split("\n")
    shown = [
        re.fullmatch(r'.*:(\d+): error: placeholder "(\w+)" is still .*', line) for line in outcome.out.splitlines()
    ]
    assert len(shown) == 7, "the title stands in two lines"
    for match in shown:
        assert match is not None
        assert f"{{{{{match[2]}}}}}" in lines[int(match[1]) - 1]


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("pause", {}),
        ("growth", {"weight_tables": VALUES["weight_tables"]}),
        ("bilateral", {"first_party": "norland", "second_party": "sudland"}),
        ("triggered-pause", {"lab_reporters": '"borealis"', "external_reporters": '"westmere"'}),
        ("exit", {"party": "norland", "quorum": "2", "liars": "0"}),
    ],
)
def test_a_sample_needs_only_names(must: Must, founded: Any, tmp_path: Path, name: str, named: dict[str, str]) -> None:
    """SPEC cli-13."""
    out = tmp_path / "c.md"
    given = {"id": "x", "title": "X", **named}
    options = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    said = must("commitment", "new", "--template", name, "--sample", *options, "--out", out)
    assert "still to fill in" not in said
    assert "compiles" in must("commitment", "lint", out, "--bundle", founded.bundle)


def test_new_overwrites_nothing(pacekeeper: Run, tmp_path: Path) -> None:
    """SPEC cli-4."""
    out = tmp_path / "c.md"
    out.write_text("mine")
    outcome = pacekeeper("commitment", "new", "--template", "pause", "--out", out)
    assert (outcome.status, out.read_text()) == (2, "mine")
    assert "exists already" in outcome.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "colour=red"), 'has no "colour"; it has '),
        (("--set", "id"), "expected key=value"),
        (("--set", "id=a", "--set", "id=b"), '"id" is set twice'),
    ],
)
def test_a_value_without_a_place_is_refused(
    pacekeeper: Run, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    """SPEC cli-13."""
    outcome = pacekeeper("commitment", "new", "--template", "pause", *options, "--out", tmp_path / "c.md")
    assert (outcome.status, outcome.out) == (2, "")
    assert said in outcome.err
    assert not (tmp_path / "c.md").exists()


def test_lint_lists_all_faults_by_line(pacekeeper: Run, tmp_path: Path) -> None:
    """SPEC cli-5: not only the first."""
    document = tmp_path / "c.md"
    text = (
        fill("pause")
        .decode()
        .replace('wind_down = "6 h"', 'wind_down = "soon"')
        .replace('cut_off = "7 d"', 'extra = "7 d"')
    )
    document.write_text(text)
    outcome = pacekeeper("commitment", "lint", document)
    numbers = [int(line.split(":")[1]) for line in outcome.out.splitlines()]
    assert outcome.status == 2
    lines = text.split("\n")
    assert [lines[number - 1].partition(" ")[0] for number in numbers] == ["wind_down", "extra"]
    exported = json.loads(pacekeeper("commitment", "lint", document, "--json").out)
    assert [problem["line"] for problem in exported] == numbers


def test_lint_with_a_bundle_knows_the_participants(pacekeeper: Run, must: Must, founded: Any, tmp_path: Path) -> None:
    """SPEC cli-14."""
    document = tmp_path / "c.md"
    document.write_bytes(fill("bilateral", second_party="atlantis"))
    assert "whom it names was not checked" in must("commitment", "lint", document)
    outcome = pacekeeper("commitment", "lint", document, "--bundle", founded.bundle)
    assert outcome.status == 2
    assert '"atlantis"' in outcome.out
    document.write_bytes(fill("bilateral"))
    assert "compiles" in must("commitment", "lint", document, "--bundle", founded.bundle)


@pytest.mark.parametrize(("name", "warned"), [("growth", False), ("exit", False), ("pause", False)])
def test_lint_warns_of_what_the_rules_do_not_take_yet(must: Must, tmp_path: Path, name: str, warned: bool) -> None:
    """SPEC cli-14."""
    document = tmp_path / "c.md"
    document.write_bytes(fill(name))
    assert (f"does not take the kind {name}" in must("commitment", "lint", document)) == warned


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"x" * 70_000, b"# \x1b[31m\n", b"## Article 2. No first\n", b"{{" * 30_000]
)
def test_lint_of_anything_is_a_sentence(pacekeeper: Run, tmp_path: Path, content: bytes) -> None:
    """SPEC cli-1, cli-2."""
    document = tmp_path / "c.md"
    document.write_bytes(content)
    outcome = pacekeeper("commitment", "lint", document)
    assert outcome.status == 2
    assert "\x1b" not in outcome.out + outcome.err
    assert len(outcome.out.splitlines()) < 40_000


def test_a_document_that_is_not_there_is_named(pacekeeper: Run, tmp_path: Path) -> None:
    """SPEC cli-1."""
    outcome = pacekeeper("commitment", "lint", tmp_path / "none.md")
    assert (outcome.status, outcome.out) == (2, "")
    assert "none.md cannot be read" in outcome.err
