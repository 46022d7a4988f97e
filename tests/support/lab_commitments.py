"""Commitments on a lab's bench: proposed, pledged and lifted on its log, by the parties' own keys.

Example: enact(bench.log, pause_document()); await bench.run_to(...); bench.permits.decide(job_id(1))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from commitments import build_commitment
from lab_bench import AdmittingLog

from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.envelope import encode
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import statements_pb2 as pb

PARTIES = ("norland", "sudland")


def pause_document(*, ident: str = "pause", above: str = "5e9 FLOP", wind_down: str = "10 s", **more: Any) -> bytes:
    """A pause that two parties bring into force, ten seconds after the second pledge."""
    entry = {"parties": 2, "delay": "10 s", "notice": "1 s", **more.pop("entry", {})}
    return build_commitment("pause", ident, entry=entry, pause={"above": above, "wind_down": wind_down}, **more)


def slow_down_document(*, ident: str = "slow", rate: str = "1e9 FLOP/s", wind_down: str = "10 s", **more: Any) -> bytes:
    """A slow-down under the same rule."""
    entry = {"parties": 2, "delay": "10 s", "notice": "1 s", **more.pop("entry", {})}
    return build_commitment("slow-down", ident, entry=entry, slow_down={"rate": rate, "wind_down": wind_down}, **more)


def enact(log: AdmittingLog, document: bytes, by: Sequence[str] = PARTIES) -> str:
    """Propose a commitment and pledge what its rule needs; return its id. It is then pending."""
    terms = compile_commitment(document, log.state.members)
    fingerprint = log.people.agreement.fingerprint
    statement: Any = pb.Commitment(agreement=fingerprint, proposer=PARTIES[0], document=document)
    log.append(encode(seal(statement, [log.people.keys.party(PARTIES[0])])))
    for who in by:
        key = log.people.keys.lab(who) if who in log.state.labs else log.people.keys.party(who)
        statement = pb.Pledge(agreement=fingerprint, participant=who, commitment=terms.id, digest=terms.digest)
        log.append(encode(seal(statement, [key])))
    return terms.id


def lift(log: AdmittingLog, ident: str) -> None:
    """Have both parties lift a commitment in force."""
    standing = log.state.commitments.standing(ident)
    for party in PARTIES:
        statement = pb.Lift(
            agreement=log.people.agreement.fingerprint,
            participant=party,
            commitment=ident,
            action=pb.LIFT_ACTION_LIFT,
            pledge_index=standing.pledged_at[party],
        )
        log.append(encode(seal(statement, [log.people.keys.party(party)])))


def growth_document(*, ident: str = "growth", growth: dict[str, str] | None = None, **more: Any) -> bytes:
    """A growth limit under the same rule, two seconds later: windows of three periods, with 100 gigaFLOP in any."""
    entry = {"parties": 2, "delay": "12 s", "notice": "1 s", **more.pop("entry", {})}
    terms = {"window": "3 periods", "baseline": "1000 periods", "growth": "0 %", "floor": "1e11 FLOP", **(growth or {})}
    return build_commitment("growth", ident, entry=entry, growth=terms, **more)


def cap_document(*caps: dict[str, Any], ident: str = "caps", **more: Any) -> bytes:
    """Caps under the same rule, two seconds later."""
    entry = {"parties": 2, "delay": "12 s", "notice": "1 s", **more.pop("entry", {})}
    return build_commitment("cap", ident, entry=entry, cap=list(caps), **more)
