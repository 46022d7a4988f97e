"""Commitments for tests: documents from tables, members, and a world in which they are played.

Example: play = Play(pause(entry={"parties": 2})); play.at("1 d").pledge("norland"); play.phase == "open"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pacekeeper.protocol.commitments.constraints import Constraints
from pacekeeper.protocol.commitments.player import Player, Step
from pacekeeper.protocol.commitments.pledges import Condition
from pacekeeper.protocol.commitments.registry import Registry
from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.commitments.triggers import Report
from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.documents.commitment_model import Commitment, Members
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.units import format_time, parse_duration, parse_time

START_MS: Final = parse_time("2026-01-01T00:00:00Z")
MEMBERS: Final = Members(
    parties=frozenset({"norland", "sudland", "westmere", "eastholm"}),
    labs={"borealis": "norland", "meridian": "sudland", "zephyr": "westmere", "aurora": "norland"},
    tolerance_ms=10_000,
)

Rows = Mapping[str, object]
Tables = Mapping[str, Rows | Sequence[Rows]]

MEASURES: Final[dict[str, Tables]] = {
    "pause": {"pause": {"above": "1e24 FLOP", "wind_down": "6 h"}},
    "slow-down": {"slow-down": {"rate": "1e18 FLOP/s", "wind_down": "1 h"}},
    "growth": {"growth": {"window": "30 periods", "baseline": "90 periods", "growth": "5 %", "floor": "1e22 FLOP"}},
    "cap": {"cap": [{"id": "extra", "kind": "lab", "limit": "1e24 FLOP", "window": "30 periods"}]},
    "exit": {"exit": {"party": "eastholm"}},
    "amendment": {"timing": {"tick": "1 min", "tolerance": "5 s", "unwitnessed": "1 h"}},
}
ENTRY: Final[Rows] = {"parties": 2, "pledges_by": "2026-03-01T00:00:00Z", "delay": "10 d", "notice": "1 h"}
WITHDRAWAL: Final[Rows] = {"before_entry": "allowed", "cut_off": "1 d", "notice": "30 d"}
TRIGGERS: Final[Tables] = {
    "triggers": {"families": 2, "when_below": "arm"},
    "indicator": [
        {
            "id": "merged-code",
            "family": "automation",
            "source": "lab",
            "on": "80 %",
            "off": "70 %",
            "reports": 2,
            "every": "10 d",
            "grace": "5 d",
            "reporters": ["borealis"],
        },
        {
            "id": "task-horizon",
            "family": "horizon",
            "source": "external",
            "on": "12 h",
            "off": "8 h",
            "reports": 2,
            "every": "10 d",
            "grace": "5 d",
            "reporters": ["sudland"],
        },
    ],
}


def write_tables(tables: Tables) -> str:
    """Write tables as TOML; a list of rows as [[table]]s, a row in a row as the table's part."""
    out = []
    for name, rows in tables.items():
        if isinstance(rows, Mapping):
            out.append(_table(f"[{name}]", name, rows))
        else:
            out += [_table(f"[[{name}]]", name, row) for row in rows]
    return "\n".join(out)


def _table(header: str, name: str, row: Rows) -> str:
    own = "".join(f"{key} = {_value(value)}\n" for key, value in row.items() if not isinstance(value, Mapping))
    parts = [_table(f"[{name}.{key}]", "", value) for key, value in row.items() if isinstance(value, Mapping)]
    return f"{header}\n{own}" + "".join(parts)


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return str(value) if isinstance(value, int) else f'"{value}"'


def build_commitment(
    kind: str = "pause",
    ident: str = "pause",
    *,
    entry: Rows | None = None,
    withdrawal: Rows | None = None,
    without: Sequence[str] = (),
    more: Tables | None = None,
    **tables: Rows | Sequence[Rows],
) -> bytes:
    """Return a document. entry and withdrawal are merged into the defaults, where None drops a key; other tables are
    added, or take the place of the kind's own; without drops tables. A constraining kind lasts a year by default."""
    constraining = kind in ("pause", "slow-down", "growth", "cap")
    chosen: dict[str, Rows | Sequence[Rows]] = {"commitment": {"id": ident, "title": f"Test {ident}", "kind": kind}}
    chosen |= MEASURES.get(kind, {})
    chosen["entry"] = {key: value for key, value in {**ENTRY, **(entry or {})}.items() if value is not None}
    if constraining:
        chosen["term"] = {"length": "365 d"}
        chosen["lifting"] = {"parties": 2}
    leaving = {**(WITHDRAWAL if constraining else {"before_entry": "allowed"}), **(withdrawal or {})}
    chosen["withdrawal"] = {key: value for key, value in leaving.items() if value is not None}
    chosen |= {name.replace("slow_down", "slow-down"): rows for name, rows in tables.items()}
    chosen |= more or {}
    for name in without:
        del chosen[name]
    return f"# Test\n\n## Article 1. Terms\n\n```toml\n{write_tables(chosen)}```\n".encode()


