"""Acts on a real log: two parties pledge, the pause comes into force, and both lift it. Refusals in a sentence."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commitment_templates import fill
from commitments import build_commitment
from processes import Processes
from site_on_disk import BRISK_TERMS, Site, found_site

from pacekeeper.client.submit import LogClient
from pacekeeper.protocol.units import format_time

Run = Callable[..., Any]
Must = Callable[..., str]

TERMS = {"delay": "2 s", "notice": "1 s", "wind_down": "10 s", "lease": "5 s", "cut_off": "1 s"}


def document(path: Path, ident: str, **changes: str) -> Path:
    """A conditional pause of Norland and Sudland that can come into force while one watches."""
    by = format_time((int(time.time()) + 3_600) * 1000)
    path.write_bytes(fill("bilateral", **TERMS, pledges_by=by, id=ident, **changes))
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A log and a quorum of verifiers, each a process of its own."""
    site = found_site(tmp_path_factory.mktemp("acts"), {"borealis": "norland"}, BRISK_TERMS)
    names = ("log", *site.verifiers[:3])
    with Processes(site) as running:
        running.start_role(*names)
        running.wait_ready(*names)
        yield site


def calling(site: Site, party: str) -> tuple[object, ...]:
    """The arguments with which a party acts."""
    config = site.home(f"verifier-{party}") / "verifier.toml"
    return (config, "--key", site.root / "party" / party / "keys/party.key", "--as", party)


