"""Test vectors of chains of checkpoints across changes of the verifiers, for every implementation to share.

Each chain begins with a founding policy; a link is a checkpoint and the policy of its own tree. The outcome is "ok", or
the code with which the last link is refused; all links before it are accepted.
"""

from __future__ import annotations

from typing import Any, Final

from small_chains import NEW, OLD, note, policy
from vectors import VECTORS, check_json

from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.protocol.tlog.transitions import PolicyChain
from pacekeeper.protocol.tlog.vkey import format_vkey

STRICT: Final = policy("abcd", 4)
LATER: Final = policy("cde", 2)
CHAINS: Final[dict[str, list[tuple[bytes, CosignaturePolicy]]]] = {
    "no change": [(note(3, "abc"), OLD), (note(5, "bcd"), OLD)],
    "one joins and one leaves, by both quorums": [(note(3, "abc"), OLD), (note(7, "bcd"), NEW), (note(9, "cde"), NEW)],
    "both quorums of different parties": [(note(7, "abcde"), NEW)],
    "the quorum before alone": [(note(3, "abc"), OLD), (note(7, "abc"), NEW)],
    "the quorum after alone": [(note(3, "abc"), OLD), (note(7, "cde"), NEW)],
    "the quorum before the change, after it": [(note(7, "bcd"), NEW), (note(8, "abd"), NEW)],
    "the quorum is raised": [(note(4, "abcd"), STRICT), (note(6, "abcd"), STRICT)],
    "the quorum is raised, and not met": [(note(4, "abc"), STRICT)],
    "the raised quorum is not met later": [(note(4, "abcd"), STRICT), (note(6, "abd"), STRICT)],
    "two changes in turn": [(note(4, "bcd"), NEW), (note(8, "cde"), LATER), (note(9, "ce"), LATER)],
    "two changes at once, by the first and the last quorum": [(note(8, "acd"), LATER)],
    "the second change by the first quorum": [(note(4, "bcd"), NEW), (note(8, "abc"), LATER)],
    "there and back": [(note(4, "bcd"), NEW), (note(8, "bcd"), OLD), (note(9, "abc"), OLD)],
    "not signed by the log": [(note(3, "abc"), OLD), (note(7, "bcd").replace(b"\n7\n", b"\n8\n"), NEW)],
}


def _describe(of: CosignaturePolicy) -> dict[str, Any]:
    return {
        "log": format_vkey(of.log_key),
        "witnesses": {party: format_vkey(key) for party, key in of.witnesses},
        "quorum": of.quorum,
    }


def _outcomes(links: list[tuple[bytes, CosignaturePolicy]]) -> list[str]:
    """What becomes of each link, up to the first that is refused."""
    chain = PolicyChain(OLD)
    outcomes: list[str] = []
    for signed, own in links:
        try:
            chain.settle(chain.check(signed), own)
        except Refused as refused:
            return [*outcomes, str(refused.code)]
        outcomes.append("ok")
    return outcomes


def test_vectors_of_chains_have_not_drifted() -> None:
    """SPEC transition-1, SPEC transition-2."""
    made = []
    for name, links in CHAINS.items():
        outcomes = _outcomes(links)
        assert outcomes[:-1] == ["ok"] * (len(links) - 1), f"{name}: only the last link may be refused"
        rows = [{"checkpoint": signed.decode(), "policy": _describe(own)} for signed, own in links]
        made.append({"name": name, "links": rows, "outcome": outcomes[-1]})
    assert {case["outcome"] for case in made} == {"ok", "bad-transition", "no-quorum", "bad-signature"}
    why = "chains of checkpoints across changes of the verifiers (specs/transitions.md)"
    check_json(VECTORS / "tlog/transitions.json", {"why": why, "founding": _describe(OLD), "chains": made})
