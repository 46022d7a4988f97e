"""The README's commands, run as a newcomer would: every shell block, in order, in a copy of the checkout.

Blocks marked `background` run in a shell of their own until the end; blocks marked `transformers` need PyTorch and
transformers. What the quick start says (`make demo`, `make test`) is run by the continuous integration itself and by
tests/system.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from requirements import require

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```sh( [a-z]+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DEADLINE_S = 240


class Block(NamedTuple):
    mark: str
    script: str


def blocks() -> list[Block]:
    """The shell blocks from `Each role for real` on, without the installation, which has happened."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text[text.index("## Each role for real") :]
    found = [Block(mark.strip(), script) for mark, script in _BLOCK.findall(part)]
    return [block for block in found if ".venv" not in block.script]


class Shells:
    """Runs blocks with this interpreter's commands first on the path, and ends what they leave."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path}
        self.background: list[subprocess.Popen[bytes]] = []

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
        )

    def start(self, script: str, ready: Path) -> None:
        with (self.directory / f"shell-{len(self.background)}.log").open("wb") as output:
            command = ["bash", "-euo", "pipefail", "-c", script]
            running = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.background.append(running)
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert running.poll() is None, Path(output.name).read_text()
            assert time.monotonic() < deadline, f"{ready} did not appear"
            time.sleep(0.05)

    def end(self) -> None:
        for running in self.background:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGTERM)
        for running in self.background:
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[Shells]:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    made = Shells(tmp_path)
    yield made
    made.end()


@pytest.mark.timeout(600)
def test_every_role_by_hand_as_the_readme_says(shells: Shells) -> None:
    require("jax")
    site = shells.directory / "site"
    ready = iter([site / "log/state/ready", site / "verifier/state/ready", site / "lab/state/ready"])
    (site).mkdir()
    exports = ""
    marks = [block.mark for block in blocks()]
    assert marks.count("background") == 3
    assert marks.count("audit") == 1
    for block in blocks():
        if block.mark == "background":
            shells.start(block.script, next(ready))
            continue
        if block.mark == "transformers":
            require("torch")
            require("transformers")
        if block.mark == "audit":
            _wait_for_accounts(shells, site)
        done = shells.run(exports + block.script)
        assert done.returncode == 0, f"{block.script}\n{done.stdout}\n{done.stderr}"
        if "export PACEKEEPER_SOCKET" in block.script:
            exports = next(line for line in block.script.splitlines() if line.startswith("export")) + "\n"
        if block.mark == "audit":
            assert "VERIFIED AND COMPLIANT" in done.stdout
            assert "view cross-checked" in done.stderr


def _wait_for_accounts(shells: Shells, site: Path) -> None:
    """Until the lab has delivered what was trained, so that the audit below speaks of it."""
    import json

    deadline = time.monotonic() + 120
    while True:
        status = json.loads(shells.run("pacekeeper lab status site/lab/lab.toml --json").stdout)
        accounted = status["last_period_attested"] is not None and status["outbox"] == 0
        if accounted and time.time() * 1000 > _end_ms(status["last_period_attested"]) and not status["problems"]:
            return
        assert time.monotonic() < deadline, status
        time.sleep(1)


def _end_ms(period: int) -> int:
    """End of a period of the README's calendar: 20 seconds each since 2026."""
    return 1_767_225_600_000 + (period + 1) * 20_000
