"""A daemon per test, started and stopped around it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from recording_gate import RecordingGate


@pytest.fixture
def stopped_gate() -> Iterator[RecordingGate]:
    # pytest's own directories make paths that are too long for a socket.
    directory = Path(tempfile.mkdtemp(prefix="pk"))
    daemon = RecordingGate(directory)
    try:
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(directory)


@pytest.fixture
def gate(stopped_gate: RecordingGate) -> RecordingGate:
    stopped_gate.start()
    return stopped_gate
