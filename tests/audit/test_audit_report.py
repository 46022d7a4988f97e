"""What an audit says of a sound log: who is inside the caps, who is late, in the same bytes on every machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from published_log import PublishedLog
from world import World

from pacekeeper.audit.export import export
from pacekeeper.audit.report import CANNOT_SHOW, lab_standing, write_report
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.protocol.compute.bounds import Outcome
from pacekeeper.protocol.envelope import encode_entry
from pacekeeper.v1 import statements_pb2 as pb

Audit = Callable[..., AuditResult]
Build = Callable[..., World]


def section(report: str, heading: str) -> list[str]:
    """The indented lines below a heading."""
    lines = report.split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith(heading))
    end = next((number for number, line in enumerate(lines[start:], start) if not line), len(lines))
    return lines[start + 1 : end]


def test_a_log_in_which_everybody_complies_exits_0(compliant: PublishedLog, run_audit: Audit) -> None:
    result = run_audit(compliant)
    report = write_report(result)
    assert result.status == Exit.COMPLIANT
    assert report.endswith("VERIFIED AND COMPLIANT: everything agrees, and nobody is in breach.\n")
    assert section(report, "Violations (0)") == ["  none"]
    assert section(report, "Labs")[0] == "  Borealis Laboratory (borealis, norland): inside its caps, on time"


def test_violations_exit_1_and_are_put_into_words(breached: PublishedLog, run_audit: Audit) -> None:
    """SPEC audit-11: the split run is named with its parts, the missing period with its number."""
    result = run_audit(breached)
    report = write_report(result)
    assert result.status == Exit.VIOLATIONS
    violations = section(report, "Violations (3)")
    assert any("borealis/part-1 + borealis/part-2" in line and "run-cap-exceeded" in line for line in violations)
    assert any("meridian gave no account of period 1 by its deadline" in line for line in violations)
    labs = section(report, "Labs")
    assert "  Borealis Laboratory (borealis, norland): OVER A CAP" in labs
    assert "  Meridian Laboratory (meridian, sudland): LATE" in labs
    assert "    gaps declared and not filled: 1" in labs
    assert "    borealis/part-2: exceeded, 1.2e15 FLOP" in section(report, "Caps")
    assert "VERIFIED, WITH VIOLATIONS" in report


def test_every_report_says_what_it_cannot_show(
    compliant: PublishedLog, breached: PublishedLog, run_audit: Audit
) -> None:
    """SPEC audit-9, on a sound log and on one that does not verify."""
    broken = run_audit(breached)
    (breached.directory / "checkpoint").unlink()
    for result in (run_audit(compliant), broken, run_audit(breached)):
        shown = section(write_report(result), "This cannot show")
        assert shown == [f"  - {item}" for item in CANNOT_SHOW]
        assert export(result)["cannot_show"] == list(CANNOT_SHOW)


def test_the_head_says_who_cosigned_and_who_did_not(breached: PublishedLog, run_audit: Audit) -> None:
    """SPEC audit-3."""
    breached.write(cosigners=("eastholm", "norland", "sudland"))
    report = write_report(run_audit(breached))
    assert "cosigned by norland, sudland, eastholm; 3 of 4 needed (tolerates 1 liar and 1 absence)" in report
    assert "  verifier westmere has not cosigned this checkpoint" in report
    assert "verifier norland has not" not in report


def test_two_audits_print_the_same_bytes(breached: PublishedLog, run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-11: the same tree, at another place, by another number of processes."""
    copy = PublishedLog(breached.world, tmp_path / "copy")
    shutil.rmtree(copy.directory)
    shutil.copytree(breached.directory, copy.directory)
    reports = {write_report(run_audit(log, jobs=jobs)) for log in (breached, copy) for jobs in (0, 1)}
    assert len(reports) == 1
    exports = {json.dumps(export(run_audit(log)), sort_keys=True) for log in (breached, copy)}
    assert len(exports) == 1
    assert str(tmp_path) not in reports.pop() + exports.pop()


def test_at_replays_an_earlier_size_of_the_same_tree(breached: PublishedLog, run_audit: Audit) -> None:
    before = run_audit(breached, at=20)
    assert before.status == Exit.COMPLIANT
    assert before.audited == 20
    assert "  replayed to entry 19 only, as asked" in write_report(before)
    assert run_audit(breached, at=len(breached.world.entries)).status == Exit.VIOLATIONS
    assert run_audit(breached, at=1).state is not None


@pytest.mark.parametrize("at", [0, -1, 41])
def test_at_outside_of_the_log_is_the_callers_mistake(breached: PublishedLog, run_audit: Audit, at: int) -> None:
    with pytest.raises(ValueError, match="40 entries"):
        run_audit(breached, at=at)


def test_at_reads_the_whole_tree_all_the_same(breached: PublishedLog, run_audit: Audit) -> None:
    bundle = bytearray(breached.read("tile/entries/000.p/40"))
    bundle[-1] ^= 1
    breached.put("tile/entries/000.p/40", bytes(bundle))
    assert run_audit(breached, at=5).status == Exit.FAILED


