"""Terms of the agreement that others take the place of: timing, quorum, margins, resolution, caps."""

from __future__ import annotations

from dataclasses import replace

from pacekeeper.protocol.documents.commitment_model import Amendment
from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.replay.state import State


def amended(state: State, act: Amendment) -> Agreement:
    """Return the agreement with the tables of an amendment in the place of its own."""
    agreement = state.agreement
    quorum = agreement.quorum if act.quorum is None else replace(act.quorum, verifiers=len(agreement.parties))
    return replace(
        agreement,
        timing=act.timing or agreement.timing,
        quorum=quorum,
        margins=agreement.margins if act.margins is None else act.margins,
        indeterminate_periods=act.indeterminate_periods or agreement.indeterminate_periods,
        caps=agreement.caps if act.caps is None else act.caps,
    )
