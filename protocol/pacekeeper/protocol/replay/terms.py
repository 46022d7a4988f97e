"""What the digest of a state covers of the agreement in force, and of what membership and amendments have left behind.

Only of rules that have acts: under earlier ones all of it follows from entry 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacekeeper.protocol.documents.model import Agreement, Cap
from pacekeeper.protocol.replay.watches import each_watch

if TYPE_CHECKING:
    from pacekeeper.protocol.replay.state import State


def describe_terms(state: State) -> dict[str, object]:
    """Return it as JSON-able values in a fixed order."""
    members = state.members
    watches = {(watch.cap.id, watch.subject, watch.first, watch.last): watch for watch in each_watch(state.watches)}
    return {
        "agreement": _agreement(state.agreement),
        "acts": [[act.commitment, act.index, act.time_ms] for act in state.acts],
        "members": [sorted(members.parties), sorted(members.labs.items()), members.tolerance_ms],
        "former": sorted(members.former),
        "used_keys": sorted(key.hex() for key in members.keys),
        "joined": sorted(state.joined.items()),
        "leaving": sorted((lab.id, lab.last_period) for lab in state.labs.values() if lab.last_period is not None),
        "margins": [[old.amended_at, old.period, sorted(old.margins.items())] for old in state.superseded_margins],
        "windows": [
            [*key, _cap(watch.cap), [[until, _cap(cap)] for until, cap in watch.earlier]]
            for key, watch in sorted(watches.items())
        ],
        "cap_ids": sorted(state.cap_ids),
        "run_caps": [
            [held.id, _cap(held.cap), [[until, _cap(old)] for until, old in held.earlier]] for held in state.run_caps
        ],
    }


def describe_keys(state: State) -> dict[str, object]:
    """Return whose keys are in force, and whose were."""
    return {
        "epochs": {f"{role} {holder}": epoch for (role, holder), epoch in sorted(state.epochs.items())},
        "in force": {ident.hex(): [who.role, who.owner] for ident, who in sorted(state.keyring.items())},
        "retired": {
            ident.hex(): [*retired.authority[:2], retired.epoch, retired.index, retired.time_ms, retired.replaced]
            for ident, retired in state.retired.items()
        },
    }


def _agreement(agreement: Agreement) -> dict[str, object]:
    timing, quorum, log = agreement.timing, agreement.quorum, agreement.log
    return {
        "parties": [
            [
                party.id,
                party.name,
                party.verifier.name,
                party.verifier.address,
                *(key.hex() for key in party.all_keys()),
            ]
            for party in agreement.parties
        ],
        "labs": [[lab.id, lab.name, lab.party, *(key.hex() for key in lab.all_keys())] for lab in agreement.labs],
        "log": [log.key.public_key.hex(), log.statement_key.hex(), log.tls_spki.hex(), log.address, log.url],
        "quorum": [quorum.verifiers, quorum.quorum, quorum.liars],
        "timing": [timing.tick_ms, timing.tolerance_ms, timing.unwitnessed_ms],
        "margins": sorted(agreement.margins.items()),
        "indeterminate_periods": agreement.indeterminate_periods,
        "caps": [_cap(cap) for cap in agreement.caps],
    }


def _cap(cap: Cap | None) -> list[object] | None:
    return None if cap is None else [cap.id, cap.kind, cap.limit, cap.window, list(cap.subjects)]
