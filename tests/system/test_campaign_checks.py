"""The campaign's own eyes: each invariant, broken on purpose in a copy of a live site's state, is reported."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from callers import is_served
from campaign_checks import Invariants, Snapshots, check_metered
from campaign_load import Acknowledged
from processes import Live

from pacekeeper.client.keyfiles import load_key
from pacekeeper.client.successors import KeyFiles
from pacekeeper.log.files import PublicFiles
from pacekeeper.node.book import open_book
from pacekeeper.node.clock import SystemClock
from pacekeeper.node.records import GAP
from pacekeeper.node.signer import LabKeys
from pacekeeper.protocol.envelope import encode, parse_entry
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.v1 import statements_pb2 as pb

LAB = "borealis"


@dataclasses.dataclass
class Sight:
    """A site as it was a moment ago, judged sound: its snapshots, the judge, and an entry that was acknowledged."""

    live: Live
    snapshots: dict[str, Path]
    invariants: Invariants
    acknowledged: Acknowledged


@pytest.fixture
async def sight(live: Live, tmp_path: Path) -> Sight:
    receipt = await is_served(live.site, LAB)
    snapshots = Snapshots(live.running, tmp_path / "snapshots").take(["log", "verifier-norland"])
    invariants = Invariants(live.site)
    invariants.check(snapshots, [], [])
    envelope = encode(parse_entry(invariants.entries[receipt.index]).envelope)
    acknowledged = Acknowledged(envelope, receipt.index, receipt.sequenced_at_ms, receipt.tlog_proof)
    invariants.check(snapshots, [acknowledged], [])
    invariants.check_published([acknowledged])
    assert invariants.receipts == 1
    return Sight(live, snapshots, invariants, acknowledged)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"index": 10_000}, "acknowledged entry 10000 is lost"),
        ({"index": 1}, "entry 1 is not what was acknowledged"),
        ({"sequenced_at_ms": 1}, "is not what was acknowledged"),
    ],
)
async def test_a_lost_or_moved_acknowledgement_is_seen(sight: Sight, change: dict[str, Any], complaint: str) -> None:
    """Invariant 1, in what is stored."""
    moved = dataclasses.replace(sight.acknowledged, **change)
    with pytest.raises(AssertionError, match=f"invariant 1: .*{complaint}"):
        sight.invariants.check(sight.snapshots, [sight.acknowledged, moved], [])


async def test_a_fork_is_seen_whoever_shows_it(sight: Sight) -> None:
    """Invariants 2 and 4: one note by the log's key over another tree, one over entries that do not exist."""
    key = load_key(sight.live.site.home("log") / "keys/checkpoint.key")
    origin, size = sight.live.site.agreement.origin, len(sight.invariants.entries)
    other = sign_checkpoint(Checkpoint(origin, size, b"\x01" * 32), origin, key)
    with pytest.raises(AssertionError, match=f"invariant 4: log signed two trees of {size} entries"):
        sight.invariants.check(sight.snapshots, [sight.acknowledged], [other])
    first = sign_checkpoint(Checkpoint(origin, 1, b"\x01" * 32), origin, key)
    fresh = Invariants(sight.live.site)
    with pytest.raises(AssertionError, match=r"invariant [24]: "):
        fresh.check(sight.snapshots, [], [first])
    beyond = sign_checkpoint(Checkpoint(origin, size + 1, b"\x01" * 32), origin, key)
    with pytest.raises(AssertionError, match="invariant 2: a checkpoint covers"):
        sight.invariants.check(sight.snapshots, [sight.acknowledged], [beyond])


async def test_a_tree_that_shrinks_or_changes_is_seen(sight: Sight) -> None:
    """Invariant 2: stored entries only ever grow in number."""
    sight.invariants.entries.append(b"an entry that was there before")
    with pytest.raises(AssertionError, match="invariant 2: stored entries have changed or are gone"):
        sight.invariants.check(sight.snapshots, [sight.acknowledged], [])


async def test_a_damaged_file_is_seen(sight: Sight) -> None:
    """Invariant 3: one bit in one tile."""
    public = PublicFiles(sight.snapshots["log"] / "public").directory
    tile = max((public / "tile/0").rglob("*"), key=lambda path: (path.is_file(), path.stat().st_size))
    data = bytearray(tile.read_bytes())
    data[5] ^= 1
    tile.write_bytes(data)
    with pytest.raises(AssertionError, match=r"invariant 3: fsck of the log: .*differs from the stored entries"):
        sight.invariants.check(sight.snapshots, [sight.acknowledged], [])


async def test_two_statements_for_one_sequence_number_are_seen(sight: Sight, tmp_path: Path) -> None:
    """Invariant 4: two journals of one lab, as a lab has them that went on from an old copy."""
    for number, note in enumerate(("one", "another")):
        state = tmp_path / f"lab-{number}"
        state.mkdir()
        site = sight.live.site
        key = site.lab_key(LAB)
        keys = LabKeys(KeyFiles([key]), key.key_id)
        book = open_book(state / "journal", site.agreement.fingerprint, LAB, keys, SystemClock())
        link = pb.Link(sequence=1)
        gap = pb.Gap(agreement=site.agreement.fingerprint, lab=LAB, link=link, reason=pb.GAP_REASON_LATE, note=note)
        book.sign(GAP, gap)
        book.close()
    both = {**sight.snapshots, "lab-borealis": tmp_path / "lab-0"}
    sight.invariants.check(both, [sight.acknowledged], [])
    shutil.copy(tmp_path / "lab-1/journal", tmp_path / "lab-0/journal")
    with pytest.raises(AssertionError, match=r"invariant 4: \('borealis', 1\) was signed twice"):
        sight.invariants.check(both, [sight.acknowledged], [])


def test_lost_and_doubled_usage_is_seen() -> None:
    """Nothing metered is lost: on the way to the journal, on the way to the log, and not counted twice either."""
    counted, journalled = {"run": (5 * 10**9, 3)}, {("run", 0): (2 * 10**9 + 1, 1), ("run", 1): (3 * 10**9 - 1, 2)}
    attested = {("run", 0): (3, 1), ("run", 1): (3, 2)}
    check_metered(LAB, counted, journalled, attested)
    with pytest.raises(AssertionError, match="what its jobs counted"):
        check_metered(LAB, {"run": (5 * 10**9 + 1, 3)}, journalled, attested)
    with pytest.raises(AssertionError, match="what its jobs counted"):
        check_metered(LAB, {**counted, "forgotten": (1, 1)}, journalled, attested)
    for wrong in ({("run", 0): (3, 1)}, {**attested, ("run", 1): (2, 2)}, {**attested, ("run", 2): (3, 2)}):
        with pytest.raises(AssertionError, match="what is attested is not what is in the journal"):
            check_metered(LAB, counted, journalled, wrong)
