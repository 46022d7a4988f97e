"""Runs benchmarks and prints their figures: `python -m benchmarks [NAME ...] [--quick] [--json] [--markdown]`.

A missed bound is printed and is no failure of the run: the exit status is 0 when everything could be measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

from benchmarks.support.figures import Figures
from benchmarks.support.made_logs import cached

NAMES: Final = (
    "replay",
    "audit",
    "ingest",
    "latency",
    "memory",
    "meter",
    "pledges",
    "commitments",
    "hold",
    "restart",
    "witness",
    "sealed",
    "cli",
)
README: Final = Path(__file__).with_name("README.md")
_BEGIN: Final = "<!-- figures of the last full run: written by python -m benchmarks --markdown -->\n"
_END: Final = "<!-- end of the figures -->\n"


@dataclass(frozen=True)
class Options:
    """names: in order. size: TINY, QUICK, FULL or HUGE, each benchmark's own configuration of that name."""

    names: tuple[str, ...]
    size: str
    as_json: bool
    markdown: bool


def run(name: str, size: str) -> Figures:
    """Run one benchmark in a directory of its own, which is then removed."""
    module: Any = importlib.import_module(f"benchmarks.{name}")
    config = getattr(module, size, None) or module.FULL  # only some have more to do with --huge
    measure: Callable[..., Figures] = module.measure
    with tempfile.TemporaryDirectory(prefix=f"pacekeeper-{name}-") as work:
        match name:
            case "replay" | "pledges" | "commitments" | "sealed" | "cli":
                return measure(config)
            case "audit":
                return measure(config, Path(work) if size == "TINY" else cached())
            case _:
                return measure(config, Path(work))


def machine() -> str:
    """What the figures were measured on, in words."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}"


def options_of(arguments: list[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, as ratios within one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; all by default")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", dest="size", action="store_const", const="QUICK", help="smaller, under two minutes")
    sizes.add_argument("--tiny", dest="size", action="store_const", const="TINY", help="only to see that it runs")
    sizes.add_argument("--huge", dest="size", action="store_const", const="HUGE", help="a million entries as well")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument(
        "--markdown", action="store_true", help="write the figures of a full run into README.md as well"
    )
    parser.set_defaults(size="FULL")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if given.markdown and (given.names or given.size not in ("FULL", "HUGE")):
        parser.error("--markdown is for a full run of everything")
    return Options(tuple(given.names) or NAMES, given.size, given.json, given.markdown)


def main(arguments: list[str]) -> int:
    options = options_of(arguments)
    # A plain exit, so that every child is ended on the way out.
    signal.signal(signal.SIGTERM, _leave)
    begun, load_before = time.monotonic(), os.getloadavg()[0]
    if not options.as_json:
        print(f"machine: {machine()}; load {load_before:.1f}\n", flush=True)
    results = []
    for name in options.names:
        load, start = os.getloadavg()[0], time.monotonic()
        figures = run(name, options.size)
        results.append(figures)
        if not options.as_json:
            print(figures.to_text())
            print(f"  took {time.monotonic() - start:.0f} s, load before {load:.1f}\n", flush=True)
    seconds = time.monotonic() - begun
    if options.as_json:
        facts = {"machine": machine(), "size": options.size, "seconds": seconds}
        print(json.dumps({**facts, "benchmarks": [figures.to_json() for figures in results]}, indent=2))
    else:
        print(summary(results, seconds))
    if options.markdown:
        write_readme(results, f"load {load_before:.1f} before it; {seconds:.0f} s")
    return 0


def summary(results: list[Figures], seconds: float) -> str:
    """How many bounds were met, and which were not."""
    bounded = [figure for figures in results for figure in figures.figures if figure.met is not None]
    missed = [f"  {figure.name}: {figure.verdict()}" for figure in bounded if not figure.met]
    met = len(bounded) - len(missed)
    return "\n".join([f"{met} of {len(bounded)} bounds met, in {seconds:.0f} s", *missed])


def write_readme(results: list[Figures], circumstances: str) -> None:
    """Replace the figures in README.md."""
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(_BEGIN)
    _, tail = rest.split(_END)
    day = datetime.now(UTC).date().isoformat()
    parts = [f"{day}; {machine()}; {circumstances}.\n", *(figures.to_markdown() for figures in results)]
    README.write_text(head + _BEGIN + "\n" + "\n".join(parts) + "\n" + _END + tail, encoding="utf-8")


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
