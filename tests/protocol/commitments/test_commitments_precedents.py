"""Treaties as vectors: each document, the pledges and events, and the time line that follows.

Rules of the precedents: dates and numbers are the treaties' where they matter, and the participants are invented.
PACEKEEPER_WRITE_VECTORS=1 writes the files anew; without it they must be as the code says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from commitments import build_commitment
from vectors import VECTORS, check_json

from pacekeeper.protocol.commitments.growth import growth_windows
from pacekeeper.protocol.commitments.player import Player, Step
from pacekeeper.protocol.commitments.pledges import Alternatives, collapse_sets
from pacekeeper.protocol.commitments.registry import Registry
from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.documents.commitment_describe import describe_commitment
from pacekeeper.protocol.documents.commitment_members import roll_of
from pacekeeper.protocol.documents.commitment_model import Commitment, Growth, Members
from pacekeeper.protocol.units import format_time, parse_time

FOLDER: Final = VECTORS / "commitments" / "precedents"


@dataclass
class Precedent:
    """One treaty: proposals as (date, proposer, document), then statements as (date, action, who, fields)."""

    why: str
    not_expressed: str
    members: Members
    proposals: list[tuple[str, str, bytes]]
    statements: list[tuple[str, str, str, dict[str, str]]]
    until: str
    gates: list[tuple[str, str]] = field(default_factory=list)

    def played(self) -> dict[str, Any]:
        registry = Registry(self.members)
        player = Player(registry)
        refused: list[list[str]] = []
        gates: list[dict[str, Any]] = []
        events: list[tuple[int, int, Callable[[], None]]] = []

        def propose(date: str, proposer: str, document: bytes) -> None:
            terms = compile_commitment(document, self.members)
            assert player.put(ms(date), lambda index, now: registry.propose(terms, proposer, index, now)) is None

        def state(date: str, action: str, who: str, fields: Mapping[str, str]) -> None:
            refusal = player.play(
                Step(ms(date), action, who, fields.get("to", self.first), reason=fields.get("reason", ""))
            )
            if refusal is not None:
                refused.append([format_time(ms(date)), action, who, refusal.code])

        def look(date: str, lab: str) -> None:
            player.advance(ms(date))
            seen = registry.constraints_on(lab, ms(date))
            held = [[hold.above_gflop, list(hold.commitments)] for hold in seen.holds]
            caps = [[limit.cap.id, limit.cap.limit, limit.commitment] for limit in seen.caps]
            growth = [list(limit.commitments) for limit in seen.growth]
            gates.append({"at": date, "lab": lab, "holds": held, "caps": caps, "growth": growth})

        for order, proposal in enumerate(self.proposals):
            events.append((ms(proposal[0]), order, lambda proposal=proposal: propose(*proposal)))  # type: ignore[misc]
        for order, statement in enumerate(self.statements, start=len(events)):
            events.append((ms(statement[0]), order, lambda statement=statement: state(*statement)))  # type: ignore[misc]
        for order, gate in enumerate(self.gates, start=len(events)):
            events.append((ms(gate[0]), order, lambda gate=gate: look(*gate)))  # type: ignore[misc]
        for _, _, act in sorted(events, key=lambda event: event[:2]):
            act()
        player.advance(ms(self.until))
        return {
            "why": self.why,
            "not_expressed": self.not_expressed,
            "members": {"parties": sorted(self.members.parties), "labs": dict(self.members.labs)},
            "proposals": [[date, who, document.decode()] for date, who, document in self.proposals],
            "statements": [[*statement] for statement in self.statements],
            "until": self.until,
            "timelines": {
                ident: [
                    [format_time(moment.time_ms), moment.index, moment.what, moment.who, moment.phase]
                    for moment in registry.timeline(ident)
                ]
                for ident in registry.standings()
            },
            "reasons": [
                [format_time(moment.time_ms), moment.what, moment.who, moment.reason]
                for ident in registry.standings()
                for moment in registry.timeline(ident)
                if moment.reason
            ],
            "says": {ident: describe_commitment(standing.terms) for ident, standing in registry.standings().items()},
            "vetoes": {ident: vetoes(standing.terms, self.members) for ident, standing in registry.standings().items()},
            "ended": {ident: [standing.phase, standing.how_ended] for ident, standing in registry.standings().items()},
            "refused": refused,
            "gates": gates,
        }

    @property
    def first(self) -> str:
        return compile_commitment(self.proposals[0][2]).id


def vetoes(terms: Commitment, members: Members) -> list[str]:
    """Without whom alone it would never enter into force, whoever else pledged: one each, or nobody."""
    roll = roll_of(terms, members)
    everyone: dict[str, Alternatives] = dict.fromkeys(sorted(roll.parties), ())
    return sorted(
        who for exits in collapse_sets(roll, everyone, terms.entry.rule).sets if len(exits) == 1 for who in exits
    )


def ms(date: str) -> int:
    return parse_time(date + "T00:00:00Z")


def states(number: int) -> list[str]:
    return [f"state-{place:02}" for place in range(1, number + 1)]


def members(parties: Sequence[str]) -> Members:
    """Parties with a lab each."""
    return Members(frozenset(parties), {f"lab-of-{party}": party for party in parties}, 10_000)


def entry(by: str, delay: str = "0 s", **demands: object) -> dict[str, object]:
    return {"parties": None, **demands, "pledges_by": by + "T00:00:00Z", "delay": delay, "notice": "0 s"}


SEALING: Final = [{"id": "sealing", "kind": "lab", "limit": "1e20 FLOP", "window": "30 periods"}]


def fur_seal() -> Precedent:
    four = ["canada", "japan", "soviet-union", "united-states"]
    document = build_commitment(
        "cap",
        "fur-seal",
        entry=entry("1988-01-01", parties=4),
        withdrawal={"before_entry": "allowed", "cut_off": None, "notice": "365 d", "ends": "all"},
        without=["lifting"],
        cap=SEALING,
        term={"length": "8035 d"},
    )
    return Precedent(
        why="North Pacific Fur Seal: in force with the fourth ratification; 22 years; ends a year after any notice",
        not_expressed="",
        members=members(four),
        proposals=[("1987-02-09", "canada", document)],
        statements=[
            ("1987-03-01", "pledge", "japan", {}),
            ("1987-04-01", "pledge", "soviet-union", {}),
            ("1987-05-01", "pledge", "united-states", {}),
            ("1987-10-14", "pledge", "canada", {}),
            ("1994-10-14", "withdraw", "japan", {}),
        ],
        until="2000-01-01",
        gates=[
            ("1987-10-13", "lab-of-japan"),
            ("1987-10-14", "lab-of-japan"),
            ("1995-10-13", "lab-of-canada"),
            ("1995-10-14", "lab-of-canada"),
        ],
    )


def ctbt(ratified: int) -> Precedent:
    named = states(44)
    document = build_commitment(
        "pause",
        "test-ban",
        entry=entry("2096-09-24", "180 d", named=named),
        withdrawal={"before_entry": "allowed", "cut_off": None, "notice": "180 d", "reason": "required"},
        term={"requires": "entry-rule"},
        lifting={"named": named},
    )
    return Precedent(
        why=f"CTBT: 180 days after all 44 named states have ratified; here {ratified} have",
        not_expressed="it has no date by which pledges are to be made; the document gives it a century",
        members=members([*named, "state-45"]),
        proposals=[("1996-09-24", "state-01", document)],
        statements=[("1998-04-06", "pledge", name, {}) for name in [*named[:ratified], "state-45"]],
        until="2097-01-01",
        gates=[("1998-10-02", "lab-of-state-01"), ("1998-10-03", "lab-of-state-01"), ("2020-01-01", "lab-of-state-45")],
    )


def paris() -> Precedent:
    parties = states(70)
    heavy = {"state-01": 200, "state-02": 180, "state-03": 120}
    weights = [{"party": party, "weight": heavy.get(party, 4)} for party in parties]
    document = build_commitment(
        "slow-down",
        "paris",
        entry=entry("2036-01-01", "30 d", parties=55, weight="55 %"),
        withdrawal={"before_entry": "none", "cut_off": None, "notice": "365 d", "not_before": "1096 d"},
        without=["lifting"],
        weight=weights,
        term={"expires": "2100-01-01T00:00:00Z", "requires": "anyone"},
    )
    many: list[tuple[str, str, str, dict[str, str]]] = [("2016-04-22", "pledge", party, {}) for party in parties[3:58]]
    return Precedent(
        why="Paris: 55 parties and 55 % of the weight, in force 30 days later; notice after three years, a year long; "
        "it stays in force when some have left",
        not_expressed="it has no end; the document gives it one at the end of the century",
        members=members(parties),
        proposals=[("2015-12-12", "state-04", document)],
        statements=[
            *many,
            ("2016-09-03", "pledge", "state-01", {}),
            ("2016-10-05", "pledge", "state-02", {}),
            ("2017-06-01", "withdraw", "state-02", {}),
            ("2018-07-01", "pledge", "state-03", {}),
            ("2019-11-06", "withdraw", "state-02", {}),
            ("2021-02-19", "pledge", "state-02", {}),
        ],
        until="2022-01-01",
        gates=[("2016-11-03", "lab-of-state-01"), ("2018-07-30", "lab-of-state-03"), ("2018-08-01", "lab-of-state-03")],
    )


def start_document() -> bytes:
    both = ["norland", "sudland"]
    return build_commitment(
        "cap",
        "arms-limits",
        entry=entry("2011-12-31", named=both),
        withdrawal={"before_entry": "allowed", "cut_off": None, "notice": "92 d", "reason": "required", "ends": "all"},
        lifting={"named": both},
        cap=SEALING,
        term={"length": "3653 d", "extension": {"named": both, "length": "1826 d", "times": 1}},
    )


def new_start() -> Precedent:
    return Precedent(
        why="New START: between two, for ten years, extended once by five",
        not_expressed="its exchanges of data and inspections are the agreement's accounts and checks",
        members=members(["norland", "sudland"]),
        proposals=[("2010-04-08", "norland", start_document())],
        statements=[
            ("2011-01-28", "pledge", "sudland", {}),
            ("2011-02-05", "pledge", "norland", {}),
            ("2021-01-27", "extend", "norland", {}),
            ("2021-02-03", "extend", "sudland", {}),
            ("2021-02-04", "extend", "sudland", {}),
        ],
        until="2027-01-01",
        gates=[("2021-02-06", "lab-of-sudland"), ("2026-02-04", "lab-of-sudland"), ("2026-02-05", "lab-of-sudland")],
    )


def supreme_interest() -> Precedent:
    return Precedent(
        why="withdrawal for supreme interests: three months' notice that states the extraordinary events",
        not_expressed="whether the events are extraordinary is for the withdrawing state alone to decide",
        members=members(["norland", "sudland"]),
        proposals=[("2010-04-08", "norland", start_document())],
        statements=[
            ("2011-01-28", "pledge", "sudland", {}),
            ("2011-02-05", "pledge", "norland", {}),
            ("2015-01-01", "withdraw", "sudland", {}),
            ("2015-01-02", "withdraw", "sudland", {"reason": "the other side builds what this does not count"}),
            ("2015-01-03", "withdraw", "sudland", {"reason": "again"}),
        ],
        until="2016-01-01",
        gates=[("2015-04-03", "lab-of-norland"), ("2015-04-04", "lab-of-norland")],
    )


def ets() -> Precedent:
    document = build_commitment(
        "growth",
        "trading-year",
        entry=entry("2026-12-01", parties=2, effective="2027-01-01T00:00:00Z"),
        withdrawal={"before_entry": "none", "cut_off": None, "notice": None},
        without=["lifting"],
        growth={
            "window": "365 periods",
            "baseline": "730 periods",
            "growth": "0 %",
            "floor": "1e24 FLOP",
            "banking": "20 %",
            "debt": "100 %",
        },
        term={"expires": "2031-01-01T00:00:00Z"},
    )
    return Precedent(
        why="an emissions trading system: a yearly allowance for everyone from a date on, that nobody leaves, with "
        "what is unused banked and what is missing owed in the next year; see ets-years.json for the years",
        not_expressed="surrender by a date of its own (an account's due time is the agreement's), a penalty in money, "
        "trade between labs, and an allowance that falls from year to year below the floor. Publishing who is over "
        "needs no term, since everybody derives it",
        members=members(["norland", "sudland", "westmere"]),
        proposals=[("2026-01-01", "norland", document)],
        statements=[
            ("2026-02-01", "pledge", "norland", {}),
            ("2026-03-01", "pledge", "sudland", {}),
            ("2028-01-01", "withdraw", "sudland", {}),
        ],
        until="2031-06-01",
        gates=[("2026-12-31", "lab-of-norland"), ("2027-01-01", "lab-of-norland"), ("2031-01-01", "lab-of-norland")],
    )


def ets_years() -> dict[str, Any]:
    """Four years of one lab under the terms of ets(): saving, overrun, debt worked off."""
    precedent = ets()
    measure = compile_commitment(precedent.proposals[0][2], precedent.members).measure
    assert isinstance(measure, Growth)
    unit = 10**12  # a thousandth of the yearly allowance
    used = {year * 365: share * unit for year, share in ((0, 700), (1, 1_500), (2, 400), (3, 1_000))}
    return {
        "why": "allowance, banking, and debt that is carried over, in gigaFLOP",
        "used": used,
        "years": [window._asdict() | {"overrun": window.overrun} for window in growth_windows(measure, used, 0, 1_459)],
    }


def halt_exit() -> Precedent:
    parties = ["norland", "sudland", "westmere", "eastholm"]
    halt = build_commitment(
        "pause",
        "halt",
        entry=entry("2026-06-01", "30 d", parties=2),
        withdrawal={"before_entry": "allowed", "cut_off": None, "notice": "365 d"},
        lifting={"named": parties},
        term={"requires": "entry-rule"},
    )
    leaving = build_commitment(
        "exit",
        "exit-of-eastholm",
        entry=entry("2027-06-01", "365 d", named=["eastholm"]),
        withdrawal={"before_entry": "none"},
        exit={"party": "eastholm"},
    )
    return Precedent(
        why="the draft halt agreement: no fixed end; exit twelve months after notice, obligations and verification go "
        "on until then, and the others certify by pledging to the exit that the leaving state is unable",
        not_expressed="the exit does not wait for the certification; who has given it shows in the time line",
        members=members(parties),
        proposals=[("2026-01-01", "norland", halt), ("2027-01-01", "eastholm", leaving)],
        statements=[
            *[("2026-02-01", "pledge", party, {}) for party in parties],
            ("2027-01-01", "withdraw", "eastholm", {}),
            ("2027-01-01", "pledge", "eastholm", {"to": "exit-of-eastholm"}),
            ("2027-02-01", "pledge", "norland", {"to": "exit-of-eastholm"}),
            ("2027-02-01", "withdraw", "eastholm", {"to": "exit-of-eastholm"}),
            ("2028-02-01", "lift", "norland", {}),
        ],
        until="2029-01-01",
        gates=[("2027-12-31", "lab-of-eastholm"), ("2028-01-01", "lab-of-eastholm"), ("2028-01-01", "lab-of-norland")],
    )


PRECEDENTS: Final[dict[str, Callable[[], Precedent]]] = {
    "fur-seal": fur_seal,
    "ctbt-never-met": lambda: ctbt(41),
    "ctbt-if-all-had": lambda: ctbt(44),
    "paris": paris,
    "new-start": new_start,
    "supreme-interest": supreme_interest,
    "ets": ets,
    "halt-exit": halt_exit,
}


@pytest.mark.parametrize("name", PRECEDENTS)
def test_vectors_of_precedents_are_as_the_code_says(name: str) -> None:
    """SPEC commitments-18, SPEC commitments-19, SPEC commitments-25, SPEC commitments-31."""
    check_json(FOLDER / f"{name}.json", PRECEDENTS[name]().played())


def test_vectors_of_a_true_up_with_carried_debt() -> None:
    """SPEC commitments-44."""
    years = ets_years()
    check_json(FOLDER / "ets-years.json", years)
    assert [year["carried"] // 10**12 for year in years["years"]] == [0, 200, -300, 200]
    assert [year["overrun"] // 10**12 for year in years["years"]] == [0, 300, 0, 0]


def line(played: dict[str, Any], what: str, who: str = "", of: int = 0) -> list[str]:
    """When something happened to the first commitment, or another."""
    timeline = list(played["timelines"].values())[of]
    return [moment[0][:10] for moment in timeline if moment[2] == what and (not who or moment[3] == who)]


def test_fur_seal_enters_with_the_fourth_and_ends_a_year_after_any_notice() -> None:
    played = fur_seal().played()
    assert line(played, "trigger-on") == ["1987-10-14"]
    assert line(played, "collapse") == ["1995-10-14"]
    assert [len(gate["caps"]) for gate in played["gates"]] == [0, 1, 1, 0]


def test_the_test_ban_waits_for_the_last_of_44() -> None:
    never = ctbt(41).played()
    assert line(never, "rule-met") == []
    assert line(never, "deadline") == ["2096-09-24"]
    if_all = ctbt(44).played()
    assert line(if_all, "trigger-on") == ["1998-10-03"]
    assert [len(gate["holds"]) for gate in if_all["gates"]] == [0, 1, 1]


def test_paris_needs_both_thresholds_and_stays_in_force() -> None:
    played = paris().played()
    assert line(played, "rule-met") == ["2016-10-05"]
    assert line(played, "trigger-on") == ["2016-11-04"]
    assert played["refused"] == [["2017-06-01T00:00:00Z", "withdraw", "state-02", "withdrawal-barred"]]
    assert line(played, "withdrawn", "state-02") == ["2020-11-05"]
    assert line(played, "bound", "state-02") == ["2016-10-05", "2021-02-19"]
    assert played["ended"]["paris"] == ["in-force", ""]


def test_new_start_lasts_ten_years_and_five_more() -> None:
    played = new_start().played()
    assert line(played, "trigger-on") == ["2011-02-05"]
    assert line(played, "expired") == ["2026-02-05"]
    assert [refusal[3] for refusal in played["refused"]] == ["not-liftable"]


def test_supreme_interests_take_reasons_and_three_months() -> None:
    played = supreme_interest().played()
    assert [refusal[3] for refusal in played["refused"]] == ["reason-missing", "notice-given"]
    assert line(played, "collapse") == ["2015-04-04"]
    [told] = played["reasons"]
    assert told[1:] == ["notice", "sudland", "the other side builds what this does not count"]
    assert (
        "After that anyone may leave with 92 d of notice, with a statement of the reasons."
        in played["says"]["arms-limits"]
    )


def test_who_alone_could_keep_each_from_entering_into_force() -> None:
    """What the precedents teach: 44 vetoes where all are named, none where a number or a share is asked for."""
    assert len(ctbt(41).played()["vetoes"]["test-ban"]) == 44
    assert len(fur_seal().played()["vetoes"]["fur-seal"]) == 4, "as many are asked for as there are"
    assert paris().played()["vetoes"]["paris"] == []
    assert ets().played()["vetoes"]["trading-year"] == []
    assert halt_exit().played()["vetoes"] == {"halt": [], "exit-of-eastholm": ["eastholm"]}


def test_the_halt_goes_on_for_twelve_months_after_notice() -> None:
    played = halt_exit().played()
    assert line(played, "withdrawn", "eastholm") == ["2028-01-01"]
    assert line(played, "performed", of=1) == ["2028-01-01"]
    assert [len(gate["holds"]) for gate in played["gates"]] == [1, 0, 1]
    assert played["ended"]["halt"] == ["in-force", ""]
