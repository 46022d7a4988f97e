"""Withdrawal: whether a participant may take its pledge back, and when that takes effect.

Before entry into force it is immediate, until the cut-off. After the cut-off, and after entry, it takes effect after a
notice; until then obligations and verification stay. Which side of the entry a withdrawal is on is decided by the order
of the log: the delay's end is a deadline that fires before any entry of the same or a later time.
"""

from __future__ import annotations

from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.documents.commitment_model import Commitment
from pacekeeper.protocol.errors import Code, Refused


def effect_ms(terms: Commitment, phase: Phase, in_force_ms: int | None, now_ms: int, reason: str) -> int:
    """Return when a bound or waiting pledge's withdrawal at now_ms takes effect: now_ms, or the end of its notice.

    in_force_ms is the time of entry, past or planned, and None while the rule is not met. Raises Refused:
    withdrawal-barred, reason-missing.
    SPEC commitments-25: a withdrawal before the cut-off MUST be immediate if the commitment allows any, and otherwise
    MUST take effect after notice, not before the minimum term; a commitment without notice MUST NOT be left.
    """
    rule = terms.withdrawal
    ahead = phase in (Phase.OPEN, Phase.PENDING)
    if ahead and (in_force_ms is None or now_ms < in_force_ms - rule.cut_off_ms):
        if not rule.before:
            raise Refused(Code.WITHDRAWAL_BARRED, "this commitment's pledges cannot be taken back before entry")
        return now_ms
    if rule.notice_ms is None:
        raise Refused(Code.WITHDRAWAL_BARRED, "this commitment cannot be left after its cut-off or entry into force")
    assert in_force_ms is not None
    if rule.not_before_ms and now_ms < in_force_ms + rule.not_before_ms:
        raise Refused(Code.WITHDRAWAL_BARRED, "too early: notice cannot be given so soon after entry into force")
    if rule.reasoned and not reason:
        raise Refused(Code.REASON_MISSING, "this commitment is left only with a statement of the reasons")
    return max(now_ms + rule.notice_ms, in_force_ms + terms.term.minimum_ms)
