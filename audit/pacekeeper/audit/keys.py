"""The life of keys in words and as JSON-able facts: which were rotated and replaced, in the order of the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pacekeeper.protocol.keys import format_public_key
from pacekeeper.protocol.replay.key_life import present
from pacekeeper.protocol.replay.state import State
from pacekeeper.protocol.text import count_of
from pacekeeper.protocol.units import format_time


def tell_keys(state: State) -> Iterator[str]:
    """Yield what became of keys, if anything did.

    SPEC audit-28: each rotation and replacement MUST be told in the order of the log, and then each key in force that
    is not the founding one.
    """
    if not state.retired:
        return
    yield f"Keys ({count_of(len(state.retired), 'change')})"
    for retired in state.retired.values():
        role, owner, _ = retired.authority
        how = "replaced by the parties" if retired.replaced else "rotated by its holder"
        yield (
            f"  entry {retired.index}, {format_time(retired.time_ms)}: the key of {role} {owner}, number "
            f"{retired.epoch} until then, {how}"
        )
    for role, owner in sorted(state.epochs):
        holding = present(state, role, owner)
        if holding is not None:
            yield f"  in force: {role} {owner}, number {holding.epoch}, {format_public_key(holding.key)}"


def export_keys(state: State) -> dict[str, Any]:
    """Return the same facts as JSON-able values."""
    held = [(role, owner, present(state, role, owner)) for role, owner in sorted(state.epochs)]
    return {
        "retired": [
            {
                "role": retired.authority.role,
                "holder": retired.authority.owner,
                "epoch": retired.epoch,
                "key": format_public_key(retired.authority.public_key),
                "index": retired.index,
                "time_ms": retired.time_ms,
                "replaced": retired.replaced,
            }
            for retired in state.retired.values()
        ],
        "in_force": [
            {"role": role, "holder": owner, "epoch": holding.epoch, "key": format_public_key(holding.key)}
            for role, owner, holding in held
            if holding is not None
        ],
    }
