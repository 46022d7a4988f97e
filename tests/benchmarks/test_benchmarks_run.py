"""The benchmarks still run: each in its tiny configuration, as the command runs it; no clock is asserted.

A tiny run measures nothing worth knowing. It shows that every part still fits the code that it measures, that the
figures have the promised fields, and that the verdict follows from value and bound.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from requirements import require

ROOT = Path(__file__).resolve().parents[2]
BOUNDED = {
    "replay": 10.0,
    "audit": 0.8,
    "ingest": 2.0,
    "latency": 25.0,
    "memory": 150.0,
    "meter": 0.1,
    "pledges": 50.0,
    "hold": 1.05,
    "restart": 0.5,
    "witness": 250.0,
    "sealed": 1.25,
    "cli": 0.3,
}
FIELDS = {"name", "value", "unit", "raw", "bound", "at_least", "stretch", "ratio", "met", "note"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def tiny(name: str) -> dict[str, Any]:
    done = run(name, "--tiny", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["size"] == "TINY"
    assert "Python" in report["machine"]
    (benchmark,) = report["benchmarks"]
    assert isinstance(benchmark, dict)
    return benchmark


@pytest.mark.parametrize("name", BOUNDED)
def test_each_benchmark_reports_its_promised_figures(name: str) -> None:
    if name == "meter":
        require("jax")
    benchmark = tiny(name)
    assert benchmark["benchmark"] == name
    assert "process" in benchmark["topology"]
    figures = benchmark["figures"]
    headline = figures[0]
    assert headline["bound"] == BOUNDED[name], "the stated bound is the issue's"
    for figure in figures:
        assert set(figure) == FIELDS
        assert figure["value"] > 0 or name == "memory"  # a small log can be below the noise of a process's memory
        assert re.search(r"\d", figure["raw"]), "each figure has a measured raw cost beside it"
        if figure["bound"] is None:
            assert figure["ratio"] is None
            assert figure["met"] is None
        else:
            assert figure["ratio"] == pytest.approx(figure["value"] / figure["bound"])
            low, high = sorted((figure["value"], figure["bound"]))
            assert figure["met"] == ((figure["bound"] == low) if figure["at_least"] else (figure["bound"] == high))
    for table in benchmark["tables"]:
        assert table["rows"]
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
    if name == "replay":
        table, _ = benchmark["tables"]
        *parts, whole = (float(row[1]) for row in table["rows"])
        assert sum(parts) == pytest.approx(whole, abs=0.01 * len(parts)), "the stages make up the whole"


def test_a_missed_bound_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.__main__ import summary
    from benchmarks.support.figures import Figure, Figures

    results = Figures(
        "made-up",
        "one process",
        (
            Figure("low enough", 9.9, "us", "raw 1 us", bound=10.0),
            Figure("too much", 10.1, "us", "raw 1 us", bound=10.0),
            Figure("enough", 0.85, "of raw", "raw 1 us", bound=0.8, at_least=True, stretch=0.9),
            Figure("too little", 0.79, "of raw", "raw 1 us", bound=0.8, at_least=True),
            Figure("reported", 5.0, "us", "raw 1 us"),
        ),
    )
    assert [figure.met for figure in results.figures] == [True, False, True, False, None]
    said = summary([results], 1.0)
    assert said.startswith("2 of 4 bounds met")
    assert said.count("MISSED") == 2
    assert "at most 10, ratio 1.01: MISSED" in results.to_text()
    assert "met, stretch 0.9 missed" in results.to_text()
    assert "| too little | 0.79 of raw | raw 1 us | at least 0.8, ratio 0.99: MISSED |" in results.to_markdown()


def test_an_unknown_name_is_a_usage_error() -> None:
    done = run("speed")
    assert done.returncode == 2
    assert "there is no benchmark speed" in done.stderr


def test_the_readme_is_not_rewritten_by_a_part() -> None:
    assert run("cli", "--markdown").returncode == 2


def test_no_process_is_left_behind_by_an_interrupted_run(tmp_path: Path) -> None:
    """Kills a run in the middle, as `kill -9` does, and waits until the servers that it has started are gone."""
    environment = dict(os.environ, TMPDIR=str(tmp_path))
    command = [sys.executable, "-m", "benchmarks", "latency", "--tiny"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as running:
        try:
            deadline = time.monotonic() + 60
            while len(_children_using(tmp_path)) < 5:  # the log and four verifiers
                assert running.poll() is None, "the run ended before it was killed"
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            running.send_signal(signal.SIGKILL)
            running.wait()
    deadline = time.monotonic() + 20
    while left := _children_using(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _children_using(directory: Path) -> list[int]:
    """Processes that were given a file below a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in arguments:
                found.append(int(entry.name))
    return found
