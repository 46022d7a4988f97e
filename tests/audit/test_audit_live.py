"""A live log is compared with what the countries' verifiers say when they are asked directly, over pinned TLS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from published_log import PublishedLog
from status_server import StatusServers
from world import World

from pacekeeper.audit.live import cross_check, stale_ms
from pacekeeper.audit.report import write_report
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.audit.verify import audit
from pacekeeper.client.fetch import DirectorySource
from pacekeeper.protocol.tlog.merkle import HashTree, hash_leaves

Audit = Callable[..., AuditResult]
PARTIES = ("norland", "sudland", "westmere", "eastholm")


def live_log(servers: StatusServers, directory: Path) -> PublishedLog:
    world = World(period="1 d", pins=servers.pins, addresses=servers.addresses)
    last = world.state.last_time_ms
    world.ticks(last, last + 299 * 300_000)
    log = PublishedLog(world, directory)
    for party in PARTIES:
        servers.checkpoints[party] = log.note(300, log.root(), cosigners=[party])
    return log


def checked(log: PublishedLog) -> tuple[AuditResult, list[str]]:
    source = DirectorySource(log.directory)
    result = audit(source, log.fingerprint, jobs=0)
    said = cross_check(source, result)
    source.close()
    return result, said


def test_verifiers_that_confirm_the_tree_make_the_view_cross_checked(tmp_path: Path) -> None:
    """SPEC audit-8: asked for this head and for earlier sizes of the same tree."""
    with StatusServers(PARTIES) as servers:
        log = live_log(servers, tmp_path)
        servers.checkpoints["sudland"] = log.note(257, log.root(257), cosigners=["sudland"])
        servers.checkpoints["westmere"] = log.note(1, log.root(1), cosigners=["westmere"])
        result, said = checked(log)
    assert result.status == Exit.COMPLIANT
    assert said[:3] == [
        "verifier norland confirms the tree at 300 entries",
        "verifier sudland confirms the tree at 257 entries",
        "verifier westmere confirms the tree at 1 entries",
    ]
    assert said[4] == "view cross-checked: 4 verifiers confirmed it when asked directly, 2 needed"


@pytest.mark.parametrize("size", [300, 256, 100])
def test_a_verifiers_checkpoint_of_another_tree_fails_the_audit(tmp_path: Path, size: int) -> None:
    """SPEC audit-7: a fork, signed by the log and by the verifier, of any size of the past."""
    with StatusServers(PARTIES) as servers:
        log = live_log(servers, tmp_path)
        other = list(log.world.entries)
        other[50] += b"?"
        forked = HashTree(hash_leaves(other)).root(size)
        servers.checkpoints["eastholm"] = log.note(size, forked, cosigners=["eastholm"])
        result, said = checked(log)
    assert result.status == Exit.FAILED
    assert [fault.resource for fault in result.faults] == ["checkpoint"]
    assert f"verifier eastholm has cosigned another tree of {size} entries: a fork" in write_report(result)
    assert said[3] == f"verifier eastholm has cosigned another tree of {size} entries: a fork"


def test_verifiers_that_do_not_count_do_not_confirm(tmp_path: Path) -> None:
    """SPEC audit-8: unreachable, under another certificate, ahead, or with nothing to show: one is not enough."""
    with StatusServers(PARTIES, stopped=["sudland"], impostors=["westmere"]) as servers:
        log = live_log(servers, tmp_path)
        servers.checkpoints["eastholm"] = log.note(301, bytes(32), cosigners=["eastholm"])
        result, said = checked(log)
    assert result.status == Exit.COMPLIANT
    assert said == [
        "verifier norland confirms the tree at 300 entries",
        "verifier sudland did not answer (unreachable)",
        "verifier westmere answered what does not verify (wrong-network-pin)",
        "verifier eastholm has cosigned a later tree, of 301 entries",
        "view NOT cross-checked: 1 verifier confirmed it when asked directly, 2 needed",
    ]


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_tree_that_has_grown_meanwhile_confirms_only_if_it_continues_the_audited_one(
    tmp_path: Path, rewritten: bool
) -> None:
    """SPEC audit-16: the log publishes what the verifiers have cosigned after the audit read its head."""
    with StatusServers(PARTIES) as servers:
        log = live_log(servers, tmp_path)
        source = DirectorySource(log.directory)
        result = audit(source, log.fingerprint, jobs=0)
        last = log.world.state.last_time_ms
        log.world.ticks(last, last + 20 * 300_000)
        entries = list(log.world.entries)
        if rewritten:
            entries[50] += b"?"
        log.write(entries=entries)
        grown = HashTree(hash_leaves(entries))
        for party in PARTIES:
            size = 310 if party == "norland" else len(entries)
            servers.checkpoints[party] = log.note(size, grown.root(size), cosigners=[party])
        said = cross_check(source, result)
        source.close()
    if rewritten:
        assert said[0] == "verifier norland could not be compared: the log's tree is not what it was before"
        assert said[4].startswith("view NOT cross-checked: 0 verifiers")
    else:
        assert said[0] == "verifier norland confirms the tree at 310 entries"
        assert said[1] == f"verifier sudland confirms the tree at {len(entries)} entries"
        assert said[4].startswith("view cross-checked: 4 verifiers")


def test_what_a_verifier_did_not_sign_itself_neither_confirms_nor_accuses(tmp_path: Path) -> None:
    """SPEC audit-7: a fork needs the log's signature and the verifier's own."""
    with StatusServers(PARTIES) as servers:
        log = live_log(servers, tmp_path)
        servers.checkpoints["norland"] = b""
        servers.checkpoints["sudland"] = log.note(300, bytes(32), cosigners=["norland"])
        servers.checkpoints["westmere"] = b"\xff\x1b[31m"
        servers.checkpoints["eastholm"] = log.note(300, bytes(32), cosigners=["eastholm"], origin="example.org/other")
        result, said = checked(log)
    assert result.status == Exit.COMPLIANT
    assert said == [
        "verifier norland has cosigned nothing",
        "verifier sudland answered what does not verify (bad-signature)",
        "verifier westmere answered what does not verify (bad-note)",
        "verifier eastholm answered what does not verify (bad-signature)",
        "view NOT cross-checked: 0 verifiers confirmed it when asked directly, 2 needed",
    ]


def test_a_log_that_changes_its_tiles_cannot_make_a_verifier_look_forked(tmp_path: Path) -> None:
    """SPEC audit-14."""
    with StatusServers(PARTIES) as servers:
        log = live_log(servers, tmp_path)
        servers.checkpoints["norland"] = log.note(100, log.root(100), cosigners=["norland"])
        source = DirectorySource(log.directory)
        result = audit(source, log.fingerprint, jobs=0)
        tile = log.read("tile/0/000")
        log.put("tile/0/000", bytes([tile[0] ^ 1]) + tile[1:])
        said = cross_check(source, result)
        source.close()
    assert result.faults == []
    assert said[0] == "verifier norland could not be compared: the log's tree is not what it was before"
    assert said[1] == "verifier sudland confirms the tree at 300 entries"


def test_nobody_is_asked_once_the_audit_has_failed(tmp_path: Path) -> None:
    with StatusServers(PARTIES) as servers:
        log = live_log(servers, tmp_path)
        (log.directory / "tile/0/000").unlink()
        result, said = checked(log)
    assert result.status == Exit.FAILED
    assert said == []


def test_a_head_is_stale_once_it_is_older_than_the_agreement_allows(compliant: PublishedLog, run_audit: Audit) -> None:
    """SPEC audit-10: tick, unwitnessed time and tolerance together, from the quorum's newest cosignature."""
    result = run_audit(compliant)
    timing = compliant.world.agreement.timing
    allowed = timing.tick_ms + timing.unwitnessed_ms + timing.tolerance_ms
    head_ms = compliant.world.state.last_time_ms
    assert stale_ms(result, head_ms + 500) == (500, False)
    assert stale_ms(result, head_ms + allowed) == (allowed, False)
    assert stale_ms(result, head_ms + allowed + 1) == (allowed + 1, True)
    assert stale_ms(result, head_ms - 5_000) == (0, False)


def test_late_cosignatures_do_not_make_an_old_entry_fresh(tmp_path: Path, run_audit: Audit) -> None:
    """SPEC audit-10: a log that froze has old entries, whatever is cosigned anew."""
    world = World(period="10 s")
    day_ms = 86_400_000
    log = PublishedLog(world, tmp_path, now_ms=world.state.last_time_ms + day_ms)
    age_ms, stale = stale_ms(run_audit(log), world.state.last_time_ms + day_ms)
    assert stale
    assert age_ms == day_ms - world.agreement.timing.tick_ms


def test_an_audit_of_an_earlier_size_is_as_fresh_as_its_checkpoint(breached: PublishedLog, run_audit: Audit) -> None:
    """SPEC audit-10."""
    result = run_audit(breached, at=2)
    assert stale_ms(result, breached.world.state.last_time_ms) == (0, False)
