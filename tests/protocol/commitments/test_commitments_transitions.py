"""The table of a commitment's life, and the diagram that the specification shows of it."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from vectors import ROOT, check_file

from pacekeeper.protocol.commitments.transitions import HOW_ENDED, TABLE, Event, Phase, diagram, step
from pacekeeper.protocol.errors import Code, Refused

SPEC = ROOT / "specs" / "commitments.md"


def test_the_diagram_in_the_specification_is_generated_from_the_table() -> None:
    text = SPEC.read_text(encoding="utf-8")
    written, count = re.subn(r"```text\nopen.*?```", f"```text\n{diagram()}\n```", text, flags=re.DOTALL)
    assert count == 1
    check_file(SPEC, written.encode())


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("event", list(Event))
def test_an_absent_transition_is_refused(phase: Phase, event: Event) -> None:
    """SPEC commitments-16."""
    if (phase, event) in TABLE:
        assert step(phase, event) is TABLE[phase, event]
        return
    with pytest.raises(Refused) as refusal:
        step(phase, event)
    assert refusal.value.code is Code.ABSENT_TRANSITION


def test_nothing_leads_out_of_an_end_and_every_phase_is_reached() -> None:
    assert not {phase for phase, _ in TABLE} & {Phase.ENDED, Phase.FAILED}
    assert set(TABLE.values()) == set(Phase) - {Phase.OPEN}
    assert {event for (_, event), following in TABLE.items() if following is Phase.ENDED} == HOW_ENDED.keys()


def test_the_rules_of_the_specification_are_numbered_without_holes_but_before_a_multiple_of_five() -> None:
    numbers = [int(number) for number in re.findall(r"^- \*\*commitments-([0-9]+)\*\*", SPEC.read_text(), re.MULTILINE)]
    ordered = sorted(numbers)
    assert ordered[0] == 1
    assert all(after == before + 1 or (after > before and after % 5 == 0) for before, after in pairwise(ordered))
