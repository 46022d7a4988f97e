"""Logs to audit: one in which everybody complies, and one in which much goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from published_log import PublishedLog
from world import World

from pacekeeper.audit.result import AuditResult
from pacekeeper.audit.verify import audit
from pacekeeper.client.fetch import DirectorySource

CAPS = [
    {"id": "frontier", "kind": "run", "limit": "1e15 FLOP"},
    {"id": "quarter", "kind": "lab", "limit": "1e15 FLOP", "window": "3 periods"},
]


def compliant_world(periods: int = 3, **document: object) -> World:
    """Two labs that account for every period in time."""
    document.setdefault("caps", CAPS)
    world = World(period="10 s", **document)
    world.declare("borealis", "run-1", at=world.start(0), title="A small model")
    for period in range(periods):
        world.to(world.end(period))
        world.attest("borealis", period, {"run-1": 500})
        world.attest("meridian", period, {})
    return world


def breached_world(**document: object) -> World:
    """Borealis splits a training run in two and is over the run cap; Meridian misses period 1 and goes on by a gap."""
    document.setdefault("caps", CAPS)
    world = World(period="10 s", **document)
    world.declare("borealis", "part-1", at=world.start(0))
    world.to(world.end(0))
    world.attest("borealis", 0, {"part-1": 600_000})
    world.attest("meridian", 0, {})
    record = world.record("borealis", "part-1", "middle", 0, 10, 600_000, at=world.end(0) + 10)
    world.declare("borealis", "part-2", at=world.end(0) + 20, initial="middle", parents=[record.index])
    world.to(world.end(1))
    world.attest("borealis", 1, {"part-2": 600_000})
    world.to(world.end(2))
    world.gap("meridian", 1, 1, at=world.end(2))
    world.attest("meridian", 2, {})
    world.attest("borealis", 2, {})
    return world


def run_audit(log: PublishedLog, *, at: int | None = None, jobs: int = 0) -> AuditResult:
    """Audit a published log from its directory."""
    source = DirectorySource(log.directory)
    try:
        return audit(source, log.fingerprint, at=at, jobs=jobs)
    finally:
        source.close()


@pytest.fixture(name="run_audit")
def _run_audit() -> Callable[..., AuditResult]:
    return run_audit


@pytest.fixture(name="compliant_world")
def _compliant_world() -> Callable[..., World]:
    return compliant_world


@pytest.fixture(name="breached_world")
def _breached_world() -> Callable[..., World]:
    return breached_world


@pytest.fixture
def compliant(tmp_path: Path) -> PublishedLog:
    return PublishedLog(compliant_world(), tmp_path / "log")


@pytest.fixture
def breached(tmp_path: Path) -> PublishedLog:
    return PublishedLog(breached_world(), tmp_path / "log")


QUORUM = ("norland", "sudland", "westmere")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[PublishedLog]:
    """A log below one tile and one with tiles on two levels, both with exactly a quorum of cosignatures."""
    small = World(period="10 s")
    small.declare("borealis", "run-1", at=small.start(0))
    small.to(small.end(0))
    small.attest("borealis", 0, {"run-1": 500})
    large = World(period="1 d", tick="10 min")
    large.ticks(large.state.last_time_ms, large.state.last_time_ms + 258 * 600_000)
    logs = []
    for number, world in enumerate((small, large)):
        logs.append(PublishedLog(world, tmp_path_factory.mktemp(f"log{number}"), cosigners=QUORUM))
    assert "tile/1/000.p/1" in logs[1].files()
    return logs
