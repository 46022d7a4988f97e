"""The life of a commitment as a model that spin searches whole: commitment.pml. What it stands for: specs/models.md.

Each search has to be complete and to have seen what it is about, and each broken rule has to be found: a model that
cannot fail proves nothing. The model's table of transitions is the engine's own.

SPEC commitments-13, SPEC commitments-16, SPEC commitments-17, SPEC commitments-18, SPEC commitments-19,
SPEC commitments-20, SPEC commitments-21, SPEC commitments-25, SPEC commitments-29, SPEC commitments-31,
SPEC commitments-32, SPEC commitments-38: in every order of statements and at every time within the model's bounds.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from requirements import require_executable

from pacekeeper.protocol.commitments.transitions import TABLE, Event, Phase

MODEL = Path(__file__).with_name("commitment.pml")
SPECIFICATION = MODEL.parents[2] / "specs" / "models.md"
TRACK_RECORD = MODEL.parents[1] / "TRACK_RECORD.md"

_SECTION = re.compile(r"/\* --- the table.*?\*/(.*?)/\* --- end of the table --- \*/", re.DOTALL)
_ROW = re.compile(r":: phase == (\w+) +&& event == (\w+) +-> phase = (\w+);")
_UNREACHED = re.compile(r'^\t\S+:\d+, state \d+, "(.*)"$', re.MULTILINE)


@dataclass(frozen=True)
class Search:
    """One configuration of the model: what it may not see, and how many states it has at least."""

    flags: tuple[str, ...]
    unseen: frozenset[str]
    states: int


_WITHOUT_TRIGGERS = {"armed_lifted", "armed_expired", "armed_collapsed", "armed_released", "trigger_off"}
_SMALL = {"open_lapsed", "pending_lapsed", "late_pledge_refused"}

# The small ones have no last date, and end when fewer than the rule asks for are left: with those, every late pledge
# holds.
SEARCHES = {
    "terms": Search((), frozenset(_WITHOUT_TRIGGERS), 4_700_000),
    "triggers": Search(("TRIGGERS",), frozenset(_SMALL), 6_000_000),
    "liveness": Search(("LIVENESS",), frozenset(_SMALL | _WITHOUT_TRIGGERS), 1_200_000),
}

# Which assertion finds each broken rule: a part of it as spin prints it, or the claim in time.
BROKEN = {
    "BROKEN_RULE": ((), "bound==greatest"),
    "BROKEN_LEAST": ((), "bound==greatest"),
    "BROKEN_DELAY": ((), "now>=(rule_since+2)"),
    "BROKEN_COLLAPSE": ((), "greatest!=0"),
    "BROKEN_DEADLINES": ((), "last_date==99"),
    "BROKEN_WARNING": (("TRIGGERS",), "force>=(now+2)"),
    "BROKEN_NOTICE": ((), "said[me]+2"),
    "BROKEN_MINIMUM": ((), "said["),
    "BROKEN_GATE": ((), "own>=(constrained+1)"),
    "BROKEN_LEASE": ((), "own>=(known+3)"),
    "BROKEN_LEASE_UNKNOWN": ((), "own>=(known+2)"),
    "BROKEN_LOOSENING": ((), "own<until"),
    "BROKEN_JOINING": ((), "own>=(known+2)"),
    "BROKEN_END": ((), "span==0"),
    "BROKEN_VOTES": ((), "spoke"),
    "BROKEN_STALE_VOTES": (("TRIGGERS",), "spoke"),
    "BROKEN_DEAF": (("LIVENESS",), "acceptance cycle"),
}


def search(where: Path, flags: tuple[str, ...], *, optimise: str) -> str:
    """Return what spin's search prints: every state, each kept whole, up to a depth that none has."""
    spin, compiler = require_executable("spin"), require_executable("gcc")
    in_time = "LIVENESS" in flags

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(spin, *(f"-D{flag}" for flag in flags), "-a", str(MODEL))
    run(compiler, optimise, "-DMEMLIM=3000", "-DNFAIR=3" if in_time else "-DSAFETY", "-o", "pan", "pan.c")
    return run("./pan", "-m1000", *(("-a", "-f") if in_time else ()))


def seen(text: str) -> dict[str, int]:
    """How often each thing happened that the model counts beside its states."""
    return {name: int(count) for name, count in re.findall(r"^seen (\w+) (\d+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("name", SEARCHES)
def test_no_state_breaks_a_rule(name: str, tmp_path: Path) -> None:
    wanted = SEARCHES[name]
    text = search(tmp_path, wanted.flags, optimise="-O2")
    assert "errors: 0\n" in text, text
    assert "Full statespace search for:" in text, text
    for flaw in (
        "max search depth too small",
        "Search not completed",
        "out of memory",
        "Bit statespace",
        "hash-compact",
    ):
        assert flaw not in text, text
    assert set(_UNREACHED.findall(text)) == {"-end-"}, text
    counts = seen(text)
    assert {what for what, count in counts.items() if not count} == wanted.unseen
    found = re.search(r"(\d+) states, stored", text)
    assert found is not None, text
    sys.stdout.write(f"{name}: {int(found[1]):,} states, all of them\n")
    assert int(found[1]) >= wanted.states, "the model has become smaller than what was searched"


def test_together_the_searches_see_all_that_the_table_has() -> None:
    """SPEC commitments-16, SPEC commitments-78."""
    assert frozenset.intersection(*(wanted.unseen for wanted in SEARCHES.values())) == frozenset()


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_rule_is_found(broken: str, tmp_path: Path) -> None:
    flags, by = BROKEN[broken]
    text = search(tmp_path, (broken, *flags), optimise="-O0")
    assert "errors: 1\n" in text, text
    first = next(line for line in text.splitlines() if line.startswith("pan:1:"))
    assert by in first, first


def test_every_broken_rule_of_the_model_is_tried_and_on_record() -> None:
    named = set(re.findall(r"BROKEN_[A-Z_]+", MODEL.read_text(encoding="utf-8")))
    assert named == BROKEN.keys()
    recorded = set(re.findall(r"BROKEN_[A-Z_]+", TRACK_RECORD.read_text(encoding="utf-8")))
    assert recorded == BROKEN.keys()


def test_the_table_of_the_model_is_that_of_the_engine() -> None:
    text = MODEL.read_text(encoding="utf-8")
    section = _SECTION.search(text)
    declared = re.search(r"mtype:events = \{(.*?)\}", text, re.DOTALL)
    assert section is not None
    assert declared is not None
    modelled = {Event[name] for name in re.findall(r"\w+", declared[1])}
    rows = [(Phase[before], Event[event], Phase[after]) for before, event, after in _ROW.findall(section[1])]
    assert len(rows) == section[1].count("::") - 1, "a row that is not read, or no row for what is absent"
    assert {(before, event): after for before, event, after in rows} == {
        key: after for key, after in TABLE.items() if key[1] in modelled
    }
    assert len(set(rows)) == len(rows)
    assert set(Event) - modelled == {Event.PERFORMED}, "what specs/models.md says is left out"


def test_the_specification_names_every_search() -> None:
    text = SPECIFICATION.read_text(encoding="utf-8")
    for name in SEARCHES:
        assert f"| {name} |" in text
