"""A trigger's tracks against a model that looks at the whole list of reports again each time."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol.commitments.triggers import Report, TriggerState
from pacekeeper.protocol.documents.commitment_model import Indicator, TriggerRule

FAMILIES = {"a": "lab", "b": "external", "c": "lab"}
INDICATORS = tuple(
    Indicator(f"{family}{number}", family, source, "h", 10_000_000, 5_000_000, reports, 10, 5, ("x", "y")[: 1 + number])
    for family, source in FAMILIES.items()
    for number, reports in ((0, 2), (1, 3))
)
RULE = TriggerRule(2, "arm", INDICATORS)


def counted(indicator: Indicator, reporter: str, reports: list[Report]) -> list[Report]:
    """Those of a reporter that count: with a number, and far enough apart."""
    found: list[Report] = []
    for report in reports:
        if (report.indicator, report.reporter, report.censored) != (indicator.id, reporter, False):
            continue
        if not found or report.until_ms - found[-1].until_ms >= indicator.every_ms:
            found.append(report)
    return found


def is_on(indicator: Indicator, reports: list[Report]) -> bool:
    """The last decisive stretch of reports in a row says whether it is on."""
    on, start = False, 0
    for end in range(1, len(reports) + 1):
        stretch = reports[max(start, end - indicator.reports) : end]
        if len(stretch) < indicator.reports:
            continue
        if not on and all(report.lower / 10**report.scale >= indicator.on_micro / 10**6 for report in stretch):
            on, start = True, end
        elif on and all(report.upper / 10**report.scale < indicator.off_micro / 10**6 for report in stretch):
            on, start = False, end
    return on


@st.composite
def histories(draw: st.DrawFn) -> list[Report]:
    now_ms = 0
    reports = []
    for _ in range(draw(st.integers(0, 60))):
        now_ms += draw(st.sampled_from([1, 4, 10]))
        indicator = draw(st.sampled_from(INDICATORS))
        level = draw(st.sampled_from([3, 7, 10, 12]))
        scale = draw(st.integers(0, 2))
        lower, upper = level * 10**scale, (level + draw(st.integers(0, 2))) * 10**scale
        censored = draw(st.integers(0, 5)) == 0
        reporter = draw(st.sampled_from(["x", "y"]))
        reports.append(Report(indicator.id, reporter, "h", scale, lower, lower, upper, censored, now_ms))
    return reports


@settings(max_examples=200, deadline=None)
@given(histories(), st.data())
def test_a_trigger_is_on_as_the_whole_list_of_reports_says(reports: list[Report], data: Any) -> None:
    """SPEC commitments-22, SPEC commitments-23, SPEC commitments-24, SPEC commitments-37."""
    state = TriggerState(RULE)
    for report in reports:
        state.observe(report)
    overdue = data.draw(st.sets(st.sampled_from(sorted(state.tracks)), max_size=2))
    for key in overdue:
        state.tracks[key].overdue = True
    met = {
        indicator.family
        for indicator in INDICATORS
        for reporter in indicator.reporters
        if (indicator.id, reporter) in overdue or is_on(indicator, counted(indicator, reporter, reports))
    }
    assert state.is_on() == (len(met) >= 2 and "b" in met)
