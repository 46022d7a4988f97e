"""A log that does not verify: exit status 3, every fault with its resource, and nothing concluded about anybody."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from published_log import PublishedLog
from world import World

from pacekeeper.audit.report import write_report
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.audit.verify import audit
from pacekeeper.client.fetch import DirectorySource
from pacekeeper.protocol.envelope import encode_entry
from pacekeeper.protocol.tlog.tiles import encode_bundle

Audit = Callable[..., AuditResult]
Build = Callable[..., World]

FLIPS = int(os.environ.get("PACEKEEPER_FLIPS", "300"))


def resources(result: AuditResult) -> set[str]:
    return {fault.resource for fault in result.faults}


def is_named(result: AuditResult, path: str) -> bool:
    """Whether a fault is of the file, or says what does not agree with it. Entry 0 stands in the first bundle."""
    aliases = {path, "entry 0"} if path.startswith("tile/entries/000") else {path}
    return any(fault.resource in aliases or path in fault.message for fault in result.faults)


def test_any_flipped_byte_fails_and_is_named(sites: list[PublishedLog], run_audit: Audit) -> None:
    """SPEC audit-2, SPEC audit-4: bundle, tile, checkpoint body, log signature or needed cosignature."""
    seed = random.SystemRandom().getrandbits(48)
    print(f"seed {seed}")  # noqa: T201  shown when the test fails
    dice = random.Random(seed)
    for number in range(FLIPS):
        log = sites[0] if number % 3 else sites[1]
        path = dice.choice(log.files())
        original = log.read(path)
        position, bit = dice.randrange(len(original)), 1 << dice.randrange(8)
        log.put(path, original[:position] + bytes([original[position] ^ bit]) + original[position + 1 :])
        result = run_audit(log)
        log.put(path, original)
        where = f"seed {seed}, flip {number}: {path} byte {position} xor {bit}"
        assert result.status == Exit.FAILED, where
        assert is_named(result, path), f"{where}: {result.faults}"
        assert "VERIFICATION FAILED" in write_report(result), where
        assert "Violations" not in write_report(result), where
    assert all(run_audit(log).status != Exit.FAILED for log in sites), "the files were put back"


def test_a_damaged_redundant_cosignature_is_never_passed_over(sites: list[PublishedLog], run_audit: Audit) -> None:
    """SPEC audit-3: with all four, either the note is refused, or the verifier is named and the rest counts."""
    log = sites[0]
    sound = log.read("checkpoint")
    log.write()
    original = log.read("checkpoint")
    reference = write_report(run_audit(log))
    start = original.rindex("— eastholm".encode())
    named = refused = 0
    for position in range(start, len(original)):
        log.put("checkpoint", original[:position] + bytes([original[position] ^ 1]) + original[position + 1 :])
        result = run_audit(log)
        report = write_report(result)
        if result.status == Exit.FAILED:
            refused += 1
            assert resources(result) == {"checkpoint"}
        else:
            named += 1
            assert report != reference
            assert "verifier eastholm has not cosigned" in report or "of verifier eastholm does not verify" in report
    log.put("checkpoint", sound)
    assert named > 40
    assert refused > 0


def test_a_second_line_by_one_verifier_that_does_not_verify_is_named(compliant: PublishedLog, run_audit: Audit) -> None:
    note = compliant.read("checkpoint").decode()
    other = compliant.note(3, compliant.root(3)).decode()
    line = next(line for line in other.split("\n") if line.startswith("— norland"))
    for damaged in (f"{note}{line}\n", note.replace("\n— norland", f"\n{line}\n— norland", 1)):
        compliant.put("checkpoint", damaged.encode())
        result = run_audit(compliant)
        assert result.status == Exit.COMPLIANT
        assert result.head is not None
        assert result.head.invalid == ("norland",)


def test_fewer_cosignatures_than_the_quorum_fail_and_the_absent_are_named(
    compliant: PublishedLog, run_audit: Audit
) -> None:
    """SPEC audit-2."""
    compliant.write(cosigners=("norland", "eastholm"))
    result = run_audit(compliant)
    assert [(fault.resource, str(fault.code)) for fault in result.faults] == [("checkpoint", "no-quorum")]
    assert "absent or not valid: sudland, westmere" in result.faults[0].message


def test_success_with_nothing_in_it_fails(compliant: PublishedLog, run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-1: no checkpoint, an empty one, zero entries, no files at all."""
    whole = compliant.read("checkpoint")
    for data in (None, b"", b"\n", whole[:40], compliant.note(0, bytes.fromhex(EMPTY))):
        (compliant.directory / "checkpoint").unlink(missing_ok=True)
        if data is not None:
            compliant.put("checkpoint", data)
        result = run_audit(compliant)
        assert result.status == Exit.FAILED
        assert resources(result) == {"checkpoint"}
        assert "Faults (1)" in write_report(result)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert audit(DirectorySource(empty), compliant.fingerprint).status == Exit.FAILED


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_another_fingerprint_fails(compliant: PublishedLog, run_audit: Audit) -> None:
    """SPEC audit-1."""
    compliant.fingerprint = bytes(32)
    result = run_audit(compliant)
    assert result.status == Exit.FAILED
    assert resources(result) == {"entry 0"}
    assert result.faults[0].code == "wrong-agreement"


def test_another_logs_files_under_the_right_checkpoint_fail(
    compliant: PublishedLog, run_audit: Audit, tmp_path: Path
) -> None:
    other = PublishedLog(World(period="10 s", title="Another agreement"), tmp_path / "other")
    other.put("checkpoint", compliant.read("checkpoint"))
    other.fingerprint = compliant.fingerprint
    assert run_audit(other).status == Exit.FAILED


