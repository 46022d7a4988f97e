"""A benchmark's result: figures with their bound and the raw cost beside them, and how they are shown.

Example: Figure("replay", 8.4, "us an entry", raw="Ed25519 verify 61.0 us", bound=10.0).met is True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One number. raw: the probe of the same run that it is read against. bound: at most, or at least if so said."""

    name: str
    value: float
    unit: str
    raw: str
    bound: float | None = None
    at_least: bool = False
    stretch: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value over its bound."""
        return None if self.bound is None else self.value / self.bound

    @property
    def met(self) -> bool | None:
        """Whether the bound is kept; None where there is none."""
        return None if self.bound is None else self._keeps(self.bound)

    def verdict(self) -> str:
        """The bound, the ratio to it and the outcome, in words."""
        if self.bound is None:
            return ""
        word = "at least" if self.at_least else "at most"
        outcome = "met" if self.met else "MISSED"
        if self.stretch is not None:
            outcome += f", stretch {number(self.stretch)} {'met' if self._keeps(self.stretch) else 'missed'}"
        return f"{word} {number(self.bound)}, ratio {self.ratio:.2f}: {outcome}"

    def to_json(self) -> dict[str, Any]:
        """The promised fields."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "raw": self.raw,
            "bound": self.bound,
            "at_least": self.at_least,
            "stretch": self.stretch,
            "ratio": self.ratio,
            "met": self.met,
            "note": self.note,
        }

    def _keeps(self, bound: float) -> bool:
        return self.value >= bound if self.at_least else self.value <= bound


@dataclass(frozen=True)
class Table:
    """Where the cost goes: rows of text under column heads."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figures:
    """A benchmark's whole result. topology: which processes ran where, and what was acknowledged how."""

    benchmark: str
    topology: str
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "topology": self.topology,
            "figures": [figure.to_json() for figure in self.figures],
            "tables": [
                {"title": table.title, "columns": list(table.columns), "rows": [list(row) for row in table.rows]}
                for table in self.tables
            ],
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """For a terminal."""
        lines = [self.benchmark, f"  topology: {self.topology}"]
        for figure in self.figures:
            lines.append(f"  {figure.name}: {number(figure.value)} {figure.unit}   [raw: {figure.raw}]")
            lines.extend(f"      {line}" for line in (figure.verdict(), figure.note) if line)
        for table in self.tables:
            lines.append(f"  {table.title}")
            lines.extend(f"    {line}" for line in _aligned([table.columns, *table.rows]))
        lines.extend(f"  note: {note}" for note in self.notes)
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """For the README."""
        parts = [f"### {self.benchmark}", f"Topology: {self.topology}"]
        head = ("figure", "value", "raw, same run", "bound")
        rows = [
            (figure.name, f"{number(figure.value)} {figure.unit}", figure.raw, figure.verdict() or "reported")
            for figure in self.figures
        ]
        parts.append(_markdown_table(head, rows))
        for table in self.tables:
            parts += [f"{table.title}:", _markdown_table(table.columns, table.rows)]
        notes = [*(f"{figure.name}: {figure.note}" for figure in self.figures if figure.note), *self.notes]
        if notes:
            parts.append("\n".join(f"- {note}" for note in notes))
        return "\n\n".join(parts) + "\n"


def number(value: float) -> str:
    """Three significant digits, large numbers whole and grouped."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return lines


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(columns), " | ".join("---" for _ in columns), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
