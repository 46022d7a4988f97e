"""System calls of one thread of a running process, listed and made to fail, by strace.

with traced(tids, CALLS) as calls: ...                              # afterwards: what each thread did
with injected(tid, Fault("fdatasync", 1, "error=EIO")): ...         # its first fdatasync from now on fails
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from requirements import missing, require_executable

_LINE: Final = re.compile(r"(\d+) +([a-z0-9_]+)\((.*)")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Call:
    """The number-th call of this name (from 1) by this thread; text is what strace says of it."""

    tid: int
    name: str
    number: int
    text: str

    @property
    def path(self) -> str:
        """The file that it is about, as far as strace tells: of a rename the target."""
        on = re.match(r"(?:AT_FDCWD|\d+)<([^>]*)>", self.text)
        if self.name in {"write", "pwrite64", "fsync", "fdatasync", "ftruncate", "pread64"} and on is not None:
            return on[1]
        quoted = _QUOTED.findall(self.text)
        return quoted[-1] if quoted else ""


@dataclass(frozen=True)
class Fault:
    """How a call fails: "error=EIO", "error=ENOSPC" or "signal=KILL"."""

    name: str
    number: int
    how: str


def require_strace() -> None:
    """Go on only where strace may trace, or skip and say why."""
    strace = require_executable("strace")
    tried = subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        missing(f"strace may not trace here: {tried.stderr.strip()[:200]}")


def _calls(text: str) -> Iterator[Call]:
    numbers: Counter[tuple[int, str]] = Counter()
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            tid, name = int(match[1]), match[2]
            numbers[tid, name] += 1
            yield Call(tid, name, numbers[tid, name], match[3])


@contextlib.contextmanager
def traced(pid: int, names: Sequence[str]) -> Iterator[list[Call]]:
    """List the calls of these names that all threads of a process make meanwhile; the list is there at the end."""
    calls: list[Call] = []
    with tempfile.NamedTemporaryFile(prefix="trace-") as file:
        with _strace(["-f", "-p", str(pid), "-y", "-s", "32", "-o", file.name, "-e", f"trace={','.join(names)}"]):
            yield calls
        calls.extend(_calls(Path(file.name).read_text(errors="replace")))


@contextlib.contextmanager
def injected(tid: int, fault: Fault) -> Iterator[None]:
    """Let one call of one thread fail, counted from here."""
    inject = f"inject={fault.name}:{fault.how}:when={fault.number}"
    with _strace(["-p", str(tid), "-o", os.devnull, "-e", f"trace={fault.name}", "-e", inject]):
        yield


@contextlib.contextmanager
def _strace(arguments: list[str]) -> Iterator[None]:
    process = subprocess.Popen(["strace", *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        assert "attached" in said, said
        yield
    finally:
        process.terminate()
        process.stderr.close()
        process.wait()
