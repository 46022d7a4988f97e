"""The story: labs train, four countries watch, one lab splits a run, one account is withheld, one verifier is away.

The second act, in which training stops together, is told in pause.py. Each act waits for what it tells: nothing is
printed that was not read back from the log or from a role's own status.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from pacekeeper.audit.report import verdict_sentence
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.cli.demo.pause import pause_shortcomings, play_pause
from pacekeeper.cli.demo.processes import Troupe
from pacekeeper.cli.demo.scene import HONEST, LABS, PARTIES, PERIOD_S, PLAIN_STEPS, SHARD_STEPS, SPLITTING, Scene
from pacekeeper.cli.demo.training import start_training
from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.client.fetch import open_source
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.replay.facts import ViolationKind
from pacekeeper.protocol.tlog.policy import CheckedCheckpoint, check_checkpoint

SHARDS: Final = ("shard-1", "shard-2", "shard-3")
ABSENT: Final = "eastholm"
_LOSS: Final = re.compile(r"step (\d+) loss ([0-9.]+)")
Say = Callable[[str], None]


def play(scene: Scene, say: Say) -> AuditResult:
    """Play the story to its end and return the audit of what is left on disk, all processes ended."""
    with Troupe(scene.root / "logs") as troupe:
        _open_roles(scene, troupe, say)
        _train(scene, troupe, say)
        play_pause(scene, troupe, say)
        _settle(scene, troupe, say)
    say("every process has ended; the audit reads only what lies on disk")
    return scene.audit(str(scene.public))


def _open_roles(scene: Scene, troupe: Troupe, say: Say) -> None:
    troupe.role("log", "log", "serve", str(scene.configs["log"]))
    troupe.wait_for(scene.root / "log/state/ready", 30)
    for party in PARTIES:
        troupe.role(f"verifier-{party}", "verifier", "run", str(scene.configs[party]))
    for lab in LABS:
        troupe.role(f"lab-{lab}", "lab", "run", str(scene.configs[lab]))
    for party in PARTIES:
        troupe.wait_for(scene.root / "verifier" / party / "state/ready", 30)
    for lab in LABS:
        troupe.wait_for(scene.root / "lab" / lab / "state/ready", 30)
    head = _wait_head(scene, troupe, lambda checked: not checked.absent, 30)
    say(f"the log, {len(PARTIES)} verifiers and {len(LABS)} labs run; a tree of {head.checkpoint.size} entries is")
    say(f"  cosigned by {', '.join(head.cosigners)} (3 of 4 needed: one liar or one absence is tolerated)")


def _train(scene: Scene, troupe: Troupe, say: Say) -> None:
    _start_training(scene, troupe, HONEST, "atlas", PLAIN_STEPS)
    say(f"{HONEST} trains one run, atlas; {SPLITTING} trains the same kind of model split into {len(SHARDS)} runs")
    previous: str | None = None
    verifier_away = False
    for number, shard in enumerate(SHARDS):
        _start_training(scene, troupe, SPLITTING, shard, SHARD_STEPS, previous)
        while not troupe.ended(shard):
            troupe.check()
            time.sleep(0.2)
        say(f"  {SPLITTING}/{shard}: {_losses(troupe, shard)}")
        previous = shard
        if number == 0:
            troupe.stop(f"verifier-{ABSENT}")
            head = _wait_head(scene, troupe, lambda checked: ABSENT in checked.absent, 30)
            say(f"verifier {ABSENT} was stopped: {head.checkpoint.size} entries are cosigned by the other three")
            verifier_away = True
        elif verifier_away:
            troupe.role(f"verifier-{ABSENT}", "verifier", "run", str(scene.configs[ABSENT]))
            head = _wait_head(scene, troupe, lambda checked: not checked.absent, 30)
            say(f"verifier {ABSENT} is back, has replayed what it missed, and cosigns {head.checkpoint.size} entries")
            verifier_away = False
    while not troupe.ended("atlas"):
        troupe.check()
        time.sleep(0.2)
    say(f"  {HONEST}/atlas: {_losses(troupe, 'atlas')}")


def _start_training(scene: Scene, troupe: Troupe, lab: str, run: str, steps: int, previous: str | None = None) -> None:
    directory = scene.root / "lab" / lab
    arguments = ["--run", run, "--steps", str(steps), "--save", str(directory / f"{run}.npz")]
    if previous is not None:
        arguments += ["--init", str(directory / f"{previous}.npz")]
    start_training(scene, troupe, lab, run, arguments)


def _losses(troupe: Troupe, run: str) -> str:
    found = _LOSS.findall(troupe.tail(run, 10_000))
    if not found:
        return "ended"
    return f"loss {found[0][1]} at step {found[0][0]}, {found[-1][1]} at step {found[-1][0]}"


def _settle(scene: Scene, troupe: Troupe, say: Say) -> None:
    """Wait until the periods in which anything was trained are accounted for, then audit the live log once."""
    agreement = scene.bundle.agreement
    last = agreement.period_of(int(time.time() * 1000))
    say(f"training is over; waiting for the accounts of period {last} ({PERIOD_S} s periods)")
    deadline = time.monotonic() + 3 * PERIOD_S + 20
    while True:
        troupe.check()
        result = scene.audit(scene.log_url)
        done = result.state is not None and all(lab.next_period > last for lab in result.state.labs.values())
        if done:
            break
        if time.monotonic() > deadline:
            raise TemporaryFailure(Outage.DEADLINE_EXCEEDED, f"the accounts of period {last} did not arrive")
        time.sleep(0.5)
    _wait_head(scene, troupe, lambda checked: not checked.absent, 30)
    arguments = ["-m", "pacekeeper.cli.main", "audit", scene.log_url, "--fingerprint", scene.fingerprint]
    live = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)
    say(f"an audit of the live log, every verifier asked directly, ends with status {live.returncode}:")
    for line in live.stderr.splitlines():
        say(f"  {line}")
    for lab in LABS:
        troupe.stop(f"lab-{lab}")
    # The log goes before the verifiers, so that its last checkpoint keeps every cosignature.
    troupe.stop("log")
    for party in PARTIES:
        troupe.stop(f"verifier-{party}")


def _wait_head(
    scene: Scene, troupe: Troupe, wanted: Callable[[CheckedCheckpoint], bool], seconds: float
) -> CheckedCheckpoint:
    """Read the published checkpoint until it is as wanted, and return it, its quorum checked."""
    policy = scene.bundle.agreement.policy()
    deadline = time.monotonic() + seconds
    source = open_source(scene.log_url)
    try:
        while True:
            troupe.check()
            note = source.read("checkpoint")
            if note is not None:
                checked = check_checkpoint(note, policy)
                if wanted(checked):
                    return checked
            if time.monotonic() > deadline:
                raise TemporaryFailure(Outage.DEADLINE_EXCEEDED, "the log's checkpoint did not become as expected")
            time.sleep(0.1)
    except Refused as refusal:
        raise TemporaryFailure(Outage.SERVER_ERROR, f"the log's checkpoint does not verify: {refusal}") from None
    finally:
        source.close()


def shortcomings(result: AuditResult) -> list[str]:
    """What the demonstration promised to show and the audit does not; empty when all is as told."""
    if result.status != Exit.VIOLATIONS or result.state is None:
        return [verdict_sentence(result)]
    violations = result.state.violations
    lacking = []
    if not any(v.kind is ViolationKind.RUN_CAP and len(v.sources) == len(SHARDS) for v in violations):
        lacking.append("the split run was not caught by its lineage")
    if not any(v.kind is ViolationKind.PERIOD_MISSING and v.subject == HONEST for v in violations):
        lacking.append("the withheld account was not reported missing")
    if any(v.kind is ViolationKind.RUN_CAP and v.subject == f"{HONEST}/atlas" for v in violations):
        lacking.append(f"{HONEST} was found over a cap")
    if not result.state.labs[HONEST].gaps:
        lacking.append("no gap was declared for the withheld account")
    return lacking + pause_shortcomings(result.state)
