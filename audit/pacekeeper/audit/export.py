"""The report as JSON-able values, for machines: the same facts as the words, in a fixed order."""

from __future__ import annotations

import base64
from typing import Any

from pacekeeper.audit.acts import export_agreement
from pacekeeper.audit.keys import export_keys
from pacekeeper.audit.report import (
    CANNOT_SHOW,
    describe_change,
    describe_violation,
    lab_standing,
    lab_total,
    verdict_sentence,
)
from pacekeeper.audit.result import AuditResult
from pacekeeper.audit.story import export_commitment
from pacekeeper.protocol.replay.state import State
from pacekeeper.v1 import statements_pb2 as pb


def export(result: AuditResult) -> dict[str, Any]:
    """Return everything that the report says. Compute is in gigaFLOP, times in milliseconds since the epoch, UTC."""
    body: dict[str, Any] = {
        "fingerprint": result.fingerprint.hex(),
        "status": int(result.status),
        "verdict": verdict_sentence(result),
        "faults": [
            {"resource": fault.resource, "code": str(fault.code), "message": fault.message}
            for fault in sorted(set(result.faults))
        ],
        "cannot_show": list(CANNOT_SHOW),
    }
    if result.head is not None:
        body["checkpoint"] = {
            "origin": result.head.checkpoint.origin,
            "size": result.head.checkpoint.size,
            "root": base64.b64encode(result.head.checkpoint.root).decode(),
            "cosigners": result.head.cosigners,
            "absent": list(result.head.absent),
            "invalid": list(result.head.invalid),
        }
    if result.changes:
        body["verifier_changes"] = [
            {
                "index": change.index,
                "verifiers": [party.id for party in change.after.parties],
                "quorum": change.after.quorum.quorum,
                "words": describe_change(change),
            }
            for change in result.changes
        ]
    if result.state is not None and not result.faults:
        body["record"] = _record(result, result.state)
    return body


def _record(result: AuditResult, state: State) -> dict[str, Any]:
    return {
        "audited": result.audited,
        "founded_ms": state.founded_ms,
        "last_time_ms": state.last_time_ms,
        "state_digest": state.digest().hex(),
        "agreement": export_agreement(state),
        "labs": [
            {
                "lab": lab.id,
                "party": lab.party,
                "standing": lab_standing(state, lab.id),
                "attested": lab.attested,
                "late": lab.late,
                "corrections": lab.corrections,
                "expired": lab.expired,
                "gaps": sorted(lab.gaps),
                "missing": sorted(lab.missing),
                "last_period": lab.last_period,
                "compute": lab_total(state, lab.id)._asdict(),
            }
            for lab in state.labs.values()
        ],
        "caps": [
            {"cap": cap, "subject": subject, "outcome": str(status.outcome), "compute": status.bounds._asdict()}
            for (cap, subject), status in sorted(state.cap_status.items())
        ],
        "commitments": [export_commitment(state, standing) for standing in state.commitments.standings().values()],
        "keys": export_keys(state),
        "violations": [
            {
                "kind": str(violation.kind),
                "subject": violation.subject,
                "period": violation.period,
                "index": violation.index,
                "time_ms": violation.time_ms,
                "cap": violation.cap,
                "limit": violation.limit,
                "compute": None if violation.bounds is None else violation.bounds._asdict(),
                "sources": list(violation.sources),
                "words": describe_violation(violation, state.agreement),
            }
            for violation in state.violations
        ],
        "voids": [{"index": void.index, "code": str(void.code), "message": void.message} for void in state.voids],
        "void_count": state.void_count,
        "silences": [{"start_ms": silence.start_ms, "end_ms": silence.end_ms} for silence in state.silences],
        "findings": [
            {
                "index": finding.entry.index,
                "party": finding.entry.statement.party,
                "rule": finding.entry.statement.rule,
                "subject": finding.entry.statement.subject,
                "severity": pb.Severity.Name(finding.entry.statement.severity),
                "holds": finding.verdict.holds,
                "agrees": finding.agrees,
                "why": finding.verdict.why,
            }
            for finding in result.findings
        ],
    }
