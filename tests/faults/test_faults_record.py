"""The track record names, for every fault that is a promise of this room, tests that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]
CASES: Final = {*range(1, 31), 35}
_ROW: Final = re.compile(r"\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|")
_NAMED: Final = re.compile(r"`([a-z_/]+\.py)::(test_\w+)`")


def _rows() -> dict[int, tuple[str, ...]]:
    text = (TESTS / "TRACK_RECORD.md").read_text(encoding="utf-8")
    _, _, section = text.partition("\n## Faults by their numbers")
    rows = [match for match in map(_ROW.fullmatch, section.partition("\n## ")[0].splitlines()) if match]
    assert len({row[1] for row in rows}) == len(rows), "a case stands there twice"
    return {int(row[1]): row.groups()[1:] for row in rows}


def test_every_case_is_in_the_record_with_tests_that_exist() -> None:
    rows = _rows()
    assert set(rows) == CASES
    for case, (_, tests, defect, outcome) in rows.items():
        named = _NAMED.findall(tests)
        assert named, f"case {case} names no test"
        assert len(named) == tests.count("`") // 2, f"case {case} names something else than a test"
        for path, name in named:
            text = (TESTS / path).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"case {case}: {path} has no {name}"
        assert defect.strip(), f"case {case} says no defect"
        assert outcome.strip(), f"case {case} does not say how it was shown to bite"
