"""Replay alone: what applying an entry costs when its signature was verified elsewhere.

One thread, one process. The entries are the script's, about 99 % attestations; signatures are taken for good. In the
figure are deadlines, caps of all three kinds over windows of thirty periods, and the forgetting of old periods. Nearly
all are read by the layout of an earlier one of their lab; what it costs when none is alike is measured beside it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from benchmarks.support.figures import Figure, Figures, Table
from benchmarks.support.founding import found
from benchmarks.support.probes import Probes
from benchmarks.support.script import FIGURES, script
from pacekeeper.protocol.envelope import Signed, parse_entry, read_entry, read_envelope
from pacekeeper.protocol.layouts import Layout
from pacekeeper.protocol.readings import AttestationReading
from pacekeeper.protocol.replay import State, apply, genesis
from pacekeeper.protocol.replay.labs import LabState
from pacekeeper.protocol.statements import payload_type, read_statement
from pacekeeper.v1 import statements_pb2 as pb

BOUND_US: Final = 10.0
_CHUNK: Final = 500
_ATTESTATION: Final = payload_type(pb.ComputeAttestation)


@dataclass(frozen=True)
class Config:
    """entries: replayed once per shape; shapes: runs in an account, the headline's among them."""

    entries: int
    shapes: tuple[int, ...] = (1, FIGURES, 8)


TINY: Final = Config(entries=1_001, shapes=(1, FIGURES))
QUICK: Final = Config(entries=10_001)
FULL: Final = Config(entries=40_001)


def measure(config: Config) -> Figures:
    """Replay the script once for each shape."""
    probes = Probes()
    shapes = {figures: _Shape(config.entries, figures, probes) for figures in config.shapes}
    with _learning(lambda *_: None):  # as if no two attestations of a lab were alike
        in_full = _Shape(config.entries, FIGURES, probes)
    headline = shapes[FIGURES]
    raw = probes.verify_said()
    rows = [
        Figure("replay of an attestation", headline.total_us, "us an entry", raw, BOUND_US, note=headline.said),
        *(
            Figure(
                f"the same, {figures} run{'s' * (figures > 1)} in each account",
                shape.total_us,
                "us an entry",
                raw,
                BOUND_US if figures < FIGURES else None,
                note=shape.said,
            )
            for figures, shape in shapes.items()
            if figures != FIGURES
        ),
        Figure("the same, each read in full", in_full.total_us, "us an entry", raw),
        Figure("replay over raw verification", headline.over_raw, "of one Ed25519 verification", raw),
    ]
    return Figures(
        "replay",
        "one process, one thread; signatures off",
        tuple(rows),
        headline.tables(),
        ("stages are timed each on its own over the same entries; the third is the whole less the others",),
    )


def _trust(_key: bytes, _message: bytes, _signature: bytes) -> bool:
    return True


class _Shape:
    """The replay of accounts with so many runs each, in chunks with a probe between them."""

    def __init__(self, count: int, figures: int, probes: Probes) -> None:
        entries = [item.entry for item in script(found(), count, figures)]
        self._read_in_full = self._attested = 0
        self._stages: dict[str, list[float]] = {}
        state = genesis(entries[0])
        totals, ratios = [], []
        for start in range(1, count, _CHUNK):
            chunk = entries[start : start + _CHUNK]
            raw_us = probes.take()
            attested = [signed for _, signed in map(read_entry, chunk) if signed.payload_type == _ATTESTATION]
            totals.append(self._apply(state, chunk))
            ratios.append(totals[-1] / raw_us)
            self._time("entry", read_entry, chunk)
            self._time("entry in full", _read_entry_in_full, chunk)
            self._time("statement in full", _read_in_full, attested)
            layouts = [_layout_of(state, signed) for signed in attested]
            alike = zip(layouts, attested, strict=True)
            fitting = [(layout, signed.payload) for layout, signed in alike if layout is not None]
            self._time("statement", _read_by_layout, fitting)
            self._attested += len(attested)
        assert not state.violations, "the script is compliant"
        assert not state.voids, "and every entry is in order"
        # The first chunks declare runs and fill the windows.
        self.total_us = median(totals[len(totals) // 4 :])
        self.over_raw = median(ratios[len(ratios) // 4 :])
        size = median(map(len, entries[count // 2 :]))
        self.said = f"{figures} run{'s' * (figures > 1)} and {size:.0f} bytes an entry; {count - 1} entries"
        if self._read_in_full:
            self.said += f", of which {self._read_in_full / self._attested:.1%} were read in full"

    def tables(self) -> tuple[Table, Table]:
        """Where the time goes, and what the stages that have short cuts take without them."""
        entry, entry_in_full, statement, statement_in_full = (
            median(self._stages[stage]) for stage in ("entry", "entry in full", "statement", "statement in full")
        )
        rows = [
            ("entry: framing, PAE and identity", entry),
            ("attestation: by the layout of another", statement),
            ("authority, deadlines, chain, sums and caps", self.total_us - entry - statement),
            ("whole", self.total_us),
        ]
        in_full = [("an entry", entry_in_full), ("an attestation", statement_in_full)]
        return _table("where it goes", rows), _table("without the short cuts", in_full)

    def _apply(self, state: State, chunk: Sequence[bytes]) -> float:
        learn = LabState.learn

        def counted(lab: LabState, payload: bytes, said: AttestationReading) -> None:
            self._read_in_full += 1
            learn(lab, payload, said)

        with _learning(counted):
            start = time.thread_time_ns()
            for entry in chunk:
                apply(state, entry, verify=_trust)
            taken_ns = time.thread_time_ns() - start
        return taken_ns / len(chunk) / 1000

    def _time(self, name: str, stage: Callable[[Any], object], given: Sequence[object]) -> None:
        if not given:
            return
        start = time.thread_time_ns()
        for item in given:
            stage(item)
        self._stages.setdefault(name, []).append((time.thread_time_ns() - start) / len(given) / 1000)


def _table(title: str, rows: Sequence[tuple[str, float]]) -> Table:
    return Table(title, ("stage", "us"), tuple((label, f"{us:.2f}") for label, us in rows))


@contextlib.contextmanager
def _learning(instead: Callable[[LabState, bytes, AttestationReading], None]) -> Iterator[None]:
    """Have something else done wherever the replay learns the layout of an attestation that it read in full."""
    learn = LabState.learn
    LabState.learn = instead  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        LabState.learn = learn  # type: ignore[method-assign]


def _layout_of(state: State, signed: Signed) -> Layout | None:
    """The layout that now fits an attestation, if there is one."""
    layout = state.labs[state.keyring[signed.signatures[0][0]].owner].layouts.get(len(signed.payload))
    return layout if layout is not None and layout.read(signed.payload) is not None else None


def _read_by_layout(given: tuple[Layout, bytes]) -> None:
    given[0].read(given[1])


def _read_entry_in_full(data: bytes) -> None:
    read_envelope(parse_entry(data).envelope)


def _read_in_full(signed: Signed) -> None:
    read_statement(signed.payload_type, signed.payload)