def test_an_entry_with_a_bad_signature_is_void_and_named(compliant: PublishedLog, run_audit: Audit) -> None:
    """SPEC audit-13: the tree is sound, so the entry convicts the log that let it in."""
    world = compliant.world
    envelope = world.seal(world.declaration("borealis", "run-9"), world.keys.lab("meridian"))
    world.put(envelope, world.state.last_time_ms)
    forged = world.seal(world.declaration("borealis", "run-10"), world.keys.lab("borealis"))
    forged.signatures[0].signature = bytes([forged.signatures[0].signature[0] ^ 1]) + forged.signatures[0].signature[1:]
    world.put_entry(encode_entry(world.state.last_time_ms, forged))
    compliant.write()
    result = run_audit(compliant)
    assert result.status == Exit.VIOLATIONS
    conduct = section(write_report(result), "Conduct of the log (2 void entries, 0 silences)")
    index = len(world.entries) - 2
    assert conduct[0].startswith(f"  entry {index} should not have been let in: wrong-role: ")
    assert conduct[1].startswith(f"  entry {index + 1} should not have been let in: bad-signature: ")


def test_reordered_entries_in_a_cosigned_tree_are_judged_by_the_replay(
    compliant: PublishedLog, run_audit: Audit
) -> None:
    entries = list(compliant.world.entries)
    entries[5], entries[6] = entries[6], entries[5]
    compliant.write(entries=entries)
    result = run_audit(compliant)
    assert result.status == Exit.VIOLATIONS
    assert {str(void.code) for void in result.state.voids} >= {"time-runs-back"}  # type: ignore[union-attr]


def test_entries_that_are_no_entries_are_void(compliant: PublishedLog, run_audit: Audit) -> None:
    world = compliant.world
    for junk in (b"", b"\x00", b"\xff" * 40, world.entries[1] + b"\x00", world.entries[0]):
        world.put_entry(junk)
    compliant.write()
    result = run_audit(compliant)
    assert result.status == Exit.VIOLATIONS
    assert result.state is not None
    assert result.state.void_count == 5


def test_silences_of_the_log_are_shown(compliant: PublishedLog, run_audit: Audit) -> None:
    world = compliant.world
    last = world.state.last_time_ms
    world.tick(last + 4_000)
    compliant.write()
    conduct = section(write_report(run_audit(compliant)), "Conduct of the log (0 void entries, 1 silence)")
    assert conduct == ["  silent for 4 s after 2026-01-01T00:00:30Z; deadlines in it were moved by as much"]


HOSTILE = "\x1b[31mred\x07\u202e\u2066x\n\rSPOOFED LINE"


def test_hostile_text_is_inert_in_report_and_json(compliant: PublishedLog, run_audit: Audit) -> None:
    """Terminal escapes, bidirectional overrides and newlines reach the log in fields of void entries and findings."""
    world = compliant.world
    now = world.state.last_time_ms
    world.put(world.seal(world.declaration("borealis", "run-2", title=HOSTILE), world.keys.lab("borealis")), now)
    world.put(world.seal(world.declaration(HOSTILE, "run-2"), world.keys.lab("borealis")), now)
    envelope = world.seal(world.declaration("borealis", "run-3"), world.keys.lab("borealis"))
    envelope.payload_type = "application/" + HOSTILE
    world.put(envelope, now)
    for evidence in (
        pb.Evidence(void_entry=pb.VoidEntryEvidence(index=3, code=HOSTILE)),
        pb.Evidence(disagreement=pb.DisagreementEvidence(index=13, run=HOSTILE)),
    ):
        finding = pb.Finding(
            agreement=world.agreement.fingerprint,
            party="norland",
            rule="void-entry",
            subject="log",
            severity=pb.SEVERITY_ANOMALY,
            as_of=world.state.size,
            evidence=evidence,
        )
        world.put(world.seal(finding, world.keys.verifier_statement("norland")), now)
    compliant.write()
    result = run_audit(compliant)
    assert result.state is not None
    assert (result.state.void_count, len(result.findings)) == (3, 2)
    report = write_report(result)
    assert not [character for character in report if character != "\n" and not character.isprintable()]
    assert not [line for line in report.split("\n") if line.startswith("SPOOFED")]
    assert "\\u{1b}" in report
    text = json.dumps(export(result))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_cap_that_margins_leave_open_is_not_called_kept(run_audit: Audit, compliant_world: Build) -> None:
    world = compliant_world(0, caps=[{"id": "run", "kind": "run", "limit": "1e12 FLOP"}])
    world.declare("borealis", "wide", at=world.start(0))
    world.to(world.end(0))
    world.attest("borealis", 0, {"wide": 1_000}, margin_ppm=40_000)
    status = world.state.cap_status["run", "borealis/wide"]
    assert status.outcome is Outcome.INDETERMINATE
    assert lab_standing(world.state, "borealis") == "a cap undecided"


def test_the_export_has_every_violation_with_its_figures(breached: PublishedLog, run_audit: Audit) -> None:
    exported = export(run_audit(breached))
    assert exported["status"] == 1
    record = exported["record"]
    split = next(v for v in record["violations"] if v["kind"] == "run-cap-exceeded")
    assert split["sources"] == ["borealis/part-1", "borealis/part-2"]
    assert (split["limit"], split["compute"]) == (1_000_000, {"low": 1_200_000, "high": 1_200_000})
    assert record["state_digest"] == breached.world.state.digest().hex()
    assert exported["checkpoint"]["size"] == len(breached.world.entries)
