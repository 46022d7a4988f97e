"""The doctor looks at this machine: state, disk, ports, and a lab's socket, spool and pools."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from requirements import require_root

from pacekeeper.cli.doctor.check import Level
from pacekeeper.cli.doctor.machine import FAIL_BYTES, WARN_BYTES, judge_disk

Run = Callable[..., Any]


@pytest.mark.parametrize("role", ["log", "verifier", "lab"])
def test_a_state_directory_that_is_a_file_or_open_to_all_exits_5(doctor: Any, role: str) -> None:
    """SPEC cli-10."""
    doctor.rewrite(role, 'state = "state"', 'state = "elsewhere"')
    state = doctor.config(role).parent / "elsewhere"
    state.write_text("a file")
    assert "state" in doctor.failing(role)[1]
    state.unlink()
    state.mkdir()
    state.chmod(0o777)
    status, failed = doctor.failing(role)
    assert (status, "state" in failed) == (5, True)
    state.chmod(0o770)
    _, checks = doctor.examine(role, "--offline")
    assert checks["state"][0]["level"] == "warn"


def test_a_state_directory_of_another_user_exits_5(doctor: Any) -> None:
    require_root()
    state = doctor.root / "borealis/state"
    state.mkdir(exist_ok=True)
    os.chown(state, 12345, 12345)
    assert doctor.failing("lab") == (5, {"state"})


def test_a_log_that_has_no_entry_0_or_was_stopped_by_a_failed_write(doctor: Any) -> None:
    state = doctor.root / "log/state"
    (state / "unsafe").write_text("disk is full\n")
    assert doctor.failing("log") == (5, {"state"})
    (state / "unsafe").unlink()
    (state / "log.sqlite").unlink()
    status, failed = doctor.failing("log")
    assert (status, failed) == (2, {"store"})


def test_a_cosigning_key_whose_store_is_lost_exits_5(doctor: Any) -> None:
    """SPEC cli-10: the verifier itself would refuse to sign, and the doctor says so before."""
    key = doctor.root / "norland-v/keys/cosign.key"
    mark = (
        "pacekeeper-witness-v1\norigin example.org/pacekeeper\nstore 0123456789abcdef0123456789abcdef\nsize {:020d}\n"
    )
    key.with_name("cosign.key.witness").write_text(mark.format(0))
    assert doctor.failing("verifier") == (0, set())
    key.with_name("cosign.key.witness").write_text(mark.format(42))
    status, checks = doctor.examine("verifier", "--offline")
    assert status == 5
    assert "has cosigned 42 entries" in checks["store"][0]["sentence"]


@pytest.mark.parametrize(
    ("free", "level"),
    [(FAIL_BYTES - 1, Level.FAIL), (FAIL_BYTES, Level.WARN), (WARN_BYTES - 1, Level.WARN), (WARN_BYTES, Level.OK)],
)
def test_disk_space_is_judged_by_what_is_left(free: int, level: Level) -> None:
    assert judge_disk(Path("/"), free).level is level


def test_a_port_in_use_by_another_program_fails_and_by_the_role_itself_passes(doctor: Any) -> None:
    text = doctor.config("verifier").read_text()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        doctor.config("verifier").write_text(text.replace(text.split('listen = "')[1].split('"')[0], address))
        assert doctor.failing("verifier") == (2, {"listen"})
        state = doctor.root / "norland-v/state"
        state.mkdir(exist_ok=True)
        (state / "ready").write_text(json.dumps({"pid": os.getpid(), "listen": address}))
        assert doctor.failing("verifier") == (0, set())
        (state / "ready").write_text(json.dumps({"pid": 2**22 + 1, "listen": address}))
        assert doctor.failing("verifier") == (2, {"listen"})


@pytest.mark.parametrize(
    "address", ["nowhere", "127.0.0.1:x", "127.0.0.1:99999", "192.0.2.1:7801", "no.such.invalid:1"]
)
def test_an_address_that_is_none_or_not_this_machines(doctor: Any, address: str) -> None:
    text = doctor.config("verifier").read_text()
    doctor.config("verifier").write_text(text.replace(text.split('listen = "')[1].split('"')[0], address))
    assert doctor.failing("verifier") == (2, {"listen"})


def test_any_free_port_is_fine(doctor: Any) -> None:
    text = doctor.config("verifier").read_text()
    doctor.config("verifier").write_text(text.replace(text.split('listen = "')[1].split('"')[0], "127.0.0.1:0"))
    assert doctor.failing("verifier") == (0, set())


def test_a_labs_socket(doctor: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    doctor.rewrite("lab", 'socket = "state/gate.sock"', f'socket = "{"x" * 120}.sock"')
    assert doctor.failing("lab") == (2, {"socket", "lab"})
    short = tmp_path_factory.mktemp("s")
    doctor.rewrite("lab", "x" * 120 + ".sock", str(short / "gate.sock"))
    assert doctor.failing("lab") == (0, set())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short / "gate.sock"))
        (short / "gate.sock").chmod(0o600)
        _, checks = doctor.examine("lab", "--offline")
        assert checks["socket"][0]["level"] == "warn", "left over: nobody listens"
        listener.listen(1)
        _, checks = doctor.examine("lab", "--offline")
        assert checks["socket"][0]["level"] == "ok"
        (short / "gate.sock").chmod(0o666)
        assert doctor.failing("lab") == (5, {"socket"})
    (short / "gate.sock").unlink()
    (short / "gate.sock").write_text("a file")
    assert doctor.failing("lab") == (2, {"socket"})


def test_a_labs_spool_that_cannot_be_written(doctor: Any) -> None:
    state = doctor.root / "borealis/state"
    state.mkdir(exist_ok=True)
    (state / "spool").write_text("a file")
    assert doctor.failing("lab") == (2, {"spool"})
    (state / "spool").unlink()
    (state / "spool").mkdir(mode=0o700)
    assert doctor.failing("lab") == (0, set())


@pytest.mark.parametrize(
    ("old", "new", "level"),
    [
        ('peak = "100e9 FLOP/s"', 'peak = "1e9 FLOP/s"', "warn"),
        ('peak = "100e9 FLOP/s"', 'peak = "990e15 FLOP/s"', "warn"),
        ('peak = "100e9 FLOP/s"', 'peak = "990e12"', "fail"),
        ("count = 1", "count = 0", "fail"),
        ('utilisation = "40 %"', 'utilisation = "140 %"', "fail"),
    ],
)
def test_a_labs_pools_must_make_sense(doctor: Any, old: str, new: str, level: str) -> None:
    doctor.rewrite("lab", old, new)
    _, checks = doctor.examine("lab", "--offline")
    made = checks["lab"] if level == "fail" else checks["pools"]
    assert made[0]["level"] == level
    assert doctor.failing("lab")[0] == (2 if level == "fail" else 0)
