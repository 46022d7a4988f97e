"""Published findings: the audit checks their evidence again, and one that does not hold speaks against its verifier."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from published_log import PublishedLog
from world import World

from pacekeeper.audit.report import write_report
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.audit.verify import ChangedSource, audit, read_entry
from pacekeeper.client.fetch import DirectorySource
from pacekeeper.protocol.replay import Applied
from pacekeeper.protocol.tlog.checkpoint import Checkpoint
from pacekeeper.protocol.tlog.tiles import encode_bundle
from pacekeeper.v1 import statements_pb2 as pb

Audit = Callable[..., AuditResult]


def publish(
    world: World, evidence: pb.Evidence, rule: str, subject: str, severity: int, party: str = "norland"
) -> None:
    """Put a verifier's finding on the log."""
    finding = pb.Finding(
        agreement=world.agreement.fingerprint,
        party=party,
        rule=rule,
        subject=subject,
        severity=severity,  # type: ignore[arg-type]
        as_of=world.state.size,
        evidence=evidence,
    )
    outcome = world.put(world.seal(finding, world.keys.verifier_statement(party)), world.state.last_time_ms)
    assert isinstance(outcome, Applied)


def equivocation(world: World) -> pb.Evidence:
    """Borealis has signed another account under the sequence number of its first one."""
    index = next(i for i, entry in enumerate(world.entries) if b"ComputeAttestation" in entry and b"borealis" in entry)
    other = pb.ComputeAttestation(
        agreement=world.agreement.fingerprint,
        lab="borealis",
        link=pb.Link(sequence=1, as_of=0),
        account=world.account(0, {"run-1": 1}),
    )
    second = world.seal(other, world.keys.lab("borealis"))
    return pb.Evidence(lab_equivocation=pb.LabEquivocationEvidence(first_index=index, second=second))


def test_a_finding_that_holds_is_shown_and_counts(compliant: PublishedLog, run_audit: Audit) -> None:
    """SPEC audit-6."""
    world = compliant.world
    publish(world, equivocation(world), "lab-equivocation", "borealis", pb.SEVERITY_BREACH)
    compliant.write()
    result = run_audit(compliant)
    assert result.status == Exit.VIOLATIONS
    assert [(finding.agrees, finding.verdict.holds) for finding in result.findings] == [(True, True)]
    report = write_report(result)
    assert "Findings of verifiers (1)" in report
    assert (
        "verifier norland: breach, lab-equivocation by borealis: "
        "lab borealis signed two statements with sequence 1; its evidence holds" in report
    )


def test_a_fork_in_evidence_convicts_the_log(compliant: PublishedLog, run_audit: Audit) -> None:
    """SPEC audit-6."""
    world = compliant.world
    notes = [compliant.note(3, root, cosigners=()) for root in (compliant.root(3), bytes(32))]
    fork = pb.Evidence(log_fork=pb.LogForkEvidence(checkpoint_a=notes[0], checkpoint_b=notes[1]))
    publish(world, fork, "log-fork", "log", pb.SEVERITY_BREACH)
    compliant.write()
    result = run_audit(compliant)
    assert result.status == Exit.VIOLATIONS
    assert "log-fork by log: the log signed two trees of size 3; its evidence holds" in write_report(result)


@pytest.mark.parametrize(
    ("rule", "subject", "severity"),
    [
        ("lab-equivocation", "meridian", pb.SEVERITY_BREACH),
        ("lab-equivocation", "borealis", pb.SEVERITY_OBSERVATION),
        ("log-fork", "borealis", pb.SEVERITY_BREACH),
    ],
)
def test_a_finding_that_says_something_else_than_its_evidence_speaks_against_its_verifier(
    compliant: PublishedLog, run_audit: Audit, rule: str, subject: str, severity: int
) -> None:
    """SPEC audit-6."""
    publish(compliant.world, equivocation(compliant.world), rule, subject, severity)
    compliant.write()
    result = run_audit(compliant)
    assert result.status == Exit.VIOLATIONS
    assert not result.findings[0].agrees
    assert "its evidence DOES NOT HOLD, which speaks against the verifier" in write_report(result)


@pytest.mark.parametrize(
    "evidence",
    [
        pb.Evidence(void_entry=pb.VoidEntryEvidence(index=2, code="bad-signature")),
        pb.Evidence(disagreement=pb.DisagreementEvidence(index=2**60, run="run-1")),
        pb.Evidence(disagreement=pb.DisagreementEvidence(index=0, run="run-1")),
        pb.Evidence(log_fork=pb.LogForkEvidence(checkpoint_a=b"\xff", checkpoint_b=b"")),
        pb.Evidence(lab_equivocation=pb.LabEquivocationEvidence(first_index=1)),
    ],
)
def test_evidence_that_shows_nothing_does_not_hold(
    compliant: PublishedLog, run_audit: Audit, evidence: pb.Evidence
) -> None:
    """SPEC audit-6."""
    kind = (evidence.WhichOneof("kind") or "").replace("_", "-")
    publish(compliant.world, evidence, kind, "log", pb.SEVERITY_ANOMALY)
    compliant.write()
    result = run_audit(compliant)
    assert result.faults == []
    assert result.status == Exit.VIOLATIONS
    assert "DOES NOT HOLD" in write_report(result)


def test_evidence_is_read_from_the_verified_tree_only(compliant: PublishedLog) -> None:
    """SPEC audit-14: a source that serves another entry after verification is caught, not believed."""
    world = compliant.world
    publish(world, equivocation(world), "lab-equivocation", "borealis", pb.SEVERITY_BREACH)
    compliant.write()
    path = f"tile/entries/000.p/{len(world.entries)}"
    entries = list(world.entries)
    entries[2] = entries[3]

    class TwoFaced:
        """Shows the right bundle to whoever reads in order, and another one to whoever looks up evidence."""

        def __init__(self) -> None:
            self.inner = DirectorySource(compliant.directory)

        def read(self, wanted: str) -> bytes | None:
            return encode_bundle(entries) if wanted == path else self.inner.read(wanted)

        def close(self) -> None:
            self.inner.close()

    size = len(world.entries)
    checkpoint = Checkpoint(world.agreement.origin, size, compliant.root())
    with pytest.raises(ChangedSource, match=path):
        read_entry(TwoFaced(), checkpoint, 2)
    assert read_entry(DirectorySource(compliant.directory), checkpoint, 2) == world.entries[2]


def test_a_log_that_loses_a_bundle_after_it_was_verified_fails(compliant: PublishedLog) -> None:
    """SPEC audit-14, in an audit from begin to end: full bundles are read a second time for the evidence."""
    world = compliant.world
    evidence = equivocation(world)
    last = world.state.last_time_ms
    world.ticks(last, last + 257_000)
    publish(world, evidence, "lab-equivocation", "borealis", pb.SEVERITY_BREACH)
    compliant.write()

    class Losing:
        """Gives each full bundle as often as reading in order takes: entry 0's twice, since entry 0 is read first."""

        left = 2

        def __init__(self) -> None:
            self.inner = DirectorySource(compliant.directory)

        def read(self, path: str) -> bytes | None:
            if path == "tile/entries/000":
                self.left -= 1
                if self.left < 0:
                    return None
            return self.inner.read(path)

        def close(self) -> None:
            self.inner.close()

    result = audit(Losing(), compliant.fingerprint, jobs=0)
    assert result.status == Exit.FAILED
    assert [fault.resource for fault in result.faults] == ["tile/entries/000"]
    assert "it is not what it was when it was verified" in write_report(result)
