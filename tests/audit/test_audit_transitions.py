"""Auditing a log on which the verifiers changed: verified across every change, or the file at fault is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import world as world_module
from agreements import Keys, build_document
from changing_log import ChangingLog
from membership_world import MembershipWorld
from published_log import PublishedLog, served

from pacekeeper.audit.export import export
from pacekeeper.audit.report import write_report
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.audit.verify import audit
from pacekeeper.client.fetch import DirectorySource, HttpSource
from pacekeeper.protocol.errors import Code

Audit = Callable[..., AuditResult]
Damage = Callable[[ChangingLog], object]


@pytest.fixture
def log(tmp_path: Path) -> ChangingLog:
    return ChangingLog(tmp_path / "log")


def faults(result: AuditResult) -> set[tuple[str, str]]:
    return {(fault.resource, str(fault.code)) for fault in result.faults}


def test_a_log_whose_verifiers_changed_three_times_is_verified_from_the_fingerprint(
    log: ChangingLog, run_audit: Audit
) -> None:
    """SPEC audit-18: each change by both quorums, and the report tells the changes and judges by the present set."""
    result = run_audit(log)
    assert result.status is Exit.COMPLIANT, result.faults
    assert result.transitions == 3
    indices = [change.index for change in result.changes]
    assert indices == [size - 1 for size in log.sizes[1:]]
    report = write_report(result)
    assert f"cosigned by norland, sudland, eastholm; 3 of 4 needed since entry {indices[2]} " in report
    assert "verifier highmark has not cosigned this checkpoint" in report
    assert "westmere has not cosigned" not in report
    assert f"entry {indices[1]}: verifier highmark joined; quorum 4 of 5, before it 4 of 4; both quorums" in report
    assert f"entry {indices[2]}: verifier westmere left; quorum 3 of 4, before it 4 of 5; both quorums" in report
    exported = export(result)
    assert [change["index"] for change in exported["verifier_changes"]] == indices
    with served(log.directory) as url:
        source = HttpSource(url)
        assert export(audit(source, log.fingerprint, jobs=0)) == exported
        source.close()


def test_an_earlier_size_is_replayed_under_the_verifiers_of_the_head(log: ChangingLog, run_audit: Audit) -> None:
    """The state is that of the size asked for; what signs the head is judged by the agreement in force in it."""
    result = run_audit(log, at=log.sizes[1])
    assert result.status is Exit.COMPLIANT, result.faults
    assert result.state is not None
    assert (result.state.size, result.state.agreement.quorum.quorum) == (log.sizes[1], 4)
    assert result.agreement is not None
    assert result.agreement.quorum.verifiers == 4
    assert "3 of 4 needed since entry" in write_report(result)


def _swap(log: ChangingLog) -> None:
    first, second = log.read("transition/1"), log.read("transition/2")
    log.put("transition/1", second)
    log.put("transition/2", first)


def _leave_out_second(log: ChangingLog) -> None:
    """Sign the third by others, who are both of its quorums and not the one before the second, and number it second."""
    log.put("transition/2", log.transition(3, cosigners=("norland", "sudland", "westmere", "highmark")))
    log.remove("transition/3")


def _flip(log: ChangingLog, number: int) -> None:
    data = log.read(f"transition/{number}")
    position = data.rindex(b"+") if b"+" in data[-60:] else len(data) - 20
    log.put(f"transition/{number}", data[:position] + (b"A" if data[position] != 65 else b"B") + data[position + 1 :])


def _superfluous(log: ChangingLog) -> None:
    """A checkpoint over no change of the verifiers, in between, with every signature in order."""
    for number in (3, 2):
        log.put(f"transition/{number + 1}", log.read(f"transition/{number}"))
    log.put_transition(2, size=log.sizes[1] + 1, cosigners=log.both(1))


def _another_tree(log: ChangingLog) -> None:
    log.put_transition(2, root=bytes(32))


DAMAGED: dict[str, tuple[Damage, set[tuple[str, str]]]] = {
    "the last is missing": (
        lambda log: log.remove("transition/3"),
        {("transition/3", Code.BAD_TRANSITION)},
    ),
    "one in the middle is missing": (
        lambda log: log.remove("transition/2"),
        {("transition/2", Code.BAD_TRANSITION)},
    ),
    "all are missing": (
        lambda log: shutil.rmtree(log.directory / "transition"),
        {("transition/1", Code.BAD_TRANSITION)},
    ),
    "two are exchanged": (_swap, {("transition/2", Code.BAD_TRANSITION)}),
    "one is left out": (_leave_out_second, {("transition/2", Code.NO_QUORUM)}),
    "one is superfluous": (_superfluous, {("transition/2", Code.BAD_TRANSITION)}),
    "one comes twice": (
        lambda log: log.put("transition/4", log.read("transition/3")),
        {("transition/4", Code.BAD_TRANSITION)},
    ),
    "without the old quorum": (
        lambda log: log.put_transition(3, cosigners=log.quorum(3)),
        {("transition/3", Code.NO_QUORUM)},
    ),
    "without the new quorum": (
        lambda log: log.put_transition(1, cosigners=log.quorum(0)),
        {("transition/1", Code.NO_QUORUM)},
    ),
    "signed by strangers": (
        lambda log: log.put_transition(2, cosigners=("highmark",)),
        {("transition/2", Code.NO_QUORUM)},
    ),
    "one bit of a signature": (lambda log: _flip(log, 2), {("transition/2", Code.BAD_SIGNATURE)}),
    "not a note": (lambda log: log.put("transition/2", b"nothing\n"), {("transition/2", Code.BAD_NOTE)}),
    "empty": (lambda log: log.put("transition/2", b""), {("transition/2", Code.BAD_NOTE)}),
    "of another tree": (_another_tree, {("transition/2", Code.WRONG_ROOT)}),
    "much too long": (
        lambda log: log.put("transition/1", b"x" * 300_000),
        {("transition/1", Code.TOO_LARGE)},
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_transition_checkpoint_that_does_not_hold_is_named(log: ChangingLog, run_audit: Audit, what: str) -> None:
    """SPEC audit-18, SPEC transition-2, SPEC transition-3: exactly the file at fault, and nothing is concluded."""
    damage, expected = DAMAGED[what]
    damage(log)
    result = run_audit(log)
    assert result.status is Exit.FAILED
    assert faults(result) == {(resource, str(code)) for resource, code in expected}
    assert "VERIFICATION FAILED" in write_report(result)


def test_a_chain_that_leaves_one_out_is_as_good_if_every_link_has_both_quorums(
    log: ChangingLog, run_audit: Audit
) -> None:
    """The second one has the founding quorum too: who knows only that needs no other word for the first change."""
    log.put("transition/1", log.read("transition/2"))
    log.put("transition/2", log.read("transition/3"))
    log.remove("transition/3")
    result = run_audit(log)
    assert (result.status, result.transitions, len(result.changes)) == (Exit.COMPLIANT, 2, 3)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_head_with_the_quorum_of_an_earlier_set_only_is_refused(
    log: ChangingLog, run_audit: Audit, number: int
) -> None:
    """SPEC transition-2: whoever was enough before the last change is not enough after it."""
    before = [party for party in log.quorum(number) if party != "norland"][:2]
    log.put("checkpoint", log.note(len(log.world.entries), log.root(), cosigners=[*before, "westmere"]))
    assert ("checkpoint", "no-quorum") in faults(run_audit(log))


def test_what_is_beyond_the_audited_checkpoint_is_not_looked_at(log: ChangingLog, run_audit: Audit) -> None:
    """A live log may have passed a further change since its checkpoint was read: its file is for later."""
    log.put("transition/4", log.note(len(log.world.entries) + 5, bytes(32), cosigners=log.quorum(3)))
    assert run_audit(log).status is Exit.COMPLIANT


def test_where_nothing_changed_a_transition_checkpoint_is_a_fault(tmp_path: Path, run_audit: Audit) -> None:
    """SPEC transition-3: one with every signature in order, over the same verifiers."""
    world = MembershipWorld()
    world.to(world.start(0) + 60_000)
    log = PublishedLog(world, tmp_path / "log")
    assert run_audit(log).status is Exit.COMPLIANT
    log.put("transition/1", log.note(2, log.root(2)))
    assert faults(run_audit(log)) == {("transition/1", "bad-transition")}


class Counting(DirectorySource):
    """Notes which paths are read."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.paths: list[str] = []

    def read(self, path: str) -> bytes | None:
        self.paths.append(path)
        return super().read(path)


def test_a_log_that_cannot_change_its_verifiers_is_not_asked_for_transitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before rules version 3 no entry changes them; from then on one request in vain is what it costs."""
    for rules, asked in ((1, []), (2, []), (3, ["transition/1"])):

        def build(rules: int = rules, **terms: object) -> tuple[bytes, Keys]:
            document, keys = build_document(**terms)  # type: ignore[arg-type]
            return document.replace(b"rules = 4", b"rules = %d" % rules), keys

        monkeypatch.setattr(world_module, "build_document", build)
        world = MembershipWorld()
        assert world.agreement.rules_version == rules
        log = PublishedLog(world, tmp_path / f"log-{rules}")
        source = Counting(log.directory)
        assert audit(source, log.fingerprint, jobs=0).status is Exit.COMPLIANT
        assert [path for path in source.paths if path.startswith("transition")] == asked
        source.close()


def test_signatures_of_newcomers_are_checked_in_the_workers_too(tmp_path: Path, log: ChangingLog) -> None:
    """The same result whether signatures are verified ahead, in processes, or one by one."""
    source = DirectorySource(log.directory)
    assert export(audit(source, log.fingerprint, jobs=0)) == export(audit(source, log.fingerprint, jobs=2))
    source.close()
