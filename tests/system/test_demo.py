"""The demonstration as a newcomer runs it: what it shows, what an auditor elsewhere makes of it, and Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from requirements import require
from site_on_disk import child_environment

require("jax")

MARK = "PACEKEEPER_TEST_MARK"  # in the environment of a demonstration, and so of every process that it starts
DEMO_S = 420  # "about two minutes", on a machine that does something else besides


@dataclass(frozen=True)
class Demo:
    """A demonstration that has ended: its directory, its output, and the mark of its processes."""

    directory: Path
    output: str
    status: int
    mark: str

    @property
    def fingerprint(self) -> str:
        found = re.search(r"fingerprint ([0-9a-f]{64})", self.output)
        assert found is not None, self.output
        return found[1]


def start_demo(directory: Path, mark: str) -> subprocess.Popen[str]:
    """`pacekeeper demo --dir DIRECTORY` in a session of its own, as a terminal would have it."""
    return subprocess.Popen(
        [sys.executable, "-m", "pacekeeper.cli.main", "demo", "--dir", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=child_environment({MARK: mark, "PYTHONUNBUFFERED": "1"}),
        start_new_session=True,
    )


def marked(mark: str) -> list[str]:
    """The command lines of all processes that live and have this mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return found


def end_marked(mark: str) -> None:
    """End what a failed test has left behind."""
    wanted = f"{MARK}={mark}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory, mark = tmp_path_factory.mktemp("demo") / "site", uuid.uuid4().hex
    process = start_demo(directory, mark)
    try:
        output, _ = process.communicate(timeout=DEMO_S)
        yield Demo(directory, output, process.returncode, mark)
    finally:
        end_marked(mark)


def run_audit(place: Path, fingerprint: str) -> subprocess.CompletedProcess[bytes]:
    """`pacekeeper audit` as a command; nothing of the demonstration's runs any more."""
    arguments = [sys.executable, "-m", "pacekeeper.cli.main", "audit", str(place), "--fingerprint", fingerprint]
    return subprocess.run(arguments, capture_output=True, timeout=120, check=False, env=child_environment())


@pytest.mark.timeout(DEMO_S + 120)
def test_the_demonstration_shows_what_it_promises(demo: Demo) -> None:
    """Done when 1: exit 0, a run-splitting violation, a missing period, a verified audit, no process left behind."""
    assert demo.status == 0, demo.output
    report = demo.output.partition("every process has ended")[2]
    [splitting] = [line for line in report.splitlines() if "run-cap-exceeded: meridian/shard-3" in line]
    assert "as meridian/shard-1 + meridian/shard-2 + meridian/shard-3" in splitting, report
    assert "period-missing: borealis gave no account of period" in report, report
    assert "VERIFIED, WITH VIOLATIONS" in report, report
    assert marked(demo.mark) == []


@pytest.mark.timeout(DEMO_S + 120)
def test_an_auditor_elsewhere_prints_the_same_report_byte_for_byte(demo: Demo, tmp_path: Path) -> None:
    """Done when 2: every server stopped, the directory copied elsewhere; also what the demonstration itself printed."""
    elsewhere = tmp_path / "copied"
    shutil.copytree(demo.directory, elsewhere)
    shutil.move(demo.directory, moved := demo.directory.with_name("moved-away"))
    try:
        first = run_audit(elsewhere, demo.fingerprint)
        only_public = tmp_path / "public"
        shutil.copytree(elsewhere / "log/state/public", only_public)
        second = run_audit(only_public, demo.fingerprint)
    finally:
        shutil.move(moved, demo.directory)
    original = run_audit(demo.directory, demo.fingerprint)
    assert original.returncode == first.returncode == second.returncode == 1, original.stderr.decode()
    assert original.stdout == first.stdout == second.stdout
    assert original.stdout.decode() in demo.output


@pytest.mark.timeout(DEMO_S + 120)
def test_one_changed_byte_in_the_copy_is_named(demo: Demo, tmp_path: Path) -> None:
    """Done when 2: the copy's own entries are what was audited, not something fetched from elsewhere."""
    elsewhere = tmp_path / "copied"
    shutil.copytree(demo.directory, elsewhere)
    files = [path for path in (elsewhere / "log/state/public/tile/entries").rglob("*") if path.is_file()]
    bundle = max(
        files, key=lambda path: path.stat().st_size
    )  # of the present tree; a smaller one may be an older one's
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    audited = run_audit(elsewhere, demo.fingerprint)
    assert audited.returncode == 3, audited.stdout.decode()
    assert b"tile/" in audited.stdout


@pytest.mark.timeout(DEMO_S)
@pytest.mark.parametrize("moment", ["borealis trains one run", "make their keys"])
def test_ctrl_c_leaves_no_process_behind(tmp_path: Path, moment: str) -> None:
    """Ctrl-C while everything runs, and while everything is being set up: nothing of it is left a little later."""
    mark = uuid.uuid4().hex
    process = start_demo(tmp_path / "site", mark)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if moment in line:
                break
        else:
            raise AssertionError(f"the demonstration ended before it said {moment!r}")
        time.sleep(2)
        seen = marked(mark)
        os.killpg(process.pid, signal.SIGINT)
        process.stdout.read()
        assert process.wait(60) == 130
        if "trains" in moment:
            assert len(seen) > 7, "the log, the verifiers, the labs and the training were at work"
        assert marked(mark) == []
    finally:
        end_marked(mark)
        process.wait(30)
