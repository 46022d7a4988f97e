"""`make fuzz`: every parser of the network under atheris, coverage-guided, each for a while.

    python tests/fuzz [TARGET ...] --seconds 30

A crash prints the bytes, keeps them in a file named crash-..., and ends with a status above 0.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

SUPPORT = Path(__file__).resolve().parents[1] / "support"


def main() -> int:
    """Fuzz the named targets, all by default, one process each: atheris never returns."""
    sys.path.insert(0, str(SUPPORT))
    given = _parsed()
    if given.worker:
        _work(given.names[0], given.seconds, given.corpus)
    from fuzz_targets import targets

    failed = 0
    for name in given.names or sorted(targets()):
        with tempfile.TemporaryDirectory(prefix="pacekeeper-fuzz-") as corpus:
            for number, seed in enumerate(targets()[name].seeds):
                (Path(corpus) / str(number)).write_bytes(seed)
            words = [name, "--worker", "--seconds", str(given.seconds), "--corpus", corpus]
            done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
        outcome = "defect" if done.returncode else "nothing found"
        sys.stdout.write(f"{name}: {outcome} in {given.seconds} s\n")
        sys.stdout.flush()
        if done.returncode:
            sys.stdout.write(done.stderr[-4_000:])
            failed = 1
    return failed


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description="Fuzz the parsers of the network.")
    parser.add_argument("names", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _work(name: str, seconds: int, corpus: str) -> None:
    import atheris

    with atheris.instrument_imports(include=["pacekeeper"]):
        from fuzz_targets import attempt, targets
    target = targets()[name]

    def one(data: bytes) -> None:
        attempt(target, data)

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", corpus], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
