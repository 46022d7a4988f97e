"""Hold: how long after the log took the last needed pledge twenty training loops stand still.

A log, four verifiers and a lab's node run as processes, as the demonstration founds them. Twenty loops, each with its
meter and a fixed step time, train in this process. In each round two countries pledge to a pause without delay, all
loops hold, and the two lift it again. Counted from the log time of the second pledge; so the quorum's cosignatures, the
node's replay, word to the meters and their asking, and the rest of a step are in the figure.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from benchmarks.support.figures import Figure, Figures
from benchmarks.support.probes import Probes
from pacekeeper.cli.demo.processes import Troupe
from pacekeeper.cli.demo.scene import HONEST, PARTIES, Scene, build_scene
from pacekeeper.client.keyfiles import load_key
from pacekeeper.client.submit import Accepted, LogClient
from pacekeeper.client.tls import LOG_URI, channel_credentials
from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.settings import MeterSettings
from pacekeeper.protocol.envelope import encode
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import statements_pb2 as pb

LOOPS: Final = 20
STEP_S: Final = 0.05
BOUND_S: Final = 1.0 + STEP_S
STRETCH_S: Final = 0.25 + STEP_S
PLEDGERS: Final = ("norland", "sudland")
_FLOP: Final = 10**9
_PATIENCE_S: Final = 30.0
_CHIPS: Final = 64


@dataclass(frozen=True)
class Config:
    """rounds of pledging, holding and lifting."""

    rounds: int


TINY: Final = Config(rounds=1)
QUICK: Final = Config(rounds=4)
FULL: Final = Config(rounds=20)


def measure(config: Config, work: Path) -> Figures:
    """Run the rounds."""
    probes = Probes(work)
    scene = build_scene(work / "scene")
    lab_config = scene.configs[HONEST]
    lab_config.write_text(lab_config.read_text().replace("count = 2", f"count = {_CHIPS}"))
    with Troupe(work / "logs") as troupe:
        _start(scene, troupe)
        logging.getLogger("pacekeeper.meter").setLevel(logging.ERROR)  # each says that it is held
        loops: list[_Loop] = []
        try:
            for number in range(LOOPS):
                loops.append(_Loop(number, scene))
                time.sleep(STEP_S)  # so that the meters do not all ask at one moment
            delays = asyncio.run(_rounds(scene, loops, config.rounds, probes))
        finally:
            for loop in loops:
                loop.stop()
    each = [delay for of_round in delays for delay in of_round]
    last = [max(of_round) for of_round in delays]
    raw = probes.said()
    figures = [
        Figure(f"a loop of {LOOPS} stands still, p50", median(each), "s", raw, BOUND_S, stretch=STRETCH_S),
        Figure("the last of them, p50", median(last), "s", raw),
    ]
    if len(each) >= 2:
        figures.insert(1, Figure("the same, p99", quantiles(each, n=100, method="inclusive")[98], "s", raw))
    if len(last) >= 2:
        figures.append(Figure("the same, p99", quantiles(last, n=100, method="inclusive")[98], "s", raw))
    return Figures(
        "hold",
        f"log, 4 verifiers, a lab's node as processes on these cores; {LOOPS} loops of {STEP_S * 1000:.0f} ms a step",
        tuple(figures),
        notes=(f"{config.rounds} rounds; from the log time of the last needed pledge", "the pause has no delay"),
    )


def _start(scene: Scene, troupe: Troupe) -> None:
    troupe.role("log", "log", "serve", str(scene.configs["log"]))
    troupe.wait_for(scene.root / "log/state/ready", 30)
    for party in PARTIES:
        troupe.role(f"verifier-{party}", "verifier", "run", str(scene.configs[party]))
    troupe.role("lab", "lab", "run", str(scene.configs[HONEST]))
    for party in PARTIES:
        troupe.wait_for(scene.root / "verifier" / party / "state/ready", 30)
    troupe.wait_for(scene.root / "lab" / HONEST / "state/ready", 30)


@dataclass
class _Loop:
    """A training loop with a fixed step time, in a thread of its own. held_s: when it last stood still."""

    number: int
    scene: Scene
    held_s: float = 0.0
    running: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._thread.join(_PATIENCE_S)

    def _train(self) -> None:
        state = self.scene.root / "lab" / HONEST / "state"
        settings = MeterSettings(state / "gate.sock", state / "spool")
        with Meter.open(
            f"loop-{self.number:02}",
            initial_digest=hashlib.sha256(bytes([self.number])).digest(),
            on_hold=self._hold,
            settings=settings,
        ) as meter:
            while not self._stopping:
                time.sleep(STEP_S)
                meter.step(_FLOP)
                self.running.set()

    def _hold(self, _reason: str) -> None:
        self.running.clear()
        self.held_s = time.time()


async def _rounds(scene: Scene, loops: list[_Loop], rounds: int, probes: Probes) -> list[list[float]]:
    bundle = scene.bundle
    keys = scene.root / "verifier" / PLEDGERS[0] / "keys"
    tls = ((keys / "tls.pem").read_bytes(), (keys / "tls.crt.pem").read_bytes())
    credentials = channel_credentials(bundle.certificates[LOG_URI], *tls)
    delays: list[list[float]] = []
    async with LogClient(bundle.agreement.log.address, credentials, bundle.agreement) as client:
        await _until(lambda: all(loop.running.is_set() for loop in loops))
        # Above the limit, and with the first steps accounted for in the journal.
        await asyncio.sleep(2)
        for number in range(rounds):
            probes.take()
            delays.append(await _round(client, scene, loops, number))
    return delays


async def _round(client: LogClient, scene: Scene, loops: list[_Loop], number: int) -> list[float]:
    ident, fingerprint = f"pause-{number:03}", scene.bundle.agreement.fingerprint
    document = _DOCUMENT.format(id=ident, pledges_by=format_time((int(time.time()) + 600) * 1000)).encode()
    digest = hashlib.sha256(document).digest()
    proposal = pb.Commitment(agreement=fingerprint, proposer=PLEDGERS[0], document=document)
    await _say(client, scene, PLEDGERS[0], proposal)
    places = {}
    for who in PLEDGERS:
        pledge = pb.Pledge(agreement=fingerprint, participant=who, commitment=ident, digest=digest)
        places[who] = await _say(client, scene, who, pledge)
    taken_s = places[PLEDGERS[-1]].sequenced_at_ms / 1000
    await _until(lambda: all(loop.held_s > taken_s for loop in loops))
    held = [loop.held_s - taken_s for loop in loops]
    for who in PLEDGERS:
        lift = pb.Lift(
            agreement=fingerprint,
            participant=who,
            commitment=ident,
            action=pb.LIFT_ACTION_LIFT,
            pledge_index=places[who].index,
        )
        await _say(client, scene, who, lift)
    await _until(lambda: all(loop.running.is_set() for loop in loops))
    # Rounds begin at any phase of the meters' asking.
    await asyncio.sleep(0.3 + (number * 0.37) % 1.0)
    return held


async def _say(client: LogClient, scene: Scene, who: str, statement: pb.Commitment | pb.Pledge | pb.Lift) -> Accepted:
    key = load_key(scene.root / "party" / who / "keys/party.key")
    (answer,) = await client.submit([encode(seal(statement, [key]))], unwitnessed=True)
    assert isinstance(answer, Accepted), answer
    return answer


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            if done():
                return
            await asyncio.sleep(0.01)


_DOCUMENT: Final = """# A pause

## Article 1. Terms

```toml
[commitment]
id = "{id}"
title = "A pause without delay"
kind = "pause"

[pause]
above = "1e9 FLOP"
wind_down = "10 s"

[entry]
parties = 2
pledges_by = "{pledges_by}"
delay = "1 ms"
notice = "1 ms"

[term]
length = "1 h"

[lifting]
parties = 2

[withdrawal]
before_entry = "none"
notice = "10 min"
```
"""
