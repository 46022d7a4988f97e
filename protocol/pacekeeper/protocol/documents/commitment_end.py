"""Reading how a commitment ends: term, lifting, ramp, withdrawal, breach; and the lease of gates."""

from __future__ import annotations

from pacekeeper.protocol import limits
from pacekeeper.protocol.documents import values
from pacekeeper.protocol.documents.commitment_entry import ALWAYS, read_condition
from pacekeeper.protocol.documents.commitment_model import Kind, Lease, Lifting, Stage, Term, WithdrawalRule
from pacekeeper.protocol.documents.terms import TableReader, TermsReader


def read_term(table: TableReader | None) -> Term:
    """Read [term]: a date or a length, a minimum, extensions, and whether the entry rule has to hold on."""
    if table is None:
        return Term()
    extended_by = table.part("extension") if "extension" in table.table.parts else None
    extension_ms, extensions, by = 0, 0, None
    if extended_by is not None:
        extension_ms = extended_by.duration("length")
        extensions = extended_by.count("times", 1, limits.MAX_EXTENSIONS)
        by = read_condition(extended_by)
        if by == ALWAYS:
            extended_by.fault("", "[term.extension] asks for nobody; it needs parties, labs, named or weight")
        extended_by.close()
    term = Term(
        expires_ms=table.optional("expires", values.as_time, None),
        length_ms=table.optional("length", values.as_duration, None),
        minimum_ms=table.optional("minimum", values.as_duration, 0),
        extension_ms=extension_ms,
        extensions=extensions,
        extended_by=by,
        requires=table.optional("requires", values.as_choice("entry-rule", "anyone"), "entry-rule"),
    )
    table.close()
    return term


def read_lifting(kind: Kind, terms: TermsReader) -> Lifting:
    """Read [lifting] and the [[stage]] tables of the ramp."""
    table = terms.maybe("lifting")
    stages = tuple(_stage(kind, item) for item in terms.any("stage", limits.MAX_STAGES))
    if table is None:
        return Lifting(stages=stages)
    by = read_condition(table)
    if by == ALWAYS:
        table.fault("", "[lifting] asks for nobody; at least one of parties, labs, named and weight is needed")
    table.close()
    return Lifting(by=by, stages=stages)


def _stage(kind: Kind, table: TableReader) -> Stage:
    match kind:
        case Kind.PAUSE:
            limit = table.read("above", values.as_flop, 1)
        case Kind.SLOW_DOWN:
            limit = table.read("rate", values.as_rate, 1)
        case Kind.GROWTH:
            limit = table.read("growth", values.as_percent, 0)
        case _:
            limit = 0
            table.fault("", f"[[stage]]: a commitment of kind {kind} has no stages")
    stage = Stage(limit, table.duration("lasts"))
    table.close()
    return stage


def read_withdrawal(table: TableReader) -> WithdrawalRule:
    """Read [withdrawal]. Without notice, nobody withdraws after entry into force."""
    before = table.read("before_entry", values.as_choice("allowed", "none"), "none") == "allowed"
    rule = WithdrawalRule(
        before=before,
        cut_off_ms=table.optional("cut_off", values.as_span, 0),
        notice_ms=table.optional("notice", values.as_duration, None),
        not_before_ms=table.optional("not_before", values.as_duration, 0),
        reasoned=table.optional("reason", values.as_choice("required", "optional"), "optional") == "required",
        ends_all=table.optional("ends", values.as_choice("own", "all"), "own") == "all",
    )
    if rule.notice_ms is None:
        for key in ("not_before", "reason", "ends"):
            if table.has(key):
                table.fault(key, f"{key}: without notice there is no withdrawal after entry that this could be about")
    table.close()
    return rule


def read_breach(table: TableReader | None) -> bool:
    """Read [breach]: whether an established breach releases the others."""
    if table is None:
        return False
    releases = table.read("response", values.as_choice("none", "release-others"), "none") == "release-others"
    table.close()
    return releases


def read_lease(table: TableReader | None) -> Lease | None:
    """Read [lease]: how long a gate goes on without the log, and what it does then."""
    if table is None:
        return None
    lease = Lease(
        lease_ms=table.duration("lease"),
        hold=table.read("on_lease_end", values.as_choice("hold", "continue"), "hold") == "hold",
    )
    table.close()
    return lease
