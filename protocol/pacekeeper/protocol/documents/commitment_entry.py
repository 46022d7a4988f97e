"""Reading how a commitment enters into force: its entry rule, the weights of parties, and its triggers.

A demand on a set of participants is written with the same four keys wherever it stands: parties, labs, named, weight.
"""

from __future__ import annotations

from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.pledges import Condition
from pacekeeper.protocol.documents import values
from pacekeeper.protocol.documents.commitment_model import EntryRule, Indicator, TriggerRule
from pacekeeper.protocol.documents.terms import TableReader, TermsReader

MAX_PERIODS: Final = 1_000  # clean ones asked for, and reports in a row
MAX_WEIGHT: Final = 10**12
ALWAYS: Final = Condition()


def read_condition(table: TableReader) -> Condition:
    """Read the four keys of a demand; each may be absent."""
    return Condition(
        parties=table.optional("parties", values.as_count(1, limits.MAX_PARTIES + limits.MAX_LABS), 0),
        labs=table.optional("labs", values.as_count(1, limits.MAX_LABS), 0),
        named=frozenset(table.optional("named", values.as_idents, ())),
        weight_ppm=table.optional("weight", values.as_percent, 0),
    )


def read_entry(table: TableReader) -> EntryRule:
    """Read [entry]."""
    rule = EntryRule(
        rule=read_condition(table),
        clean_periods=table.optional("clean_periods", values.as_count(1, MAX_PERIODS), 0),
        pledges_by_ms=table.read("pledges_by", values.as_time, 0),
        delay_ms=table.read("delay", values.as_span, 0),
        effective_ms=table.optional("effective", values.as_time, None),
        lapses_ms=table.optional("lapses", values.as_time, None),
        notice_ms=table.read("notice", values.as_span, 0),
    )
    if rule.rule == ALWAYS:
        table.fault("", "[entry] asks for nobody; at least one of parties, labs, named and weight is needed")
    table.close()
    return rule


def read_weights(terms: TermsReader) -> dict[str, int]:
    """Read the [[weight]] tables: party -> its weight. SPEC commitments-3: a party MUST have one weight."""
    weights: dict[str, int] = {}
    for table in terms.any("weight", limits.MAX_PARTIES + limits.MAX_LABS):
        party = table.ident("party")
        if party in weights:
            table.fault("party", f'party: "{party}" has a weight already')
        weights[party] = table.count("weight", 0, MAX_WEIGHT)
        table.close()
    return weights


def read_triggers(terms: TermsReader) -> TriggerRule | None:
    """Read [triggers] and its [[indicator]] tables; None when the commitment has no triggers."""
    table = terms.maybe("triggers")
    if table is None:
        return None
    rule = TriggerRule(
        families=table.count("families", 2, limits.MAX_INDICATORS),
        when_below=table.read("when_below", values.as_choice("arm", "end"), "arm"),
        indicators=tuple(_indicator(item) for item in terms.many("indicator", limits.MAX_INDICATORS)),
    )
    table.close()
    return rule


def _indicator(table: TableReader) -> Indicator:
    on_micro, unit = table.read("on", values.as_level, (0, ""))
    off_micro, off_unit = table.read("off", values.as_level, (0, unit))
    if unit and off_unit != unit:
        table.fault("off", f'off: in "{off_unit}", while on is in "{unit}"')
    indicator = Indicator(
        id=table.ident("id"),
        family=table.ident("family"),
        source=table.read("source", values.as_choice("lab", "external"), "lab"),
        unit=unit,
        on_micro=on_micro,
        off_micro=off_micro,
        reports=table.count("reports", 1, MAX_PERIODS),
        every_ms=table.duration("every"),
        grace_ms=table.read("grace", values.as_span, 0),
        reporters=table.read("reporters", values.as_idents, ()),
    )
    table.close()
    return indicator
