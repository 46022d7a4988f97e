"""A kill campaign: a whole site under load, its processes killed at random moments, the four invariants after each.

    figures = await run_campaign(directory, seed=7, kills=20, say=print)

Log, verifiers and lab daemons are killed in turn by SIGKILL: one, sometimes two at one moment, sometimes the same one
again while it starts; each is started again at once or after a pause. Then the snapshots of what is on disk are judged,
and everything must recover: the log acknowledges anew, the verifier cosigns anew, the lab delivers. At the end nothing
that was metered may be missing, and an audit of the public files must find no fault.

Moments and victims follow from the seed; what the machine does meanwhile does not.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from campaign_checks import Invariants, Snapshots, attested_usage, check_metered, journalled_usage
from campaign_load import Load, read_metered
from campaign_watch import Observer
from processes import Processes
from site_on_disk import BRISK_TERMS, Site, found_site, names_of

from pacekeeper.audit.verify import audit
from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.fetch import open_source
from pacekeeper.node.agenda import grace_ms
from pacekeeper.node.meters.spool import spool_files
from pacekeeper.node.status import LabStatus, read_status
from pacekeeper.protocol.tlog.policy import check_checkpoint

DAEMONS: Final = ("borealis", "meridian")  # labs that run their own node, with jobs that meter
LOADER: Final = "cascade"  # the lab that only submits
LABS: Final = {"borealis": "norland", "meridian": "sudland", LOADER: "westmere"}
RECOVERY_S: Final = 60.0
PROVED_AGAIN: Final = 20  # acknowledged entries, chosen anew after each kill, that are proved in the published tree
Say = Callable[[str], None]


@dataclass
class Figures:
    """What a campaign has done."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    while_starting: int = 0
    together: int = 0
    slowest_recovery_s: float = 0.0
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.kills.total()