def compiled(document: bytes, members: Members = MEMBERS) -> Commitment:
    return compile_commitment(document, members)


def pledge_if(**demands: object) -> tuple[Condition, ...]:
    """One alternative: pledge_if(parties=3, named={"norland"})."""
    named = demands.pop("named", ())
    assert isinstance(named, set | frozenset | tuple | list)
    return (Condition(named=frozenset(named), **demands),)  # type: ignore[arg-type]


class Play:
    """A registry, its player and the first commitment, in terms that read like a story. Times count from START_MS."""

    def __init__(self, document: bytes | None = None, members: Members = MEMBERS, proposer: str = "norland") -> None:
        self.members = members
        self.registry = Registry(members)
        self.player = Player(self.registry)
        self.now_ms = START_MS
        self.refused: list[Refused] = []
        self.ident = ""
        if document is not None:
            self.ident = self.propose(document, proposer)

    def propose(self, document: bytes, proposer: str = "norland") -> str:
        terms = compile_commitment(document, self.members)
        self._put(self.player.put(self.now_ms, lambda index, now: self.registry.propose(terms, proposer, index, now)))
        return terms.id

    def at(self, moment: str) -> Play:
        """Go to a time, such as "10 d" after the start."""
        self.now_ms = START_MS + parse_duration(moment)
        self.player.advance(self.now_ms)
        return self

    def pledge(self, *who: str, when: tuple[Condition, ...] = (), to: str = "") -> Play:
        for one in who:
            self._step("pledge", one, to, alternatives=when)
        return self

    def withdraw(self, *who: str, reason: str = "", to: str = "") -> Play:
        for one in who:
            self._step("withdraw", one, to, reason=reason)
        return self

    def lift(self, *who: str) -> Play:
        for one in who:
            self._step("lift", one, "")
        return self

    def extend(self, *who: str) -> Play:
        for one in who:
            self._step("extend", one, "")
        return self

    def breach(self, who: str) -> Play:
        self._step("breach", who, "")
        return self

    def clean(self, who: str, periods: int) -> Play:
        self._step("clean", who, "", periods=periods)
        return self

    def report(
        self, indicator: str, who: str, value: str | tuple[int, int, int], *, censored: bool = False, scale: int = 0
    ) -> Play:
        """A report of what was measured until now: (lower, central, upper), in the unit of TRIGGERS."""
        lower, central, upper = (int(value),) * 3 if isinstance(value, str) else value
        unit = "%" if indicator == "merged-code" else "h"
        report = Report(indicator, who, unit, scale, lower, central, upper, censored, self.now_ms)
        self._step("report", who, "", report=report)
        return self

    def _step(self, action: str, who: str, to: str, **fields: object) -> None:
        step = Step(self.now_ms, action, who, to or self.ident, **fields)  # type: ignore[arg-type]
        self._put(self.player.play(step))

    def _put(self, refusal: Refused | None) -> None:
        if refusal is not None:
            self.refused.append(refusal)

    @property
    def codes(self) -> list[str]:
        """What was refused so far."""
        return [str(refusal.code) for refusal in self.refused]

    @property
    def standing(self) -> Standing:
        return self.registry.standing(self.ident)

    @property
    def phase(self) -> str:
        return str(self.standing.phase)

    @property
    def bound(self) -> set[str]:
        return set(self.standing.bound)

    def constraints(self, lab: str, moment: str | None = None) -> Constraints:
        """What a lab may do, now or as seen ahead."""
        return self.registry.constraints_on(lab, self.now_ms if moment is None else START_MS + parse_duration(moment))

    def story(self, *, bound: bool = False) -> list[str]:
        """The time line in words, for comparison: "2026-01-01T00:00:00Z rule-met pending"."""
        return [
            " ".join(part for part in (format_time(moment.time_ms), moment.what, moment.who, moment.phase) if part)
            for moment in self.registry.timeline(self.ident)
            if bound or moment.what not in ("bound", "unbound")
        ]
