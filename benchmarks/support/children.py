"""Child processes: servers that are always ended, jobs that answer with JSON.

Each child leads a process group of its own and watches its standard input: when this process ends, however it ends, the
child takes its whole group with it.

Example:
    with server("log", config, ready=state / "ready", output=work / "log.out") as process: cpu_s(process.pid)
    answer = job("audit", directory, fingerprint)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
STOP_S: Final = 20.0  # for a server to end by itself when asked to


class ChildFailed(RuntimeError):
    """A child ended, or did not start, other than it should have; the message has what it said last."""


@dataclass(frozen=True)
class Launch:
    """What is to be started: it writes its ready file once it serves, and what it says goes to the output file."""

    role: str
    arguments: tuple[object, ...]
    ready: Path
    output: Path

    def said(self) -> str:
        """The end of what it said."""
        return self.output.read_text(errors="replace")[-4000:]


@contextlib.contextmanager
def server(
    role: str, *arguments: object, ready: Path, output: Path, patience_s: float = 60
) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process, running once its ready file is there; ended at the end."""
    with servers([Launch(role, arguments, ready, output)], patience_s=patience_s) as (process,):
        yield process


@contextlib.contextmanager
def servers(launches: Sequence[Launch], *, patience_s: float = 60) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Several servers that start side by side. ChildFailed if one does not start, or has ended before the end."""
    with contextlib.ExitStack() as stack:
        processes = []
        for launch in launches:
            launch.ready.unlink(missing_ok=True)
            file = stack.enter_context(launch.output.open("ab"))
            processes.append(stack.enter_context(_started(launch.role, launch.arguments, file)))
        deadline = time.monotonic() + patience_s
        for launch, process in zip(launches, processes, strict=True):
            while not launch.ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ChildFailed(f"{launch.role} did not start:\n{launch.said()}")
                time.sleep(0.005)
        yield processes
        for launch, process in zip(launches, processes, strict=True):
            if process.poll() is not None:
                raise ChildFailed(f"{launch.role} ended early:\n{launch.said()}")
        for process in processes:  # all at once; each is waited for on the way out
            process.terminate()


def job(role: str, *arguments: object, patience_s: float = 600) -> dict[str, Any]:
    """Run a child to its end and return the JSON object that it prints last."""
    with _started(role, arguments, subprocess.PIPE) as process:
        try:
            # Its standard input stays open meanwhile, and what it prints fits into the pipe.
            status = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise ChildFailed(f"{role} took longer than {patience_s:.0f} s") from None
        if status != 0:
            raise ChildFailed(f"{role} ended with status {status}")
        assert process.stdout is not None
        answer: dict[str, Any] = json.loads(process.stdout.read().decode().strip().splitlines()[-1])
        return answer


class Raw(NamedTuple):
    """What raw verification costs while every worker is at it: all workers' rate a second, CPU us of one."""

    rate: float
    cpu_us: float


class RawWorkers:
    """Processes that do nothing but raw verification, at the same time, when told to. Use it in `with`."""

    def __init__(self, count: int = 2) -> None:
        self._count = count
        self._stack = contextlib.ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> RawWorkers:
        for _ in range(self._count):
            process = self._stack.enter_context(_started("raw", (), subprocess.PIPE))
            self._processes.append(process)
        self.run(0.05)  # all of them are up once they have answered
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, seconds: float) -> Raw:
        """Have all of them verify for so many seconds."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{seconds}\n".encode())
            process.stdin.flush()
        answers = []
        for process in self._processes:
            assert process.stdout is not None
            answers.append(json.loads(process.stdout.readline()))
        return Raw(sum(answer["rate"] for answer in answers), fmean(answer["cpu_us"] for answer in answers))


@contextlib.contextmanager
def _started(role: str, arguments: tuple[object, ...], output: Any) -> Iterator[subprocess.Popen[bytes]]:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    environment["GRPC_VERBOSITY"] = "NONE"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.child", role, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=None if output is subprocess.PIPE else subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the child to end, then end it and whatever it has started."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
