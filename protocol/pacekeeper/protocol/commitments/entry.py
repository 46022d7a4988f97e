"""Entry into force: whether the set bound meets the rule, and when what follows from it begins.

A rule is met by those bound, that is by the greatest fixed point of the pledges (pledges.py) of everyone with enough
clean periods. From then on the delay runs; the commitment enters into force at its end, and not before its effective
date. A participant that comes to be bound later is bound after the same delay, and never for what was before.
"""

from __future__ import annotations

from pacekeeper.protocol.commitments.pledges import Roll, satisfied
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.documents.commitment_model import Commitment, EntryRule


def rule_met(terms: Commitment, roll: Roll, bound: frozenset[str]) -> bool:
    """Whether those bound meet the entry rule."""
    return satisfied(terms.entry.rule, roll, bound)


def stands(terms: Commitment, roll: Roll, bound: frozenset[str], phase: Phase) -> bool:
    """Whether those still bound are what the commitment requires to go on.

    SPEC commitments-18: once in force it MUST end when those bound no longer meet the entry rule, or, if its term
    requires "anyone" only, when nobody is bound; before, it MUST fail when they no longer meet the entry rule.
    """
    enough = terms.term.requires == "anyone" and phase is not Phase.PENDING
    return bool(bound) and (enough or rule_met(terms, roll, bound))


def entry_ms(entry: EntryRule, met_ms: int) -> int:
    """Return when a commitment enters into force whose rule is met at a time.

    SPEC commitments-19: a commitment MUST NOT enter into force before its delay and its effective date.
    """
    return max(met_ms + entry.delay_ms, entry.effective_ms or 0)


def constraints_ms(entry: EntryRule, in_force_ms: int, fixed_ms: int) -> int:
    """Return when constraints begin that hold from in_force_ms and were fixed by an entry at fixed_ms.

    SPEC commitments-20: constraints MUST NOT begin before the notice after the entry that fixed them has passed.
    """
    return max(in_force_ms, fixed_ms + entry.notice_ms)


def joining_ms(entry: EntryRule, in_force_ms: int, bound_ms: int) -> int:
    """Return from when a participant is bound that came to be bound after the rule was met.

    SPEC commitments-21: later joiners MUST be bound prospectively, after the delay, and not before the others.
    """
    return max(in_force_ms, bound_ms + max(entry.delay_ms, entry.notice_ms))
