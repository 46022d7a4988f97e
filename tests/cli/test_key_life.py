"""Keys on a real log, with real processes: rotated while training and attesting go on, and taken from a thief.

One log, a quorum of verifiers and a lab's daemon with a job at work, each a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Processes
from site_on_disk import BRISK_TERMS, Site, found_site

from pacekeeper.client.keyfiles import load_key
from pacekeeper.client.receipts import SubmitRefused, WitnessedReceipt
from pacekeeper.protocol.keys import SigningKey, parse_public_key
from pacekeeper.protocol.units import format_time

Run = Callable[..., Any]
Must = Callable[..., str]

LAB = "lab-borealis"
JOB = "import time\nwhile True: time.sleep(0.1)"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    site = found_site(tmp_path_factory.mktemp("keys"), {"borealis": "norland"}, BRISK_TERMS)
    names = ("log", *site.verifiers[:3], LAB)
    with Processes(site) as running:
        running.start_role(*names)
        running.wait_ready(*names)
        config = str(config_of(site, LAB))
        command = ["lab", "exec", config, "--run", "run-1", "--", "python3", "-c", JOB]
        running.start_python("job", ["-m", "pacekeeper.cli.main", *command])
        yield running


def config_of(site: Site, name: str) -> Path:
    return site.home(name) / f"{name.partition('-')[0]}.toml"


def status(site: Site) -> Any:
    return json.loads((site.state(LAB) / "status.json").read_text())


def attested_after(running: Processes, seconds: float = 60) -> int:
    """Wait until the lab has delivered the account of a period that began after this moment; return the period."""
    site = running.site
    period = site.agreement.period_of(time.time_ns() // 1_000_000) + 1
    deadline = time.monotonic() + seconds
    while True:
        now = status(site)
        if (now["last_period_attested"] or 0) >= period and now["outbox"] == 0:
            assert now["problems"] == []
            return period
        running.check_alive()
        assert time.monotonic() < deadline, now
        time.sleep(0.1)


def audited(must: Must, site: Site) -> dict[str, Any]:
    """The record, which must be without violation or void entry."""
    said = must("audit", site.url, "--fingerprint", site.agreement.fingerprint.hex(), "--json", "--jobs", "0")
    record: dict[str, Any] = json.loads(said)["record"]
    assert record["voids"] == []
    return record


def submit(site: Site, run: str, key: SigningKey) -> WitnessedReceipt | SubmitRefused:
    """Declare a run with whichever key, over the lab's connection."""

    async def send() -> Any:
        async with site.client("borealis") as log:
            [answer] = await log.submit([site.declaration("borealis", run, key)])
            return answer

    answer = asyncio.run(send())
    assert isinstance(answer, WitnessedReceipt | SubmitRefused)
    return answer


def test_a_lab_rotates_its_key_while_training_and_attesting_go_on(
    running: Processes, must: Must, pacekeeper: Run
) -> None:
    """SPEC keys-6, SPEC node-35, SPEC cli-23."""
    site = running.site
    config, keys = config_of(site, LAB), site.home(LAB) / "keys"
    attested_after(running)
    first = load_key(keys / "lab.key")
    said = must("lab", "rotate-key", config, "--receipt", site.root / "rotation.proof")
    assert "the key of lab borealis is its number 2 now" in said
    second = load_key(keys / "lab.key")
    assert second.key_id != first.key_id
    assert load_key(keys / "lab.key.retired-1").key_id == first.key_id
    assert not (keys / "lab.next.key").exists()
    assert (site.root / "rotation.proof").read_bytes().startswith(b"c2sp.org/tlog-proof@v1\n")
    assert f"{keys / 'lab.key'} is the key in force, number 2" in must("doctor", config)
    attested_after(running)
    running.kill(LAB)
    running.start_role(LAB)
    running.wait_ready(LAB)
    attested_after(running)
    refused = submit(site, "too-late", first)
    assert isinstance(refused, SubmitRefused)
    assert refused.code == "key-retired"
    record = audited(must, site)
    [change] = record["keys"]["retired"]
    assert (change["holder"], change["epoch"], change["replaced"]) == ("borealis", 1, False)
    assert record["violations"] == []


def test_an_interrupted_rotation_is_finished_by_the_same_command(
    running: Processes, must: Must, pacekeeper: Run
) -> None:
    """SPEC cli-23: with the rotation on the log and the files as they were; and the daemon does not wait for it."""
    site = running.site
    config, keys = config_of(site, LAB), site.home(LAB) / "keys"
    kept = (keys / "lab.key").read_bytes()
    must("lab", "rotate-key", config)
    before = audited(must, site)["keys"]["in_force"]
    (keys / "lab.key").rename(keys / "lab.next.key")
    (keys / "lab.key").write_bytes(kept)
    (keys / "lab.key").chmod(0o600)
    epoch = next(key["epoch"] for key in before if key["holder"] == "borealis")
    (keys / f"lab.key.retired-{epoch - 1}").unlink()
    running.kill(LAB)
    running.start_role(LAB)
    running.wait_ready(LAB)
    attested_after(running)
    outcome = pacekeeper("lab", "rotate-key", config)
    assert outcome.status == 2
    assert "was in force already" in outcome.err
    assert (keys / "lab.key").read_bytes() != kept
    assert audited(must, site)["keys"]["in_force"] == before


