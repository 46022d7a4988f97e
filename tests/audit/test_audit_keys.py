"""What an audit says of keys: each rotation and replacement in order, what is in force, and no more than that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from key_world import KeyWorld
from published_log import PublishedLog

from pacekeeper.audit.export import export
from pacekeeper.audit.report import write_report
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.protocol.keys import format_public_key

Audit = Callable[..., AuditResult]
OTHERS = ("sudland", "westmere", "eastholm")


def story() -> KeyWorld:
    """Two rotations, a replacement, and a replacement that comes too late."""
    world = KeyWorld()
    world.rotate("lab", "borealis")
    world.rotate("verifier", "sudland")
    late = world.replacement(("lab", "meridian", 2), ident="late")
    world.propose(late, "westmere")
    world.rotate("lab", "meridian")
    for who in OTHERS:
        world.pledge(late, who, "late")
    world.decide(("lab", "borealis", 3), by=OTHERS)
    world.done(("lab", "borealis", 3))
    world.say(world.declaration("borealis", "run-2"), "lab", "borealis")
    return world


def test_rotations_and_replacements_are_told_in_the_order_of_the_log(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-28."""
    world = story()
    result = run_audit(PublishedLog(world, tmp_path))
    assert result.status == Exit.COMPLIANT, write_report(result)
    lines = write_report(result).split("\n")
    start = lines.index("Keys (4 changes)")
    assert [line.partition("Z: ")[2] or line.strip() for line in lines[start + 1 : lines.index("", start)]] == [
        "the key of lab borealis, number 1 until then, rotated by its holder",
        "the key of verifier sudland, number 1 until then, rotated by its holder",
        "the key of lab meridian, number 1 until then, rotated by its holder",
        "the key of lab borealis, number 2 until then, replaced by the parties",
        f"in force: lab borealis, number 3, {format_public_key(world.key('lab', 'borealis').public)}",
        f"in force: lab meridian, number 2, {format_public_key(world.key('lab', 'meridian').public)}",
        f"in force: verifier sudland, number 2, {format_public_key(world.key('verifier', 'sudland').public)}",
    ]
    assert any("could not be done any more" in line for line in lines)
    keys = export(result)["record"]["keys"]
    assert [(key["holder"], key["epoch"], key["replaced"]) for key in keys["retired"]] == [
        ("borealis", 1, False),
        ("sudland", 1, False),
        ("meridian", 1, False),
        ("borealis", 2, True),
    ]
    assert {key["holder"]: key["epoch"] for key in keys["in_force"]} == {"borealis": 3, "meridian": 2, "sudland": 2}


def test_where_no_key_changed_nothing_is_said_of_it(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-28."""
    result = run_audit(PublishedLog(KeyWorld(), tmp_path))
    assert "Keys (" not in write_report(result)
    assert export(result)["record"]["keys"] == {"retired": [], "in_force": []}


def test_workers_vouch_for_keys_that_came_later_and_for_no_retired_ones(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-13: long enough that signatures are verified by other processes, ahead of the replay."""
    world = KeyWorld()
    old = world.key("lab", "borealis")
    for number in range(2_600):
        if number == 300:
            world.rotate("lab", "borealis")
        key = old if number == 2_000 else world.key("lab", "borealis")
        statement = world.declaration("borealis", f"many-{number}")
        envelope = world.seal(statement, key)
        if number == 2_300:
            envelope.signatures[0].signature = bytes(64)
        world.put(envelope, world.now)
    result = run_audit(PublishedLog(world, tmp_path), jobs=1)
    assert result.state is not None
    assert [str(void.code) for void in result.state.voids] == ["key-retired", "bad-signature"]
    assert result.state.digest() == world.state.digest()