def test_an_entry_0_that_is_no_agreement_fails(compliant: PublishedLog, run_audit: Audit) -> None:
    entries = [compliant.world.entries[1], *compliant.world.entries[1:]]
    compliant.write(entries=entries)
    result = run_audit(compliant)
    assert ("entry 0", "not-first") in [(fault.resource, str(fault.code)) for fault in result.faults]
    assert resources(result) == {"entry 0", "checkpoint"}
    assert "cannot be verified without entry 0" in write_report(result)


def test_a_changed_size_is_not_mistaken_for_lost_files_alone(sites: list[PublishedLog], run_audit: Audit) -> None:
    """SPEC audit-4: the files of another size are not there, and the checkpoint is named all the same."""
    log = sites[0]
    original = log.read("checkpoint")
    size = len(log.world.entries)
    log.put("checkpoint", original.replace(f"\n{size}\n".encode(), f"\n{size - 1}\n".encode(), 1))
    result = run_audit(log)
    log.put("checkpoint", original)
    files = {f"tile/{level}/000.p/{size - 1}" for level in ("entries", "0")}
    assert resources(result) == {"checkpoint", *files}


def test_every_missing_file_is_listed(sites: list[PublishedLog], run_audit: Audit) -> None:
    """SPEC audit-5: reading goes on after a fault."""
    log = sites[1]
    missing = ["tile/0/000", "tile/entries/001.p/3", "tile/0/001.p/3", "tile/1/000.p/1"]
    kept = {path: log.read(path) for path in missing}
    for path in missing:
        (log.directory / path).unlink()
    result = run_audit(log)
    for path, data in kept.items():
        log.put(path, data)
    assert resources(result) == set(missing)
    assert {str(fault.code) for fault in result.faults} == {"not-found"}


def test_after_an_unreadable_bundle_the_rest_is_still_compared(sites: list[PublishedLog], run_audit: Audit) -> None:
    """SPEC audit-5."""
    log = sites[1]
    paths = ["tile/entries/000", "tile/entries/001.p/3", "tile/1/000.p/1"]
    kept = {path: log.read(path) for path in paths}
    log.put(paths[0], kept[paths[0]][:-3])
    log.put(paths[1], encode_bundle([b"a", b"b", b"c"]))
    log.put(paths[2], bytes(32))
    result = run_audit(log)
    for path, data in kept.items():
        log.put(path, data)
    assert resources(result) == {*paths, "checkpoint"}


@pytest.mark.parametrize("length", [0, 31, -1, 1])
def test_a_truncated_or_lengthened_file_fails(sites: list[PublishedLog], run_audit: Audit, length: int) -> None:
    for log in sites:
        for path in log.files():
            if path == "checkpoint" and length == -1:
                continue  # a note without its last newline is tried by the flips
            original = log.read(path)
            log.put(path, original[:length] if length != 1 else original + b"\x00")
            result = run_audit(log)
            log.put(path, original)
            assert result.status == Exit.FAILED, path
            assert is_named(result, path), (path, result.faults)


def test_swapped_tiles_fail(sites: list[PublishedLog], run_audit: Audit) -> None:
    log = sites[1]
    tile = log.read("tile/0/000")
    swapped = tile[32:64] + tile[:32] + tile[64:]
    log.put("tile/0/000", swapped)
    result = run_audit(log)
    log.put("tile/0/000", tile)
    assert result.status == Exit.FAILED
    assert resources(result) == {"tile/0/000"}
    assert "hash 0 is not that of entry 0 in tile/entries/000" in result.faults[0].message


def test_an_extra_entry_in_the_last_bundle_fails(compliant: PublishedLog, run_audit: Audit) -> None:
    world = compliant.world
    envelope = world.seal(world.declaration("borealis", "x"), world.keys.lab("borealis"))
    extra = encode_entry(world.state.last_time_ms, envelope)
    path = f"tile/entries/000.p/{len(world.entries)}"
    compliant.put(path, encode_bundle([*world.entries, extra]))
    result = run_audit(compliant)
    assert resources(result) == {path, "checkpoint"}
    assert result.faults[0].code == "bad-tile"


def test_reordered_entries_under_the_old_tiles_fail(compliant: PublishedLog, run_audit: Audit) -> None:
    entries = list(compliant.world.entries)
    entries[5], entries[6] = entries[6], entries[5]
    compliant.put(f"tile/entries/000.p/{len(entries)}", encode_bundle(entries))
    result = run_audit(compliant)
    assert result.status == Exit.FAILED
    assert any("root is not that of the log's entries" in fault.message for fault in result.faults)


def test_a_rewritten_past_with_its_own_tiles_fails_by_the_root(compliant: PublishedLog, run_audit: Audit) -> None:
    checkpoint = compliant.read("checkpoint")
    entries = list(compliant.world.entries)
    del entries[4]
    entries.append(entries[-1])
    compliant.write(entries=entries)
    compliant.put("checkpoint", checkpoint)
    assert resources(run_audit(compliant)) == {"checkpoint"}


def test_a_checkpoint_of_another_origin_or_key_fails(compliant: PublishedLog, run_audit: Audit) -> None:
    """SPEC audit-2."""
    size = len(compliant.world.entries)
    compliant.put("checkpoint", compliant.note(size, compliant.root(), origin="example.org/other"))
    result = run_audit(compliant)
    assert "bad-checkpoint" in {str(fault.code) for fault in result.faults}
    note = compliant.note(size, compliant.root()).decode()
    lines = [line for line in note.split("\n") if not line.startswith("— example.org")]
    compliant.put("checkpoint", "\n".join(lines).encode())
    result = run_audit(compliant)
    assert [(fault.resource, str(fault.code)) for fault in result.faults] == [("checkpoint", "bad-signature")]
