"""This machine: state directory, disk, ports, and what is installed."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pacekeeper.cli.doctor.check import Check, fail, ok, warn
from pacekeeper.cli.doctor.subject import Subject
from pacekeeper.log.recovery import UNSAFE_MARKER

WARN_BYTES: Final = 1_000_000_000
FAIL_BYTES: Final = 100_000_000
_EXTRAS: Final = ("jax", "torch", "transformers")
_STORES: Final = {"log": "log.sqlite", "verifier": "verifier.db"}
_MARKED_SIZE: Final = re.compile(r"^size ([0-9]{20})$", re.MULTILINE)


def check_state(subject: Subject) -> Iterator[Check]:
    """The state directory, and what a role says there about itself."""
    yield directory_check("state", subject.state, unsafe=True)
    marker = subject.state / UNSAFE_MARKER
    if subject.role == "log" and marker.exists():
        yield fail(
            "state",
            f"{marker} says that a write has failed",
            "check the disk, run `pacekeeper log fsck`, then remove that file",
            unsafe=True,
        )
    store = _STORES.get(subject.role)
    if store is not None and not (subject.state / store).exists():
        yield _no_store(subject, subject.state / store)


def _no_store(subject: Subject, store: Path) -> Check:
    if subject.role == "log":
        return fail("store", f"{store} is absent: the log has no entry 0", "run `pacekeeper log init`, or restore it")
    marker = subject.keys["cosign_key"].with_name(subject.keys["cosign_key"].name + ".witness")
    try:
        size = _MARKED_SIZE.search(marker.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        size = None
    if size is not None and int(size[1]):
        return fail(
            "store",
            f"{store} is absent, but the cosigning key has cosigned {int(size[1])} entries (says {marker})",
            "restore the state directory; a key whose memory is lost must not sign, the agreement has to name another",
            unsafe=True,
        )
    return ok("store", f"{store} will be made at the first start")


def directory_check(name: str, path: Path, *, unsafe: bool = False) -> Check:
    """Whether a directory is there, this user's, closed to others' writing, and writable; or can be made."""
    try:
        status = path.stat()
    except FileNotFoundError:
        parent = next(parent for parent in path.parents if parent.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return ok(name, f"{path} will be made at the first start")
        return fail(name, f"{path} is absent and cannot be made in {parent}", "make it for this user", unsafe=unsafe)
    except OSError as error:
        return fail(name, f"{path} cannot be looked at: {error.strerror}", "correct the path", unsafe=unsafe)
    if not stat.S_ISDIR(status.st_mode):
        return fail(name, f"{path} is not a directory", "move that file away, or correct the path", unsafe=unsafe)
    if status.st_uid != os.geteuid():
        owner = f"{path} belongs to user {status.st_uid}, and this is user {os.geteuid()}"
        return fail(name, owner, "run as the user that the role runs as", unsafe=unsafe)
    if status.st_mode & 0o002:
        mode = f"anybody may write to {path} (mode {stat.S_IMODE(status.st_mode):04o})"
        return fail(name, mode, f"chmod 700 {path}", unsafe=unsafe)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return fail(name, f"{path} is not writable", f"chmod u+rwx {path}", unsafe=unsafe)
    if status.st_mode & 0o020:
        mode = f"the group may write to {path} (mode {stat.S_IMODE(status.st_mode):04o})"
        return warn(name, mode, f"chmod 700 {path}, unless the group is this user alone")
    return ok(name, f"{path} is there, this user's, and writable")


def check_disk(subject: Subject) -> Check:
    """How much room there is where the state is."""
    place = next(place for place in (subject.state, *subject.state.parents) if place.exists())
    return judge_disk(place, shutil.disk_usage(place).free)


def judge_disk(place: Path, free: int) -> Check:
    """A full disk stops a role for good: after a failed write it signs nothing more."""
    sentence = f"{free / 1e9:.1f} GB free below {place}"
    if free < FAIL_BYTES:
        return fail("disk", sentence, "make room before a write fails: a role stops at that")
    if free < WARN_BYTES:
        return warn("disk", sentence, "make room soon")
    return ok("disk", sentence)


def check_ports(subject: Subject) -> Iterator[Check]:
    """Whether what the role listens on is free, or is held by the role itself."""
    running = running_role(subject.ready)
    for name, address in subject.listen.items():
        yield _port(name, address, running)


def running_role(ready: Path) -> dict[str, object] | None:
    """What the role said when it started, if it still runs."""
    try:
        facts = json.loads(ready.read_text(encoding="utf-8"))
        os.kill(int(facts["pid"]), 0)
    except PermissionError:  # it runs, as another user
        return facts if isinstance(facts, dict) else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return facts if isinstance(facts, dict) else None


def _port(name: str, address: str, running: dict[str, object] | None) -> Check:
    host, separator, port = address.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        return fail(name, f'"{address}" is not an address such as "127.0.0.1:7801"', "correct it in the configuration")
    bound = None if running is None else running.get(name)
    if running is not None and (bound == address or port == "0"):
        return ok(name, f"{bound} is held by the running role, process {running['pid']}")
    if port == "0":
        return ok(name, f"{address} takes any free port")
    problem = _try_to_bind(host.strip("[]"), int(port))
    if problem is None:
        return ok(name, f"{address} is free")
    if problem == errno.EADDRINUSE:
        return fail(name, f"{address} is in use by another program", "stop that one, or choose another port")
    advice = "choose an address of this machine" if problem == errno.EADDRNOTAVAIL else "choose another address"
    return fail(name, f"{address} cannot be listened on: {os.strerror(problem)}", advice)


def _try_to_bind(host: str, port: int) -> int | None:
    try:
        [family, kind, protocol, _, place], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen(1)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except (OSError, UnicodeError) as error:
        return getattr(error, "errno", None) or errno.EINVAL
    return None


def check_python() -> Iterator[Check]:
    """Information: the interpreter, and which optional extras are installed."""
    yield ok("python", f"Python {platform.python_version()} at {sys.executable}")
    found = [f"{name} {importlib.metadata.version(name)}" for name in _EXTRAS if importlib.util.find_spec(name)]
    yield ok("extras", f"for metering: {', '.join(found) or 'none installed; lab exec needs none'}")
