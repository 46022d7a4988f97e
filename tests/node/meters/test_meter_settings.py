"""Where a meter finds its daemon, and that it changes nothing else in the process that it is in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from recording_gate import RecordingGate

from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.settings import MeterSettings, OnDaemonDown, resolve_settings


def test_a_meter_leaves_the_environment_of_training_alone() -> None:
    """What the daemon's room sets for gRPC would hold for every connection that a training process makes."""
    program = "import os; before = dict(os.environ); import pacekeeper.node.meters.meter; assert os.environ == before"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_meter_does_not_load_grpcs_runtime() -> None:
    """Its threads look for work all day, and do not go well with processes that fork."""
    program = "import sys; import pacekeeper.node.meters.command; assert 'grpc' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_settings_come_from_arguments_then_from_the_environment(tmp_path: Path) -> None:
    environment = {
        "PACEKEEPER_SOCKET": "/run/a.sock",
        "PACEKEEPER_SPOOL": str(tmp_path),
        "PACEKEEPER_ON_DAEMON_DOWN": "hold",
    }
    settings = resolve_settings(environment=environment)
    assert settings == MeterSettings(Path("/run/a.sock"), tmp_path, OnDaemonDown.HOLD)
    assert resolve_settings("/run/b.sock", on_daemon_down="continue", environment=environment).socket.name == "b.sock"
    with pytest.raises(ValueError, match="set PACEKEEPER_SOCKET"):
        resolve_settings(environment={})
    with pytest.raises(ValueError, match="set PACEKEEPER_SPOOL"):
        resolve_settings("/run/a.sock", environment={})
    with pytest.raises(ValueError, match=r'"continue" or "hold"'):
        resolve_settings(environment=environment | {"PACEKEEPER_ON_DAEMON_DOWN": "maybe"})
    with pytest.raises(ValueError, match="does not exist"):
        resolve_settings("/run/a.sock", tmp_path / "absent", environment={})


def test_a_socket_path_that_no_socket_can_have_is_refused_clearly(tmp_path: Path) -> None:
    """SPEC metering-3: at most 107 bytes."""
    MeterSettings(Path("/" + "a" * 106), tmp_path)
    with pytest.raises(ValueError, match="longer than 107 bytes"):
        MeterSettings(Path("/" + "a" * 107), tmp_path)


def test_a_socket_path_with_unusual_characters_works(tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="p k%20ü?#") as directory:
        daemon = RecordingGate(Path(directory))
        daemon.start()
        try:
            Meter.open("run-1", settings=daemon.settings()).close()
        finally:
            daemon.stop()
        assert daemon.job.closed
