"""Logs of earlier rules versions: what was decided by them stays decided, whatever the code becomes.

The files were written by the code of their time and are never written anew: a mend that changes one of them rewrites
history, and belongs into the next rules version.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vectors import VECTORS

from pacekeeper.protocol.replay import Applied, apply, genesis

HISTORY = sorted((VECTORS / "history").glob("rules-*/*.json"))


def test_every_earlier_version_has_its_history() -> None:
    assert {path.parent.name for path in HISTORY} == {"rules-1", "rules-2", "rules-3"}


@pytest.mark.parametrize("path", HISTORY, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_was_decided_stays_decided(path: Path) -> None:
    """SPEC replay-9: every entry has the outcome that it had, and all lead to the same state."""
    recorded = json.loads(path.read_text())
    entries = [bytes.fromhex(entry) for entry in recorded["entries"]]
    state = genesis(entries[0])
    assert state.agreement.rules_version == int(path.parent.name.removeprefix("rules-"))
    for entry, expected in zip(entries[1:], recorded["outcomes"][1:], strict=True):
        outcome = apply(state, entry)
        if isinstance(outcome, Applied):
            assert outcome.id.hex() == expected["id"]
        else:
            assert outcome.code == expected["void"]
    assert [[v.kind, v.subject, v.index] for v in state.violations] == [
        [fact["kind"], fact["subject"], fact["index"]] for fact in recorded["violations"]
    ]
    assert state.digest().hex() == recorded["digest"]
