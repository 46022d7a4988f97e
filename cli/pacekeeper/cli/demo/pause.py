"""The second act: a pause that binds only together, a lab that trains on through it, and a slow-down.

Three labs train the same model from the same numbers, so that their losses can be compared step by step: borealis ends
when it is held and is started again from what it saved, delphi stands still and goes on by itself, and corvus, whose
training does not ask its lab's node, trains on. Its losses are what the others' would have been without the pause.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from pacekeeper.cli.demo.documents import PAUSE_DOCUMENT, SLOW_DOWN_DOCUMENT
from pacekeeper.cli.demo.processes import Troupe
from pacekeeper.cli.demo.scene import HONEST, PERIOD_S, ROGUE, STEADY, Scene
from pacekeeper.cli.demo.training import start_training
from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.replay.facts import ViolationKind
from pacekeeper.protocol.text import printable
from pacekeeper.protocol.units import FLOP_PER_UNIT, format_flop, format_time

RUNS: Final = {HONEST: "beacon", STEADY: "harbor", ROGUE: "maverick"}
PAUSE: Final = "joint-pause"
SLOW: Final = "half-speed"
FLOP_PER_STEP: Final = 402_653_184  # of the training program: counted by the meter, and by hand in its test
STEPS: Final = {
    HONEST: 800,
    STEADY: 100_000,
    ROGUE: 100_000,
}  # the first under its cap, the others until they are ended
MEASURED_S: Final = 30.0
_LOSS: Final = re.compile(r"step (\d+) loss ([0-9.]+)")
_HELD: Final = 75  # a job's exit status when a pause held it
Say = Callable[[str], None]


def play_pause(scene: Scene, troupe: Troupe, say: Say) -> None:
    """Play the act. Every lab's node runs, and none trains yet."""
    say("second act: a pause that binds only if enough others are bound")
    for lab, run in RUNS.items():
        start_training(scene, troupe, lab, run, _arguments(scene, lab), gated=lab != ROGUE)
    troupe.expect(RUNS[HONEST], _HELD)
    _wait(troupe, 60, "training did not begin", lambda: all(_losses(troupe, run) for run in RUNS.values()))
    _commit(scene, troupe, say)
    _hold(scene, troupe, say)
    _convict(scene, troupe, say)
    _lift(scene, troupe, say)
    _slow_down(scene, troupe, say)
    for run in RUNS.values():
        troupe.stop(run)


def _arguments(scene: Scene, lab: str) -> list[str]:
    arguments = ["--run", RUNS[lab], "--steps", str(STEPS[lab]), "--seed", "7"]
    if lab != ROGUE:
        arguments += ["--state", str(scene.root / "lab" / lab / f"{RUNS[lab]}-state.npz")]
    return [*arguments, "--exit-on-hold"] if lab == HONEST else arguments


def _commit(scene: Scene, troupe: Troupe, say: Say) -> None:
    """Propose the pause, and pledge one by one; only the last brings it about."""
    document = scene.root / "commitment" / f"{PAUSE}.md"
    document.parent.mkdir(exist_ok=True)
    document.write_text(PAUSE_DOCUMENT.format(id=PAUSE, pledges_by=format_time(_soon_ms(300))), encoding="utf-8")
    _act(scene, "norland", "propose", str(document))
    pledges = [
        ("norland", "parties>=3"),
        ("sudland", "parties>=3, labs>=2"),
        (HONEST, f"with {STEADY}"),
        (STEADY, f"with {HONEST}"),
        ("westmere", ""),
    ]
    for who, condition in pledges:
        more = ["--if", condition] if condition else []
        _act(scene, who, "pledge", PAUSE, *more)
        phase = replay(scene).commitments.standing(PAUSE).phase
        say(f"  {who} pledges{f', if {condition}' if condition else ''}: the pause is {phase}")
    troupe.check()


def _hold(scene: Scene, troupe: Troupe, say: Say) -> None:
    held = [RUNS[HONEST], RUNS[STEADY]]
    _wait(troupe, 40, "the pause did not reach training", lambda: all(_said(troupe, run, "held after") for run in held))
    _wait(troupe, 20, f"{held[0]} did not end", lambda: troupe.ended(held[0]))
    for run in held:
        say(f"  {_last(troupe, run, 'saved after')}; {printable(_last(troupe, run, 'held after'))}")
    say(f"  {held[0]} has ended with status {_HELD}, {held[1]} stands still")
    before = _last_step(troupe, RUNS[ROGUE])
    time.sleep(PERIOD_S)
    if _last_step(troupe, RUNS[ROGUE]) <= before:
        raise TemporaryFailure(Outage.DEADLINE_EXCEEDED, f"{RUNS[ROGUE]} does not train")
    say(f"  {ROGUE}, bound by its country's pledge, trains on: step {_last_step(troupe, RUNS[ROGUE])}")


def _convict(scene: Scene, troupe: Troupe, say: Say) -> None:
    def convicted() -> bool:
        return any(v.kind is ViolationKind.PAUSE and v.subject == ROGUE for v in replay(scene).violations)

    _wait(troupe, 60, f"{ROGUE} was not convicted", convicted, every_s=1.0)
    [first, *_] = [v for v in replay(scene).violations if v.kind is ViolationKind.PAUSE]
    assert first.bounds is not None
    used = format_flop(first.bounds.low)
    say(f"  the replay convicts {ROGUE}: {used} in period {first.period}, while {first.cap} held, from its own account")