class Campaign:
    """One site and its troubles."""

    def __init__(self, running: Processes, load: Load, observer: Observer, seed: int, kills: int, say: Say) -> None:
        self.site = running.site
        self.running = running
        self.load = load
        self.observer = observer
        self.invariants = Invariants(self.site)
        self.snapshots = Snapshots(running, self.site.root / "snapshots")
        self.figures = Figures(seed)
        self.rng = random.Random(seed)
        self._kills = kills
        self._say = say
        self._policy = self.site.agreement.policy()
        self._daemons = [f"lab-{lab}" for lab in DAEMONS]
        self._began = time.monotonic()

    async def run(self) -> None:
        """Kill until there were enough kills."""
        roles = (["log"], list(self.site.verifiers), self._daemons)
        turn = 0
        while self.figures.total < self._kills:
            victims = [self.rng.choice(roles[turn % len(roles)])]
            turn += 1
            if self.rng.random() < 0.15:
                others = [name for role in roles for name in role if name not in victims]
                victims.append(self.rng.choice(others))
                self.figures.together += 1
            self.load.calm.clear()
            await asyncio.sleep(self._delay_s(victims[0]))
            await self._strike(victims)

    def _delay_s(self, victim: str) -> float:
        """How long to wait with the next kill: half of the labs' fall upon the moment at which an account is signed."""
        if not victim.startswith("lab-") or self.rng.random() < 0.5:
            return self.rng.uniform(0, 1.0)
        agreement, now_ms = self.site.agreement, int(time.time() * 1000)
        signs_ms = agreement.period_end_ms(agreement.period_of(now_ms)) + grace_ms(agreement)
        return max(0.0, (signs_ms - now_ms) / 1000 + self.rng.uniform(-0.05, 0.45))

    async def _strike(self, victims: Sequence[str]) -> None:
        """Kill, look, start again (and perhaps kill again while it starts), judge, wait for recovery."""
        how = ""
        while True:
            marks = await self._kill(victims)
            at_once = self.rng.random() < 0.5
            if not at_once:
                await asyncio.sleep(self.rng.uniform(0.1, 3.0))
            for victim in self.rng.sample(list(victims), len(victims)):
                self.running.start_role(victim)
            how += "started again at once" if at_once else "started again after a pause"
            await asyncio.to_thread(self._judge, *marks)
            if self.rng.random() >= 0.2 or self.figures.total >= self._kills:
                break
            await asyncio.sleep(self.rng.uniform(0, 1.2))
            self.figures.while_starting += 1
            how += ", killed while starting, "
        begun = time.monotonic()
        await self._recovered(victims)
        took = time.monotonic() - begun
        self.figures.slowest_recovery_s = max(self.figures.slowest_recovery_s, took)
        await asyncio.to_thread(self._prove_again)
        self._say(self._line(victims, how, took))

    async def _kill(self, victims: Sequence[str]) -> tuple[int, set[bytes], dict[str, Path]]:
        """Kill, and copy what is left. Returns how much was acknowledged and what was seen before, and the copies."""
        self.load.check()
        self.running.check_alive()
        for victim in victims:
            self.running.kill(victim)
        self.load.calm.set()
        for victim in victims:
            self.figures.kills[victim.partition("-")[0]] += 1
        acknowledged, notes = len(self.load.acknowledged), self.observer.take_new()
        copied = ["log", *self._daemons, *(name for name in victims if name.startswith("verifier-"))]
        return acknowledged, notes, self.snapshots.take(copied)

    def _judge(self, acknowledged: int, notes: set[bytes], snapshots: dict[str, Path]) -> None:
        self.invariants.check(snapshots, self.load.acknowledged[:acknowledged], notes)

    def _prove_again(self) -> None:
        """Invariant 1, from the published tiles: what was acknowledged before is still there."""
        witnessed = [item for item in list(self.load.acknowledged) if item.proof]
        chosen = self.rng.sample(witnessed, min(PROVED_AGAIN, len(witnessed)))
        self.invariants.check_published([*chosen, *witnessed[-PROVED_AGAIN:]])

    async def _recovered(self, victims: Sequence[str]) -> None:
        """Wait until every victim does its work again. AssertionError says which does not."""
        await asyncio.to_thread(self.running.wait_ready, *victims)
        size, witnessed = len(self.invariants.entries), self.load.witnessed
        for victim in victims:
            role, _, who = victim.partition("-")
            if role == "log":
                await self.wait(lambda: self.load.witnessed > witnessed, "the log acknowledges nothing any more")
            elif role == "verifier":
                await self.wait(partial(self._cosigns, who, size), f"{victim} does not cosign any more")
            else:
                await self.wait(partial(self._delivers, who), f"{victim} does not deliver any more")

    async def wait(self, condition: Callable[[], bool], complaint: str) -> None:
        """Wait for a condition while all that should live does. AssertionError, with the complaint, in the end."""
        deadline = time.monotonic() + RECOVERY_S
        while not await asyncio.to_thread(condition):
            self.load.check()
            self.running.check_alive()
            assert time.monotonic() < deadline, f"{complaint}, {RECOVERY_S:.0f} s after its start"
            await asyncio.sleep(0.05)

    def _cosigns(self, party: str, size: int) -> bool:
        """Whether a published checkpoint over the present tree has this party's cosignature."""
        source = open_source(self.site.url)
        try:
            note = source.read("checkpoint")
        except TemporaryFailure:
            return False
        finally:
            source.close()
        if note is None:
            return False
        checked = check_checkpoint(note, self._policy)
        return checked.checkpoint.size >= size and party in checked.cosigners

    def _status(self, lab: str) -> LabStatus | None:
        return read_status(self.site.home(f"lab-{lab}") / "lab.toml")

    def _delivers(self, lab: str) -> bool:
        """Whether this daemon, not the one before, knows of nothing that is wrong and has nothing left to deliver."""
        status = self._status(lab)
        if status is None or status.pid != self.running.pid(f"lab-{lab}"):
            return False
        return not status.problems and status.outbox == 0 and status.log_size > 0

    def _line(self, victims: Sequence[str], how: str, took: float) -> str:
        acknowledged, witnessed = len(self.load.acknowledged), self.load.witnessed
        return (
            f"{time.monotonic() - self._began:6.1f} s  kill {self.figures.total:3}/{self._kills}"
            f"  {' and '.join(victims):34} {how}, well again {took:.1f} s later;"
            f" {len(self.invariants.entries)} entries, {acknowledged} acknowledged, {witnessed} with receipt: all hold"
        )

    async def finish(self, jobs: Sequence[str]) -> None:
        """Let everything that was metered be attested, end every process, and judge for the last time."""
        await self.load.stop()
        for job in jobs:
            status = await asyncio.to_thread(self.running.finish, job)
            assert status == 0, f"{job} ended with status {status}:\n{self.running.tail(job, 30)}"
        last = self.site.agreement.period_of(int(time.time() * 1000))
        for lab in DAEMONS:
            await self.wait(partial(self._settled, lab, last), f"{lab} does not finish its accounts")
        for name in reversed(names_of(self.site, DAEMONS)):
            assert await asyncio.to_thread(self.running.finish, name) == 0, self.running.tail(name)
        snapshots = self.snapshots.take(names_of(self.site, DAEMONS))
        await asyncio.to_thread(self._judge, len(self.load.acknowledged), self.observer.take_new(), snapshots)
        self._check_metered(snapshots)
        await asyncio.to_thread(self._audit)
        self._sum_up()

    def _settled(self, lab: str, last: int) -> bool:
        status = self._status(lab)
        if status is None or not self._delivers(lab) or any(spool_files(self.site.state(f"lab-{lab}") / "spool")):
            return False
        owes = status.gaps_owed or status.corrections_owed
        return not owes and status.next_period is not None and status.next_period > last

    def _check_metered(self, snapshots: dict[str, Path]) -> None:
        """Nothing metered is lost or counted twice, run by run and period by period."""
        attested = attested_usage(self.invariants.entries)
        runs = gflop = 0
        for lab in DAEMONS:
            counted = read_metered(sorted(self.site.root.glob(f"metered-{lab}-*.jsonl")))
            assert counted, f"nothing was metered in {lab}"
            told = {(run, period): used for (of, run, period), used in attested.items() if of == lab}
            check_metered(lab, counted, journalled_usage(snapshots[f"lab-{lab}"]), told)
            runs, gflop = runs + len(counted), gflop + sum(flop // 10**9 for flop, _ in counted.values())
        self.figures.facts |= {"runs metered": runs, "gigaFLOP metered, all of it attested": gflop}

    def _audit(self) -> None:
        """An auditor of the public files finds no fault, no void entry, and no finding against anybody."""
        source = open_source(str(self.site.public))
        try:
            result = audit(source, self.site.agreement.fingerprint, jobs=0)
        finally:
            source.close()
        assert not result.faults, f"the audit finds {result.faults}"
        assert result.state is not None
        assert result.state.void_count == 0, f"void entries: {result.state.voids}"
        assert not result.findings, f"findings: {result.findings}"
        late = [item for item in result.state.violations if item.subject.partition("/")[0] in DAEMONS]
        self.figures.facts["accounts that came late, or violations"] = len(late)

    def _sum_up(self) -> None:
        load, invariants = self.load, self.invariants
        self.figures.facts |= {
            "entries": len(invariants.entries),
            "acknowledgements": len(load.acknowledged),
            "of these with a quorum's receipt": load.witnessed,
            "different entries acknowledged": len(load.places),
            "submitted again and given the same place": load.repeated,
            "submissions interrupted": load.interrupted,
            "checkpoint signatures compared": invariants.checkpoints,
            "signed slots compared": invariants.slots,
            "answers observed": self.observer.answers,
        }


def _start_jobs(running: Processes, seed: int) -> list[str]:
    site, program = running.site, str(Path(__file__).with_name("metering_job.py"))
    jobs = []
    for lab in DAEMONS:
        state = site.state(f"lab-{lab}")
        environment = {"PACEKEEPER_SOCKET": str(state / "gate.sock"), "PACEKEEPER_SPOOL": str(state / "spool")}
        for kind in ("long", "short"):
            job = f"job-{lab}-{kind}"
            ledger = site.root / f"metered-{lab}-{kind}.jsonl"
            running.start_python(job, [program, kind, kind, str(ledger), str(seed)], environment)
            jobs.append(job)
    return jobs


async def run_campaign(directory: Path, *, seed: int, kills: int, say: Say) -> Figures:
    """Run a campaign in an empty directory and return its figures. AssertionError says what did not hold."""
    site: Site = await asyncio.to_thread(found_site, directory, LABS, BRISK_TERMS)
    names = names_of(site, DAEMONS)
    with Processes(site) as running:
        running.start_role(*names)
        await asyncio.to_thread(running.wait_ready, *names)
        jobs = _start_jobs(running, seed)
        load = Load(site, LOADER, seed)
        with Observer(site) as observer:
            campaign = Campaign(running, load, observer, seed, kills, say)
            load.start(submitters=2)
            try:
                await campaign.wait(lambda: load.witnessed > 0, "nothing is ever acknowledged")
                await campaign.run()
                await campaign.finish(jobs)
            finally:
                load.cancel()
    return campaign.figures
