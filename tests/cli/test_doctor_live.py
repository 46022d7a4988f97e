"""The doctor beside a running log and running verifiers, all real processes over mutual TLS on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def start(root: Path, name: str, *arguments: object) -> subprocess.Popen[bytes]:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    command = [sys.executable, "-m", "pacekeeper.cli.main", *map(str, arguments)]
    with (root / f"{name}.out").open("wb") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=out)


@pytest.fixture
def running(founding: Any, must: Run) -> Iterator[Any]:
    """A log and three of four verifiers, until a quorum has published."""
    root = founding.root
    text = founding.document.read_text()
    addresses = {line.split('"')[1] for line in text.split("\n") if line.startswith("address = ")}
    assert len(addresses) == 5
    log_table = text[text.index("[log]") :]
    log_address = log_table.split('address = "')[1].split('"')[0]
    url = log_table.split('url = "')[1].split('"')[0]
    http = url.removeprefix("http://").rstrip("/")
    must("log", "init", root / "log", "--bundle", founding.bundle, "--listen", log_address, "--http-listen", http)
    must("lab", "init", root / "borealis", "--lab", "borealis", "--bundle", founding.bundle)
    processes = [start(root, "log", "log", "serve", root / "log/log.toml")]
    for party in ("norland", "sudland", "westmere"):
        table = text[text.index(f'id = "{party}"') :]
        listen = table.split('address = "')[1].split('"')[0]
        directory = root / f"{party}-v"
        must("verifier", "init", directory, "--party", party, "--bundle", founding.bundle, "--listen", listen)
        processes.append(start(root, party, "verifier", "run", directory / "verifier.toml"))
    try:
        deadline = time.monotonic() + 60
        while not (root / "log/state/public/checkpoint").exists():
            assert time.monotonic() < deadline, (root / "log.out").read_text()[-2000:]
            assert all(process.poll() is None for process in processes), (root / "norland.out").read_text()[-2000:]
            time.sleep(0.05)
        yield founding
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def test_beside_running_servers(running: Any, pacekeeper: Run, must: Run) -> None:
    """SPEC cli-12: the doctor, the status and the audit agree with the processes that run."""
    root = running.root
    for role, config in (
        ("log", "log/log.toml"),
        ("verifier", "norland-v/verifier.toml"),
        ("lab", "borealis/lab.toml"),
    ):
        outcome = pacekeeper("doctor", root / config, "--json")
        checks: dict[str, list[dict[str, str]]] = {}
        for check in json.loads(outcome.out)["checks"]:
            checks.setdefault(check["name"], []).append(check)
        assert outcome.status == 0, outcome.out
        assert "shows the certificate that the agreement pins" in checks["log"][0]["sentence"]
        assert "cosigned by 3 of 4 verifiers" in checks["checkpoint"][0]["sentence"]
        assert {check["level"] for check in checks["clock"]} == {"ok"}
        assert any("agrees with that of the log's web server" in check["sentence"] for check in checks["clock"])
        assert checks["verifier_norland"][0]["level"] == "ok"
        assert checks["verifier_eastholm"][0]["level"] == "warn"
        if role == "lab":
            assert "the log takes our calls" in checks["log_knows_us"][0]["sentence"]
        else:
            assert "is held by the running role" in checks["listen"][0]["sentence"]
    status = json.loads(must("verifier", "status", root / "norland-v/verifier.toml", "--json"))
    assert (status["party"], status["connected"]) == ("norland", True)
    url = next(line.split('"')[1] for line in running.document.read_text().split("\n") if line.startswith("url = "))
    fingerprint = json.loads(must("agreement", "show", running.document, "--json"))["fingerprint"]
    audited = pacekeeper("audit", url, "--fingerprint", fingerprint)
    assert audited.status == 0, audited.out
    assert "view cross-checked: 3 verifiers confirmed it" in audited.err
    assert "verifier eastholm did not answer (unreachable)" in audited.err


def test_a_lab_whose_key_the_log_does_not_know_is_told_so(running: Any, pacekeeper: Run) -> None:
    from pacekeeper.client.tls import make_certificate

    keys = running.root / "borealis/keys"
    key, certificate = make_certificate("pacekeeper:lab/borealis")
    (keys / "tls.pem").write_bytes(key)
    (keys / "tls.crt.pem").write_bytes(certificate)
    outcome = pacekeeper("doctor", running.root / "borealis/lab.toml", "--json")
    failed = {check["name"] for check in json.loads(outcome.out)["checks"] if check["level"] == "fail"}
    assert outcome.status == 5
    assert failed == {"tls_certificate", "log_knows_us"}
