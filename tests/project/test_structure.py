"""The house keeps its walls: one namespace, rooms that import only downwards, rules that are cited, clean texts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("proto", "protocol", "client", "log", "node", "verifier", "audit", "cli")
_RULE = re.compile(r"^- \*\*([a-z]+-\d+)\*\*(.*?)(?=^- \*\*|^#|\Z)", re.MULTILINE | re.DOTALL)
_CITATION = re.compile(r"SPEC ([a-z]+-\d+)")


def tracked() -> list[Path]:
    """Every file that git knows or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def cited(folders: tuple[str, ...]) -> set[str]:
    return {
        rule
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "_pb2" not in path.name
        for rule in _CITATION.findall(path.read_text(encoding="utf-8"))
    }


def rules() -> dict[str, str]:
    """Every numbered rule of the specifications: its id and its text."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "specs").glob("*.md")):
        for rule, text in _RULE.findall(path.read_text(encoding="utf-8")):
            assert rule not in found, f"{rule} is numbered twice"
            found[rule] = text
    return found


def test_no_room_claims_the_namespace_root() -> None:
    claimed = [str(path) for room in ROOMS for path in (ROOT / room / "pacekeeper").glob("__init__.py")]
    assert claimed == []


def test_every_room_is_packaged() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for room in ROOMS:
        assert f'"{room}/pacekeeper"' in text


def test_every_must_is_cited_by_code_and_by_a_test() -> None:
    known = rules()
    assert len(known) > 100, "the specifications were not read"
    code, tests = cited(ROOMS), cited(("tests",))
    musts = {rule for rule, text in known.items() if "MUST" in text}
    assert sorted(musts - code) == [], "rules that no code cites"
    assert sorted(musts - tests) == [], "rules that no test cites"


def test_no_citation_of_a_rule_that_does_not_exist() -> None:
    assert sorted((cited(ROOMS) | cited(("tests",))) - rules().keys()) == []


def test_the_import_contracts_hold_and_bite(tmp_path: Path) -> None:
    """Runs the linter as it is, and again with a contract that today's imports break."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    held = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert held.returncode == 0, held.stdout
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    broken = tmp_path / "pyproject.toml"
    broken.write_text(text.replace('forbidden_modules = ["socket"', 'forbidden_modules = ["hashlib", "socket"'))
    bites = subprocess.run(
        [*command, "--config", str(broken)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert bites.returncode != 0, bites.stdout


def test_the_core_reads_no_clock_file_or_chance() -> None:
    """What import-linter does not see: pathlib, tempfile, uuid, open() and datetime.now() in the protocol."""
    forbidden = re.compile(
        r"import (pathlib|tempfile|uuid)|from (pathlib|tempfile|uuid)|\bopen\(|\.(now|utcnow|today)\("
    )
    for path in (ROOT / "protocol").rglob("*.py"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            assert not forbidden.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


@pytest.mark.parametrize("word", ["/" + "work/", "/" + "root/", "~/" + "."])
def test_no_machine_paths(word: str) -> None:
    suffixes = {".py", ".md", ".toml", ".proto", ".sh", ""}
    for path in tracked():
        if path.suffix in suffixes and "_pb2" not in path.name and path != Path(__file__):
            assert word not in path.read_text(encoding="utf-8", errors="replace"), path


def test_no_merge_was_left_half_done() -> None:
    """A line that only a merge writes, in any text file."""
    marker = re.compile(rb"^(<<<<<<<|>>>>>>>) ", re.MULTILINE)
    assert [path.name for path in tracked() if marker.search(path.read_bytes())] == []


def test_every_specification_is_listed() -> None:
    """specs/README.md is where a stranger begins."""
    listed = (ROOT / "specs" / "README.md").read_text(encoding="utf-8")
    missing = [path.name for path in (ROOT / "specs").glob("*.md") if f"]({path.name})" not in listed]
    assert missing == ["README.md"]


def test_no_giant_files() -> None:
    """A file is one to three screens; beyond that some thought in it wants its own room."""
    for path in tracked():
        if path.suffix == ".py" and "_pb2" not in path.name and path.parts[len(ROOT.parts)] in ROOMS:
            lines = path.read_text(encoding="utf-8").count("\n")
            assert lines <= 330, f"{path.relative_to(ROOT)} has {lines} lines"