def test_a_verifier_rotates_its_statement_key(running: Processes, must: Must) -> None:
    site = running.site
    home = site.home("verifier-norland")
    old = load_key(home / "keys/statement.key")
    said = must("verifier", "rotate-key", config_of(site, "verifier-norland"))
    assert "the key of verifier norland is its number 2 now" in said
    assert load_key(home / "keys/statement.key").key_id != old.key_id
    running.kill("verifier-norland")
    running.start_role("verifier-norland")
    running.wait_ready("verifier-norland")
    attested_after(running)


def test_the_log_rotates_its_statement_key_while_it_runs(running: Processes, must: Must, tmp_path: Path) -> None:
    """SPEC log-30."""
    site = running.site
    rotation = tmp_path / "rotation"
    must("log", "rotate-key", site.root / "log/log.toml", "--out", rotation)
    said = must("party", "submit-rotation", config_of(site, "verifier-westmere"), rotation)
    assert "the key of log log is its number 2 now" in said
    attested_after(running)
    told = must("doctor", site.root / "log/log.toml")
    assert "statement.next.key, and " in told, "in force is the second file, until the files are put in order"
    running.kill("log")
    running.start_role("log")
    running.wait_ready("log")
    attested_after(running)


def test_a_party_rotates_its_offline_key_and_signs_with_it(
    running: Processes, must: Must, pacekeeper: Run, tmp_path: Path
) -> None:
    """SPEC keys-6, SPEC cli-16: with each key on a machine of its own."""
    site = running.site
    old = site.root / "party/sudland/keys/party.key"
    new, half, whole = tmp_path / "new.key", tmp_path / "half", tmp_path / "whole"
    making = ("party", "rotate-key", "--bundle", site.root / "bundle", "--party", "sudland", "--epoch", 2)
    must(*making, "--new-key", new, "--out", half)
    through = config_of(site, "verifier-sudland")
    outcome = pacekeeper("party", "submit-rotation", through, half)
    assert outcome.status == 2
    assert "missing-signature" in outcome.err
    said = must("party", "sign-rotation", half, "--key", old, "--out", whole)
    assert "key 2 of party sudland is to be ed25519:" in said
    assert "the key of party sudland is its number 2 now" in must("party", "submit-rotation", through, whole)
    outcome = pacekeeper("commitment", "lift", "nothing", through, "--key", old)
    assert outcome.status == 5
    assert "is key 1 of party sudland, which entry" in outcome.err
    outcome = pacekeeper("commitment", "lift", "nothing", through, "--key", new)
    assert "unknown-commitment" in outcome.err, "the key is taken, and there is no such commitment"
    shutil.copy(new, old.with_name("party.key.new"))


def test_a_stolen_key_is_replaced_by_the_parties(running: Processes, must: Must, tmp_path: Path) -> None:
    """SPEC keys-7, SPEC keys-10, SPEC node-35: the thief is heard no more, and the lab goes on under its next key."""
    site = running.site
    config, keys = config_of(site, LAB), site.home(LAB) / "keys"
    stolen = load_key(keys / "lab.key")
    epoch = next(key["epoch"] for key in audited(must, site)["keys"]["in_force"] if key["holder"] == "borealis")
    public = must("lab", "new-key", config).strip()
    assert parse_public_key(public) == load_key(keys / "lab.next.key").public
    document = tmp_path / "new-key.md"
    settings = {
        "title": "A new key for Borealis",
        "id": "new-key",
        "role": "lab",
        "holder": "borealis",
        "epoch": str(epoch + 1),
        "key": public,
        "parties": "3",
        "delay": "1 s",
        "notice": "0 s",
        "pledges_by": format_time((int(time.time()) + 3_600) * 1000),
    }
    given = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    must("commitment", "new", "--template", "keys", *given, "--out", document)
    must("commitment", "lint", document, "--bundle", site.root / "bundle")
    for party in ("norland", "sudland", "westmere"):
        name = "party.key.new" if party == "sudland" else "party.key"
        calling = (config_of(site, f"verifier-{party}"), "--key", site.root / "party" / party / "keys" / name)
        if party == "norland":
            must("commitment", "propose", document, *calling)
        must("commitment", "pledge", "new-key", *calling, "--document", document)
    deadline = time.monotonic() + 30
    while not audited(must, site)["keys"]["retired"][-1]["replaced"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    refused = submit(site, "thiefs", stolen)
    assert isinstance(refused, SubmitRefused)
    assert refused.code == "key-retired"
    assert "replaced by the parties" in refused.message
    attested_after(running)
    record = audited(must, site)
    assert record["keys"]["retired"][-1]["replaced"]
    [lab] = record["labs"]
    assert lab["missing"] == []
