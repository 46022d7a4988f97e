"""Replay alone: what applying an entry costs when its signature was verified elsewhere.

One thread, one process. The entries are the script's, about 99 % attestations; signatures are taken for good. In the
figure are deadlines, caps of all three kinds over windows of thirty periods, and the forgetting of old periods.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from benchmarks.support.figures import Figure, Figures, Table
from benchmarks.support.founding import found
from benchmarks.support.probes import Probes
from benchmarks.support.script import FIGURES, script
from pacekeeper.protocol.canonical import parse_canonical
from pacekeeper.protocol.envelope import identity, pae, parse_entry
from pacekeeper.protocol.replay import State, apply, genesis
from pacekeeper.protocol.statements import STATEMENTS, parse_statement
from pacekeeper.v1 import envelope_pb2

BOUND_US: Final = 10.0
_CHUNK: Final = 500


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
        Figure("replay over raw verification", headline.over_raw, "of one Ed25519 verification", raw),
    ]
    return Figures(
        "replay",
        "one process, one thread; signatures off",
        tuple(rows),
        (headline.table(),),
        ("stages are timed each on its own over the same entries; the last is the whole less the others",),
    )


def _trust(_key: bytes, _message: bytes, _signature: bytes) -> bool:
    return True


class _Shape:
    """The replay of accounts with so many runs each, in chunks with a probe between them."""

    def __init__(self, count: int, figures: int, probes: Probes) -> None:
        entries = [item.entry for item in script(found(), count, figures)]
        self._stages: dict[str, list[float]] = {}
        state = genesis(entries[0])
        totals, ratios = [], []
        for start in range(1, count, _CHUNK):
            chunk = entries[start : start + _CHUNK]
            raw_us = probes.take()
            totals.append(self._apply(state, chunk))
            ratios.append(totals[-1] / raw_us)
            for name, stage in _STAGES:
                self._time(name, stage, chunk)
        assert not state.violations, "the script is compliant"
        assert not state.voids, "and every entry is in order"
        # The first chunks declare runs and fill the windows.
        self.total_us = median(totals[len(totals) // 4 :])
        self.over_raw = median(ratios[len(ratios) // 4 :])
        size = median(map(len, entries[count // 2 :]))
        self.said = f"{figures} run{'s' * (figures > 1)} and {size:.0f} bytes an entry; {count - 1} entries"

    def table(self) -> Table:
        """Where the time goes."""
        parse, statement, name = (median(self._stages[stage]) for stage in ("entry", "statement", "name"))
        entry_decode, statement_decode = (median(self._stages[stage]) for stage in ("entry bytes", "statement bytes"))
        rows = [
            ("entry: decode and canonical form", entry_decode),
            ("entry: signatures' shape and limits", parse - entry_decode),
            ("statement: decode and canonical form", statement_decode),
            ("statement: shape of its fields", statement - statement_decode),
            ("PAE and identity", name),
            ("authority, deadlines, chain, sums and caps", self.total_us - parse - statement - name),
            ("whole", self.total_us),
        ]
        return Table("where it goes", ("stage", "us"), tuple((label, f"{us:.2f}") for label, us in rows))

    def _apply(self, state: State, chunk: Sequence[bytes]) -> float:
        start = time.thread_time_ns()
        for entry in chunk:
            apply(state, entry, verify=_trust)
        return (time.thread_time_ns() - start) / len(chunk) / 1000

    def _time(self, name: str, stage: Callable[[Any], object], chunk: Sequence[bytes]) -> None:
        given = [_GIVEN[name](entry) for entry in chunk]
        start = time.thread_time_ns()
        for item in given:
            stage(item)
        self._stages.setdefault(name, []).append((time.thread_time_ns() - start) / len(chunk) / 1000)


def _decode_entry(data: bytes) -> None:
    parse_canonical(envelope_pb2.Entry, data)


def _decode_statement(envelope: envelope_pb2.Envelope) -> None:
    parse_canonical(STATEMENTS[envelope.payload_type], envelope.payload)


def _name(envelope: envelope_pb2.Envelope) -> bytes:
    return identity(pae(envelope.payload_type, envelope.payload))


def _bytes(entry: bytes) -> bytes:
    return entry


def _envelope(entry: bytes) -> envelope_pb2.Envelope:
    # Kept within its entry, as the replay has it.
    return parse_entry(entry).envelope


_STAGES: Final[tuple[tuple[str, Callable[[Any], object]], ...]] = (
    ("entry bytes", _decode_entry),
    ("entry", parse_entry),
    ("statement bytes", _decode_statement),
    ("statement", parse_statement),
    ("name", _name),
)
_GIVEN: Final[dict[str, Callable[[bytes], Any]]] = {
    "entry bytes": _bytes,
    "entry": _bytes,
    "statement bytes": _envelope,
    "statement": _envelope,
    "name": _envelope,
}
