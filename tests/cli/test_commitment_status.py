"""`commitment status`: how commitments stand on a log that verifies, and nothing of one that does not."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pledged_world import PledgedWorld
from published_log import PublishedLog, served

from pacekeeper.audit.story import tell_moments
from pacekeeper.protocol.commitments.standing import Moment

Run = Callable[..., Any]
Must = Callable[..., str]


@pytest.fixture
def pledged(tmp_path: Path) -> PublishedLog:
    """A pause in force, with one vote for lifting it and one notice of withdrawal."""
    world = PledgedWorld()
    world.agreed(world.start(1))
    world.pledge("eastholm", world.start(1) + 1_000)
    world.lift("norland", world.start(1) + 40_000)
    world.withdraw("eastholm", world.start(1) + 41_000)
    return PublishedLog(world, tmp_path / "log")


def status(log: PublishedLog, *words: object) -> tuple[object, ...]:
    return ("commitment", "status", *words, log.directory, "--fingerprint", log.fingerprint.hex(), "--jobs", "0")


def test_status_tells_how_a_commitment_stands_and_how_it_came_to(must: Must, pledged: PublishedLog) -> None:
    """SPEC cli-15."""
    told = must(*status(pledged, "halt"))
    lines = [line.strip() for line in told.splitlines()]
    assert lines[0].startswith('halt, "Test halt", pause, document ')
    for expected in (
        "now IN FORCE; entered into force at 2026-01-01T00:01:50Z",
        "bites from 2026-01-01T00:02:10Z",
        "ends at 2026-01-01T10:01:50Z",
        "lifting takes parties>=2; for it: norland",
    ):
        assert expected in lines
    assert any(line.startswith("pledge of norland (entry ") and "if with sudland: bound from" in line for line in lines)
    assert any(line.startswith("pledge of eastholm") and "notice given, leaves at 2026-01-31" in line for line in lines)
    story = told[told.index("time line") :]
    order = [
        "proposed by norland",
        "pledged by sudland",
        "conditions are met",
        "in force",
        "speaks for",
        "gives notice",
    ]
    assert [story.index(words) for words in order] == sorted(story.index(words) for words in order)


def test_without_an_id_all_are_told(must: Must, pledged: PublishedLog) -> None:
    assert must(*status(pledged)) == must(*status(pledged, "halt"))


def test_status_as_json(must: Must, pledged: PublishedLog) -> None:
    """SPEC cli-8."""
    [halt] = json.loads(must(*status(pledged), "--json"))
    assert (halt["commitment"], halt["phase"], halt["lift_votes"]) == ("halt", "in-force", ["norland"])
    assert [one["participant"] for one in halt["pledges"] if one["leaves_ms"]] == ["eastholm"]


def test_status_at_an_earlier_size(must: Must, pledged: PublishedLog) -> None:
    index = next(m.index for m in pledged.world.state.commitments.timeline("halt") if m.what == "pledged")
    assert "now open for pledges" in must(*status(pledged), "--at", index + 1)
    assert must(*status(pledged), "--at", 2) == "no commitment has been proposed\n"


def test_the_reasons_of_who_leaves_are_told_and_inert(must: Must, tmp_path: Path) -> None:
    """SPEC commitments-77, cli-2: in words by status and by the audit, and in JSON; text of the log stays text."""
    hostile = 'cap"; <script>alert(1)</script> =cmd|x'
    world = PledgedWorld()
    world.agreed(world.start(1))
    world.pledge("eastholm", world.start(1) + 1_000)
    world.withdraw("eastholm", world.start(1) + 41_000, hostile)
    log = PublishedLog(world, tmp_path / "log")
    said = f'eastholm gives notice of withdrawal, and leaves at 2026-01-31T00:02:21Z; its reasons: "{hostile}"'
    assert said in must(*status(log, "halt"))
    report = must("audit", log.directory, "--fingerprint", log.fingerprint.hex(), "--jobs", "0")
    assert said in report
    [halt] = json.loads(must(*status(log, "halt"), "--json"))
    assert [moment["reason"] for moment in halt["timeline"] if moment["what"] == "notice"] == [hostile]
    # What a statement may not say at all is escaped all the same, should it ever get so far.
    moment = Moment(0, 1, "halt", "withdrawn", "x", "open", "\x1b[31m\u202e")
    standing = world.state.commitments.standing("halt")
    standing.timeline[:] = [moment]
    [(_, told)] = tell_moments(standing)
    assert told == 'the pledge of x is withdrawn; its reasons: "\\u{1b}[31m\\u{202e}"'


def test_status_at_a_past_time(must: Must, pledged: PublishedLog) -> None:
    """SPEC commitments-75: between two entries too, and whatever came later."""
    assert must(*status(pledged), "--at-time", "2026-01-01T00:00:05Z").endswith("\nno commitment has been proposed\n")
    told = must(*status(pledged, "halt"), "--at-time", "2026-01-01T00:01:49Z")
    assert told.startswith("as it stood at 2026-01-01T00:01:49Z, after entry ")
    assert "then pending: the delay runs until 2026-01-01T00:01:50Z" in told
    told = must(*status(pledged, "halt"), "--at-time", "2026-01-01T00:01:50.5Z")
    assert "then IN FORCE; entered into force at 2026-01-01T00:01:50Z" in told
    assert "speaks for" not in told
    assert "foreseen" not in told


def test_status_at_a_time_that_the_log_has_not_come_to(must: Must, pledged: PublishedLog) -> None:
    """SPEC commitments-75: who gave notice leaves, and the term ends."""
    told = must(*status(pledged, "halt"), "--at-time", "2026-01-01T10:00:00Z")
    assert re.match(r"as it would stand at 2026-01-01T10:00:00Z, if nothing were said after entry \d+, of 2026", told)
    assert "then IN FORCE" in told
    told = must(*status(pledged, "halt"), "--at-time", "2026-03-01T00:00:00Z")
    assert "then ended (expired)" in told
    assert "\n    foreseen, 2026-01-01T10:01:50Z: ended: its term is over\n" in told
    [halt] = json.loads(must(*status(pledged, "halt"), "--at-time", "2026-03-01T00:00:00Z", "--json"))
    assert (halt["foreseen"], halt["at_ms"], halt["phase"]) == (True, 1772323200000, "ended")
    assert [moment["what"] for moment in halt["timeline"] if moment["index"] is None] == ["expired"]
    [now] = json.loads(must(*status(pledged, "halt"), "--json"))
    assert "at_ms" not in now


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--at-time", "2025-12-31T23:59:59Z"), "the log begins later, at 2026-01-01T00:00:00Z"),
        (("--at-time", "yesterday"), "--at-time: "),
        (("--at-time", "2026-01-01T00:01:50Z", "--at", "3"), "either --at or --at-time"),
    ],
)
def test_a_time_that_cannot_be_looked_at(
    pacekeeper: Run, pledged: PublishedLog, words: tuple[str, ...], said: str
) -> None:
    """SPEC cli-1."""
    outcome = pacekeeper(*status(pledged, "halt"), *words)
    assert (outcome.status, outcome.out) == (2, "")
    assert said in outcome.err


def test_the_document_is_had_from_the_log(must: Must, pacekeeper: Run, pledged: PublishedLog, tmp_path: Path) -> None:
    """SPEC cli-4: byte for byte, and never over another file."""
    saved = tmp_path / "saved.md"
    must(*status(pledged, "halt"), "--save", saved)
    assert hashlib.sha256(saved.read_bytes()).digest() == pledged.world.state.commitments.standing("halt").terms.digest
    assert "exists already" in pacekeeper(*status(pledged, "halt"), "--save", saved).err
    assert "name its ID" in pacekeeper(*status(pledged), "--save", tmp_path / "other.md").err


def test_an_unknown_commitment_is_a_sentence(pacekeeper: Run, pledged: PublishedLog) -> None:
    """SPEC cli-1, cli-2."""
    outcome = pacekeeper(*status(pledged, "no\x1bsuch"))
    assert (outcome.status, outcome.out) == (2, "")
    assert 'there is no commitment "no\\u{1b}such" (unknown-commitment)' in outcome.err


def test_nothing_is_told_of_a_log_that_does_not_verify(pacekeeper: Run, pledged: PublishedLog) -> None:
    """SPEC cli-15."""
    outcome = pacekeeper("commitment", "status", pledged.directory, "--fingerprint", "0" * 64)
    assert (outcome.status, outcome.out) == (3, "")
    assert "does not verify (1 fault): entry 0: wrong-agreement" in outcome.err
    pledged.write(cosigners=("norland",))
    outcome = pacekeeper(*status(pledged))
    assert (outcome.status, outcome.out) == (3, "")
    assert "no-quorum" in outcome.err


def test_a_live_log_that_stands_still_is_stale(pacekeeper: Run, pledged: PublishedLog) -> None:
    """SPEC cli-7: what is told is told, and the exit status says that it is old."""
    with served(pledged.directory) as url:
        fingerprint = pledged.fingerprint.hex()
        outcome = pacekeeper("commitment", "status", url, "--fingerprint", fingerprint, "--offline", "--jobs", "0")
    assert outcome.status == 4
    assert "now IN FORCE" in outcome.out
    assert "STALE" in outcome.err


def test_violations_do_not_change_the_exit_status(must: Must, tmp_path: Path) -> None:
    world = PledgedWorld()
    world.agreed(world.start(1))
    world.to(world.end(1))
    world.attest("borealis", 1, {"run-1": 0})
    world.to(world.end(2))
    world.attest("borealis", 2, {"run-1": 40})
    assert "pause-breached: borealis trained on" in must(*status(PublishedLog(world, tmp_path / "log")))
