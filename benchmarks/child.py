"""What the benchmarks run in processes of their own: `python -m benchmarks.child ROLE ARGUMENT ...`.

    log CONFIG          the log's server            verifier CONFIG     a verifier
    gate DIRECTORY      a lab daemon's gate         raw                 raw verification on demand
    audit DIR FINGER    one audit                   meter SIZE DIR      a training loop under the meter

Each is the production entry point and nothing around it, but for the watch on standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final


def _log(config: str) -> None:
    from pacekeeper.log.server import serve

    serve(Path(config))


def _verifier(config: str) -> None:
    from pacekeeper.verifier.daemon import run

    run(Path(config))


def _gate(directory: str) -> None:
    from benchmarks.support.gate import serve_gate

    serve_gate(Path(directory))


def _audit(directory: str, fingerprint: str) -> None:
    from benchmarks.audit import audit_once

    _answer(audit_once(Path(directory), bytes.fromhex(fingerprint)))


def _meter(size: str, directory: str) -> None:
    from benchmarks.support.training import run_training

    _answer(run_training(size, Path(directory)))


def _raw() -> None:
    """Answer each line on standard input, a number of seconds, with verifications a second and CPU us of one."""
    from benchmarks.support.probes import verify_many

    for line in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        stop = start + float(line)
        count = 0
        while time.perf_counter() < stop:
            verify_many(50)
            count += 50
        cpu = time.process_time() - cpu
        _answer({"rate": count / (time.perf_counter() - start), "cpu_us": cpu / count * 1e6})


def _answer(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


def _watch() -> None:
    """End this process group once standard input ends: whoever started it is gone."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, name="benchmarks-watch", daemon=True).start()


_ROLES: Final[dict[str, Callable[..., None]]] = {
    "log": _log,
    "verifier": _verifier,
    "gate": _gate,
    "audit": _audit,
    "meter": _meter,
    "raw": _raw,
}


def main() -> None:
    role, *arguments = sys.argv[1:]
    if role != "raw":  # its own reading of standard input ends it
        _watch()
    _ROLES[role](*arguments)


if __name__ == "__main__":
    main()
