"""What only a lab has: the socket and the spool that its training processes use, and its accelerators."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pacekeeper.cli.doctor.check import Check, fail, ok, warn
from pacekeeper.cli.doctor.machine import directory_check, running_role
from pacekeeper.cli.doctor.subject import Subject
from pacekeeper.client.config import resolve
from pacekeeper.client.errors import ConfigError
from pacekeeper.node.config import LabSettings, check_socket_path, load_settings
from pacekeeper.protocol import limits, units

# Between a slow processor core and well above the fastest accelerator: outside of it the unit is probably wrong.
_SLOWEST, _FASTEST = 1, 100_000_000  # gigaFLOP per second of one accelerator
_CONNECT_S: Final = 2.0


def check_lab(subject: Subject) -> Iterator[Check]:
    """Socket, spool and pools. What the agreement has to say needs a bundle, so without one the rest is left out."""
    assert subject.lab is not None
    yield _socket(subject, resolve(subject.config_path, subject.lab.socket))
    yield directory_check("spool", resolve(subject.config_path, subject.lab.spool))
    if subject.bundle is None:
        return
    try:
        settings = load_settings(subject.config_path)
    except ConfigError as error:
        yield fail("lab", str(error), f"correct it in {subject.config_path}")
        return
    yield from _pools(settings)


def _socket(subject: Subject, path: Path) -> Check:
    try:
        check_socket_path(path, "socket")
    except ConfigError as error:
        return fail("socket", str(error), f"shorten it in {subject.config_path}")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if running_role(subject.ready) is not None:
            return fail("socket", f"{path} is gone, though the daemon runs", "restart the daemon")
        return ok("socket", f"{path} will be made when the daemon starts")
    except OSError as error:
        return fail("socket", f"{path} cannot be looked at: {error.strerror}", "correct the path")
    if not stat.S_ISSOCK(mode):
        return fail("socket", f"{path} is not a socket", "move that file away, or correct the path")
    if mode & 0o077:
        sentence = f"others than the owner may open {path} (mode {stat.S_IMODE(mode):04o}) and report for the lab"
        return fail("socket", sentence, f"chmod 600 {path}", unsafe=True)
    return _answers(path)


def _answers(path: Path) -> Check:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(str(path))
        except OSError:
            advice = "the daemon makes it anew when it starts: `pacekeeper lab run`"
            return warn("socket", f"{path} is left over, and nobody answers there", advice)
    return ok("socket", f"the daemon answers at {path}")


def _pools(settings: LabSettings) -> Iterator[Check]:
    total = sum(pool.count * pool.peak_gflop_per_s for pool in settings.pools)
    count = sum(pool.count for pool in settings.pools)
    for pool in settings.pools:
        if not _SLOWEST < pool.peak_gflop_per_s < _FASTEST:
            sentence = f"one {pool.model} is said to do {units.format_flop(pool.peak_gflop_per_s)} per second"
            yield warn("pools", sentence, "check the unit: peak is of one accelerator, in its fastest dense mode")
    period_s = settings.agreement.calendar.period_ms // 1000
    most = total * max(1, period_s)
    sentence = f"{count} accelerators, at most {units.format_flop(most)} in a period of the agreement"
    if most > limits.MAX_TREE_SIZE:
        yield warn("pools", sentence, "more than one figure can state; check counts and peaks")
    else:
        yield ok("pools", sentence)
