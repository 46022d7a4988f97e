"""Sources that grow, lie about their size or hold no files where files should be: an audit ends, and is not misled."""

from __future__ import annotations

import os
from collections.abc import Callable

from published_log import PublishedLog

from pacekeeper.audit.reading import TreeWalk
from pacekeeper.audit.report import write_report
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.audit.verify import audit
from pacekeeper.client.fetch import DirectorySource
from pacekeeper.protocol.tlog.checkpoint import Checkpoint
from pacekeeper.protocol.tlog.merkle import hash_leaves
from pacekeeper.protocol.tlog.tiles import encode_bundle

Audit = Callable[..., AuditResult]
QUORUM = ("norland", "sudland", "westmere")


def resources(result: AuditResult) -> set[str]:
    return {fault.resource for fault in result.faults}


def test_a_checkpoint_that_claims_an_endless_tree_ends_the_audit(compliant: PublishedLog, run_audit: Audit) -> None:
    """SPEC audit-12: whoever made up the size, with the log's key or without it."""
    path = f"tile/entries/000.p/{len(compliant.world.entries)}"
    compliant.put("tile/entries/000", encode_bundle([compliant.world.entries[0]] * 256))
    assert compliant.read(path)
    for cosigners in (None, ()):
        compliant.put("checkpoint", compliant.note(2**62, bytes(32), cosigners=cosigners))
        result = run_audit(compliant)
        assert result.status == Exit.FAILED
        assert 1_000 <= len(result.faults) < 1_300
        assert "over 1000 faults; the rest was not looked at" in write_report(result)


class Endless:
    """Makes up bundles and tiles that agree with each other, for as long as it is asked."""

    def __init__(self, first: bytes) -> None:
        rest = [b"x"] * 255
        self.bundles = encode_bundle([first, *rest]), encode_bundle([b"x", *rest])
        self.tiles = b"".join(hash_leaves([first, *rest])), b"".join(hash_leaves([b"x", *rest]))
        self.reads = 0

    def read(self, path: str) -> bytes | None:
        self.reads += 1
        pair = self.bundles if path.startswith("tile/entries/") else self.tiles
        return pair[0 if path.endswith("/000") else 1]

    def close(self) -> None:
        """Nothing is open."""


def test_a_size_that_nobody_signed_is_not_read_to_its_end(compliant: PublishedLog) -> None:
    """SPEC audit-12."""
    source = Endless(compliant.world.entries[0])
    walk = TreeWalk(source, Checkpoint("example.org/x", 2**40, bytes(32)), vouched=False)
    read = sum(len(entries) for entries in walk.entries())
    assert read == 4_096 * 256
    assert "nobody vouches for its size; reading stopped after 1048576 entries" in walk.faults[-1].message
    assert source.reads < 10_000


def test_special_files_in_place_of_tiles_are_faults_and_nothing_hangs(
    compliant: PublishedLog, run_audit: Audit
) -> None:
    size = len(compliant.world.entries)
    path = compliant.directory / f"tile/0/000.p/{size}"
    path.unlink()
    os.mkfifo(path)
    result = run_audit(compliant)
    assert result.status == Exit.FAILED
    assert resources(result) == {f"tile/0/000.p/{size}"}
    path.unlink()
    path.symlink_to(compliant.directory / "checkpoint")
    assert run_audit(compliant).status == Exit.FAILED


def test_a_partial_tile_that_was_filled_since_is_cut_from_the_full_one(
    sites: list[PublishedLog], run_audit: Audit
) -> None:
    log = sites[1]
    reference = write_report(run_audit(log))
    note = log.read("checkpoint")
    entries = log.world.entries
    log.write(entries=[*entries, *[entries[-1]] * 253])
    kept = {path: log.read(path) for path in ("tile/entries/001.p/3", "tile/0/001.p/3")}
    for path in kept:
        (log.directory / path).unlink()
    log.put("checkpoint", note)
    report = write_report(run_audit(log))
    for path, data in kept.items():
        log.put(path, data)
    for path in ("tile/entries/001", "tile/0/001", "tile/1/000.p/2"):
        (log.directory / path).unlink()
    log.write(cosigners=QUORUM)
    assert report == reference


def test_a_log_that_grows_while_it_is_read_is_audited_as_it_stood(compliant: PublishedLog, run_audit: Audit) -> None:
    """The partial tiles that the checkpoint needs are taken with it, before the log replaces them."""
    world = compliant.world

    class Growing:
        """Publishes more after each reading of the checkpoint, twice, and drops the older partial tiles."""

        grown = 0

        def __init__(self) -> None:
            self.inner = DirectorySource(compliant.directory)

        def read(self, path: str) -> bytes | None:
            data = self.inner.read(path)
            if path == "checkpoint" and self.grown < 2:
                self.grown += 1
                for old in compliant.files():
                    if ".p/" in old:
                        (compliant.directory / old).unlink()
                world.tick(world.state.last_time_ms + 1_000)
                compliant.write()
            return data

        def close(self) -> None:
            self.inner.close()

    result = audit(Growing(), compliant.fingerprint, jobs=0)
    assert result.faults == []
    assert result.audited == len(world.entries)