def _lift(scene: Scene, troupe: Troupe, say: Say) -> None:
    for who in ("norland", "sudland", "westmere"):
        _act(scene, who, "lift", PAUSE)
    say(f"  three countries lift it: the pause is {replay(scene).commitments.standing(PAUSE).phase}")
    marks = {run: _last_step(troupe, run) for run in (RUNS[HONEST], RUNS[STEADY])}
    start_training(scene, troupe, HONEST, RUNS[HONEST], _arguments(scene, HONEST))
    _wait(
        troupe,
        60,
        "training did not go on after the lift",
        lambda: all(_last_step(troupe, run) >= marks[run] + 100 for run in marks),
    )
    reference = _losses(troupe, RUNS[ROGUE])
    for run, mark in marks.items():
        same = [step for step, loss in _losses(troupe, run).items() if reference.get(step) == loss]
        after = [step for step in same if step > mark]
        if not after or len(same) < len(_losses(troupe, run).keys() & reference.keys()):
            raise TemporaryFailure(Outage.SERVER_ERROR, f"{run} did not go on as it would have without the pause")
        say(f"  {run} goes on: {len(same)} losses, {len(after)} after the pause, are those of uninterrupted training")


def _slow_down(scene: Scene, troupe: Troupe, say: Say) -> None:
    run = RUNS[STEADY]
    free = _measure(troupe, run, 6.0)
    limit = int(free / 2 / FLOP_PER_UNIT) * FLOP_PER_UNIT
    document = scene.root / "commitment" / f"{SLOW}.md"
    text = SLOW_DOWN_DOCUMENT.format(id=SLOW, pledges_by=format_time(_soon_ms(300)), rate=f"{limit // FLOP_PER_UNIT}e9")
    document.write_text(text, encoding="utf-8")
    _act(scene, "sudland", "propose", str(document))
    _act(scene, "sudland", "pledge", SLOW)
    say(f"  sudland commits to {format_flop(limit // FLOP_PER_UNIT)}/s, half of what {run} does")
    deadline = _soon_ms(30)
    while not replay(scene).commitments.constraints_on(STEADY, int(time.time() * 1000)).rate:
        if int(time.time() * 1000) > deadline:
            raise TemporaryFailure(Outage.DEADLINE_EXCEEDED, "the slow-down did not begin")
        time.sleep(0.5)
    time.sleep(2)  # a meter asks once a second
    measured = _measure(troupe, run, MEASURED_S)
    share = measured / limit
    does = format_flop(round(measured / FLOP_PER_UNIT))
    say(f"  over {MEASURED_S:.0f} s {run} does {does}/s: {share:.1%} of the limit")
    if not 0.95 <= share <= 1.05:
        raise TemporaryFailure(Outage.SERVER_ERROR, f"the rate is {share:.1%} of the limit, not within 5 % of it")


def _measure(troupe: Troupe, run: str, seconds: float) -> float:
    """FLOP per second, from one printed step to another."""
    first = _next_step(troupe, run)
    begun = time.monotonic()
    while True:
        last = _next_step(troupe, run)
        took = time.monotonic() - begun
        if took >= seconds:
            return (last - first) * FLOP_PER_STEP / took


def _next_step(troupe: Troupe, run: str) -> int:
    """Wait for the next step that training prints, and return its number at that moment."""
    before = _last_step(troupe, run)
    deadline = time.monotonic() + 60
    while (now := _last_step(troupe, run)) == before:
        troupe.check()
        if time.monotonic() > deadline:
            raise TemporaryFailure(Outage.DEADLINE_EXCEEDED, f"{run} stands still")
        time.sleep(0.01)
    return now


def _act(scene: Scene, who: str, *arguments: str) -> None:
    """Run `pacekeeper commitment ...` as a participant."""
    if who in RUNS:
        more = [str(scene.configs[who])]
    else:
        more = [str(scene.configs[who]), "--key", str(scene.root / "party" / who / "keys/party.key")]
    command = ["commitment", *arguments, *more]
    done = subprocess.run(
        [sys.executable, "-m", "pacekeeper.cli.main", *command], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise TemporaryFailure(Outage.SERVER_ERROR, f"{' '.join(command)}: {printable(done.stderr.strip())}")


def replay(scene: Scene) -> State:
    """Audit the live log and return the state."""
    result = scene.audit(scene.log_url)
    if result.state is None or result.faults:
        raise TemporaryFailure(Outage.SERVER_ERROR, "the log does not verify")
    return result.state


def _wait(troupe: Troupe, seconds: float, failure: str, done: Callable[[], bool], *, every_s: float = 0.2) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        troupe.check()
        if time.monotonic() > deadline:
            raise TemporaryFailure(Outage.DEADLINE_EXCEEDED, failure)
        time.sleep(every_s)


def _losses(troupe: Troupe, run: str) -> dict[int, str]:
    return {int(step): loss for step, loss in _LOSS.findall(troupe.tail(run, 100_000))}


def _last_step(troupe: Troupe, run: str) -> int:
    return max(_losses(troupe, run), default=0)


def _said(troupe: Troupe, run: str, words: str) -> bool:
    return words in troupe.tail(run, 100_000)


def _last(troupe: Troupe, run: str, words: str) -> str:
    return [line for line in troupe.tail(run, 100_000).splitlines() if words in line][-1]


def _soon_ms(seconds: int) -> int:
    return (int(time.time()) + seconds) * 1000


def pause_shortcomings(state: State) -> list[str]:
    """What the act promised and the log does not have."""
    lacking = []
    if not any(v.kind is ViolationKind.PAUSE and v.subject == ROGUE for v in state.violations):
        lacking.append(f"{ROGUE} was not convicted of training through the pause")
    for kind in (ViolationKind.PAUSE, ViolationKind.RATE, ViolationKind.UNSPLIT):
        if any(v.kind is kind and v.subject in (HONEST, STEADY) for v in state.violations):
            lacking.append(f"a lab that kept its commitment was convicted: {kind}")
    return lacking
