"""The raw costs that figures are read against, and what the kernel says of a process's CPU time and memory.

Per-core speed wanders by a quarter from second to second, so a probe is short and is taken again and again between the
pieces of what is measured. Probes and measurements are CPU time of the thread or process, except where a disk is waited
for.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair

MESSAGE_BYTES: Final = 600  # about what an attestation's signature is over
_PUBLIC, _SECRET = crypto_sign_seed_keypair(bytes(32))
_MESSAGE: Final = bytes(range(200)) * (MESSAGE_BYTES // 200)
_SIGNED: Final = crypto_sign(_MESSAGE, _SECRET)


def verify_many(count: int) -> None:
    """Verify one signature over MESSAGE_BYTES so many times, with PyNaCl and nothing around it."""
    for _ in range(count):
        crypto_sign_open(_SIGNED, _PUBLIC)


def verify_us(count: int = 400) -> float:
    """CPU microseconds of one raw Ed25519 verification, at this moment."""
    start = time.thread_time_ns()
    verify_many(count)
    return (time.thread_time_ns() - start) / count / 1000


def sha256_us(count: int = 4_000) -> float:
    """CPU microseconds of one SHA-256 over MESSAGE_BYTES."""
    start = time.thread_time_ns()
    for _ in range(count):
        hashlib.sha256(_MESSAGE).digest()
    return (time.thread_time_ns() - start) / count / 1000


def fdatasync_ms(directory: Path, count: int = 20) -> float:
    """Median wall milliseconds to have 4 KiB more of a file on disk."""
    path = directory / "fdatasync-probe"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(4096))
            start = time.perf_counter_ns()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter_ns() - start) / 1e6)
    path.unlink()
    return median(taken)


@dataclass
class Probes:
    """The probes of one run: take() between pieces of work; the medians stand beside the figures."""

    directory: Path | None = None
    verify: list[float] = field(default_factory=list)
    sha256: list[float] = field(default_factory=list)
    fdatasync: list[float] = field(default_factory=list)

    def take(self) -> float:
        """Probe once; returns the raw verification's microseconds."""
        self.verify.append(verify_us())
        self.sha256.append(sha256_us(1_000))
        if self.directory is not None:
            self.fdatasync.append(fdatasync_ms(self.directory))
        return self.verify[-1]

    def said(self) -> str:
        """The medians, in words."""
        parts = [f"Ed25519 verify {median(self.verify):.1f} us", f"SHA-256 {median(self.sha256):.2f} us"]
        if self.fdatasync:
            parts.append(f"fdatasync {median(self.fdatasync):.2f} ms")
        return ", ".join(parts)

    def verify_said(self) -> str:
        """The median and range of the raw verification, in words."""
        low, high = min(self.verify), max(self.verify)
        return f"Ed25519 verify {median(self.verify):.1f} us ({low:.1f} to {high:.1f})"


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, all its threads together, by its own CPU clock."""
    # The kernel's number of a process's CPU clock: its pid inverted, and 2 for user and system time together.
    return time.clock_gettime((~pid << 3) | 2)


def threads() -> set[int]:
    """The kernel's ids of this process's threads."""
    return {int(name) for name in os.listdir("/proc/self/task")}


def thread_cpu_s(thread: int) -> float:
    """CPU seconds that one of this process's threads has used; 0 if it has ended."""
    try:
        return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[0]) / 1e9
    except FileNotFoundError:
        return 0.0


def resident_bytes(pid: int) -> int:
    """The memory that a process has resident now."""
    return _status_bytes(pid, "VmRSS")


def peak_resident_bytes(pid: int) -> int:
    """The most that a process has had resident. (rusage would count what its parent had when it was started.)"""
    return _status_bytes(pid, "VmHWM")


def _status_bytes(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