def waiting_status(must: Must, site: Site, ident: str, word: str) -> str:
    """What `status` tells once it has a word."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        told = must(
            "commitment", "status", ident, site.url, "--fingerprint", site.agreement.fingerprint.hex(), "--jobs", "0"
        )
        if word in told:
            return told
        time.sleep(0.2)
    raise AssertionError(f"{word!r} is not in:\n{told}")


def test_two_parties_pledge_and_lift_a_pause(must: Must, pacekeeper: Run, site: Site, tmp_path: Path) -> None:
    """SPEC cli-17, SPEC cli-18: on a real log, from the document to the lift."""
    draft = document(tmp_path / "pause.md", "mutual-pause")
    must("commitment", "lint", draft, "--bundle", site.root / "bundle")

    said = must("commitment", "propose", draft, *calling(site, "norland"))
    assert re.match(r"entry \d+, witnessed by the quorum\nmutual-pause, ", said)
    assert "now open for pledges" in said

    condition = ("--if", "with sudland")
    said = must("commitment", "pledge", "mutual-pause", *calling(site, "norland"), *condition, "--document", draft)
    assert "if with sudland: not bound" in said

    receipt = tmp_path / "receipt"
    said = must("commitment", "pledge", "mutual-pause", *calling(site, "sudland"), "--json", "--receipt", receipt)
    outcome = json.loads(said)
    [mutual] = outcome["commitments"]
    assert mutual["phase"] == "pending"
    assert {pledge["participant"] for pledge in mutual["pledges"] if pledge["bound_ms"]} == {"norland", "sudland"}
    assert mutual["met_ms"] == outcome["time_ms"]
    assert receipt.read_bytes().startswith(b"c2sp.org/tlog-proof")

    told = waiting_status(must, site, "mutual-pause", "now IN FORCE")
    assert "bites from " in told

    assert "norland speaks for extending it" in must("commitment", "extend", "mutual-pause", *calling(site, "norland"))
    said = must("commitment", "extend", "mutual-pause", *calling(site, "sudland"))
    assert re.search(r"\n  extended\n", said)
    assert ", extended 1 time\n" in said
    twice = pacekeeper("commitment", "extend", "mutual-pause", *calling(site, "sudland"))
    assert (twice.status, twice.out) == (2, "")
    assert "(not-liftable)" in twice.err

    said = must("commitment", "lift", "mutual-pause", *calling(site, "norland"))
    assert "norland speaks for lifting it" in said
    assert "now IN FORCE" in said
    # The same word again is the same statement, at the same place on the log.
    assert must("commitment", "lift", "mutual-pause", *calling(site, "norland")).startswith(said.partition(",")[0])
    said = must("commitment", "lift", "mutual-pause", *calling(site, "sudland"))
    assert "ended: lifted" in said
    assert "now ended (lifted)" in waiting_status(must, site, "mutual-pause", "now ended")


def test_acts_and_status_share_a_copy_of_the_log(
    must: Must, pacekeeper: Run, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC copy-3, SPEC cli-17: what one has read, the others do not fetch; damage is said and changes no answer."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = tmp_path / "cache/pacekeeper" / site.agreement.fingerprint.hex()
    draft = document(tmp_path / "pause.md", "from-a-copy")
    must("commitment", "propose", draft, *calling(site, "norland"), "--no-cache")
    assert not copy.exists()
    asked = []
    real = LogClient.follow

    def follow(self: LogClient, from_index: int = 0, **more: Any) -> Any:
        asked.append(from_index)
        return real(self, from_index, **more)

    monkeypatch.setattr(LogClient, "follow", follow)
    must("commitment", "pledge", "from-a-copy", *calling(site, "norland"))
    must("commitment", "pledge", "from-a-copy", *calling(site, "sudland"))
    assert asked[0] == 0
    assert asked[1] > 0
    status = ("commitment", "status", "from-a-copy", site.url, "--fingerprint", copy.name, "--jobs", "0", "--json")
    bound = {pledge["participant"] for pledge in json.loads(must(*status))[0]["pledges"] if pledge["bound_ms"]}
    assert bound == {"norland", "sudland"}
    (copy / "head").write_bytes((copy / "head").read_bytes()[:-1])
    told = pacekeeper(*status)
    assert told.err.count("is damaged") == 1
    assert {pledge["participant"] for pledge in json.loads(told.out)[0]["pledges"]} == bound
    assert "damaged" not in pacekeeper(*status).err


def test_a_withdrawal_before_entry_is_at_once(must: Must, pacekeeper: Run, site: Site, tmp_path: Path) -> None:
    draft = document(tmp_path / "pause.md", "short-lived")
    must("commitment", "propose", draft, *calling(site, "sudland"))
    must("commitment", "pledge", "short-lived", *calling(site, "sudland"))
    said = must("commitment", "withdraw", "short-lived", *calling(site, "sudland"), "--reason", "a rehearsal")
    assert "the pledge of sudland is withdrawn" in said
    gone = pacekeeper("commitment", "withdraw", "short-lived", *calling(site, "sudland"))
    assert (gone.status, gone.out) == (2, "")
    assert 'no pledge of "sudland" to "short-lived" stands (not-pledged)' in gone.err
    # The second pledge counts the first: it is another statement, and no copy.
    assert "pledged by sudland" in must("commitment", "pledge", "short-lived", *calling(site, "sudland"))


def test_what_the_log_refuses_is_a_sentence_with_its_code(
    must: Must, pacekeeper: Run, site: Site, tmp_path: Path
) -> None:
    """SPEC cli-1, SPEC cli-7, SPEC cli-18."""
    draft = document(tmp_path / "pause.md", "refusals")
    must("commitment", "propose", draft, *calling(site, "norland"))
    other = document(tmp_path / "other.md", "refusals", title="Another text")
    slow = tmp_path / "slow.md"
    timing = {"tick": "100 d", "tolerance": "5 s", "unwitnessed": "1 h"}
    slow.write_bytes(build_commitment("amendment", "slow", entry={"parties": 4}, timing=timing))
    stranger = document(tmp_path / "stranger.md", "stranger", second_party="atlantis")
    for words, said in (
        (("propose", other, *calling(site, "norland")), "(commitment-exists)"),
        (("propose", slow, *calling(site, "norland")), "(bad-commitment)"),
        (("propose", stranger, *calling(site, "norland")), "stranger.md: line "),
        (("pledge", "refusals", *calling(site, "norland"), "--document", other), "(bad-commitment)"),
        (("pledge", "refusals", *calling(site, "eastholm")), "(not-in-scope)"),
        (("pledge", "refusals", *calling(site, "norland"), "--if", "with atlantis"), "(bad-condition)"),
        (("pledge", "refusals", *calling(site, "norland"), "--if", "parties>3"), "--if: "),
        (("pledge", "unheard-of", *calling(site, "norland")), "(unknown-commitment)"),
        (("lift", "refusals", *calling(site, "norland")), "(not-pledged)"),
        (("extend", "refusals", *calling(site, "norland")), "(not-pledged)"),
        (("pledge", "refusals", *calling(site, "norland"), "--receipt", draft), "exists already"),
    ):
        outcome = pacekeeper("commitment", *words)
        assert (outcome.status, outcome.out) == (2, ""), outcome
        assert re.fullmatch(r"pacekeeper: [^\n]+\n", outcome.err)
        assert said in outcome.err


def test_a_report_goes_out_under_the_verifiers_own_key(must: Must, pacekeeper: Run, site: Site, tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    evidence.write_text("what was measured")
    config = site.home("verifier-norland") / "verifier.toml"
    report = ("commitment", "report", "task-horizon", config, "--unit", "h", "--evidence", evidence, "--method", "90 %")
    said = must(*report, "--lower", "7", "--central", "7.25", "--upper", "8")
    assert said.endswith("no commitment watches this indicator\n")
    by = format_time((int(time.time()) + 3_600) * 1000)
    draft = tmp_path / "triggered.md"
    reporters = {"labs": "1", "lab_reporters": '"borealis"', "external_reporters": '"norland"'}
    draft.write_bytes(fill("triggered-pause", pledges_by=by, **reporters))
    must("commitment", "propose", draft, *calling(site, "norland"))
    time.sleep(0.1)  # a report follows the reporter's last one, and the default is the time of the log's last entry
    said = must(*report, "--lower", "13", "--central", "14", "--upper", "15.5")
    assert "indicator task-horizon by norland (autonomy): not met; reported until " in said
    assert ", 1 of 3 in a row for a change\n" in said
    for wrong in (("--lower", "7"), ("--censored", "above", "--upper", "8"), ("--until", "now", "--censored", "below")):
        assert pacekeeper(*report, *wrong).status == 2
    backwards = pacekeeper(*report, "--lower", "9", "--central", "7.25", "--upper", "8")
    assert backwards.status == 2
    assert "(bad-field)" in backwards.err


def test_a_lab_acts_by_its_own_configuration(must: Must, pacekeeper: Run, site: Site, tmp_path: Path) -> None:
    draft = document(tmp_path / "pause.md", "by-a-lab")
    lab = site.home("lab-borealis") / "lab.toml"
    assert "proposed by borealis" in must("commitment", "propose", draft, lab)
    assert "pledged by borealis" in must("commitment", "pledge", "by-a-lab", lab)
