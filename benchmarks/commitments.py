"""Commitments in the replay: what one more costs when there are many.

Two hundred labs pledge to pauses, ten labs to each; ten pledges bring each into its delay. What is reported is the CPU
of applying one statement, signatures taken for good, at three sizes: a cost that grew with the number of commitments
would show as a slope. Then every lab attests one period, bound by a twentieth of all commitments.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.support.figures import Figure, Figures, Table, number
from benchmarks.support.founding import PERIOD_MS, Founding, found
from benchmarks.support.probes import Probes
from pacekeeper.protocol.envelope import encode_entry, frame_entry
from pacekeeper.protocol.replay import State, apply, genesis
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import statements_pb2 as pb

LABS: Final = tuple(f"lab-{number:03}" for number in range(200))
PLEDGES: Final = 10


@dataclass(frozen=True)
class Config:
    """sizes: how many commitments there are in the end, ascending."""

    sizes: tuple[int, ...]


TINY: Final = Config(sizes=(5, 10))
QUICK: Final = Config(sizes=(50, 150, 300))
FULL: Final = Config(sizes=(100, 300, 1_000))


def measure(config: Config) -> Figures:
    """Replay the script of the largest size once, and look at the stretch before each size."""
    founding, probes = found(names=LABS), Probes()
    script = _Script(founding)
    state = genesis(script.first())
    costs: dict[int, float] = {}
    done = 0
    for size in config.sizes:
        stretch: list[float] = []
        while done < size:
            entries = list(script.commitment(done))
            stretch.append(_apply(state, entries))
            if done % 25 == 0:
                probes.take()
            done += 1
        costs[size] = median(stretch[len(stretch) // 2 :])
    attested = _attest(state, script)
    assert not state.voids, state.voids[:3]
    small, large = config.sizes[0], config.sizes[-1]
    raw = probes.verify_said()
    return Figures(
        "commitments",
        f"one process, one thread; signatures off; {len(LABS)} labs, {PLEDGES} pledges to each commitment",
        (
            Figure(f"a statement, with {large:,} commitments", costs[large], "us", raw),
            Figure(f"the same over {small:,} commitments", costs[large] / costs[small], "times", raw),
            Figure(f"an attestation of a lab bound by {large * PLEDGES // len(LABS)} of them", attested, "us", raw),
        ),
        (Table("by size", ("commitments", "us a statement"), tuple((str(s), number(us)) for s, us in costs.items())),),
        ("a commitment is one proposal, whose document is compiled, and its pledges; the cost is their mean",),
    )


def _trust(_key: bytes, _message: bytes, _signature: bytes) -> bool:
    return True


def _apply(state: State, entries: list[bytes]) -> float:
    start = time.thread_time_ns()
    for entry in entries:
        apply(state, entry, verify=_trust)
    return (time.thread_time_ns() - start) / len(entries) / 1000


def _attest(state: State, script: _Script) -> float:
    return _apply(state, list(script.attestations()))


class _Script:
    """Entries one after the other."""

    def __init__(self, founding: Founding) -> None:
        self._founding = founding
        self._fingerprint = founding.agreement.fingerprint
        self.epoch_ms = founding.agreement.calendar.epoch_ms
        self._time_ms = self.epoch_ms

    def first(self) -> bytes:
        """Entry 0."""
        return frame_entry(self.epoch_ms, self._founding.entry0)

    def commitment(self, place: int) -> Iterator[bytes]:
        """A proposal and its pledges."""
        self._time_ms = self.epoch_ms + place  # a millisecond each: no deadline comes between
        ident, document = f"pause-{place:05}", self._document(place)
        digest = hashlib.sha256(document).digest()
        labs = [LABS[(place * PLEDGES + turn) % len(LABS)] for turn in range(PLEDGES)]
        yield self._entry(pb.Commitment(agreement=self._fingerprint, proposer=labs[0], document=document), labs[0])
        for lab in labs:
            pledge = pb.Pledge(agreement=self._fingerprint, participant=lab, commitment=ident, digest=digest)
            yield self._entry(pledge, lab)

    def attestations(self) -> Iterator[bytes]:
        """Every lab's account of period 0."""
        self._time_ms = self.epoch_ms + PERIOD_MS
        for lab in LABS:
            statement = pb.ComputeAttestation(
                agreement=self._fingerprint, lab=lab, link=pb.Link(sequence=1, as_of=1), account=pb.PeriodAccount()
            )
            yield self._entry(statement, lab)

    def _entry(self, statement: pb.Commitment | pb.Pledge | pb.ComputeAttestation, lab: str) -> bytes:
        return encode_entry(self._time_ms, seal(statement, [self._founding.key(f"lab/{lab}")]))

    def _document(self, place: int) -> bytes:
        pledges_by = format_time(self.epoch_ms + 30 * 86_400_000)
        return _DOCUMENT.format(place=f"{place:05}", pledges=PLEDGES, pledges_by=pledges_by).encode()


_DOCUMENT: Final = """# A pause

## Article 1. Terms

```toml
[commitment]
id = "pause-{place}"
title = "Pause {place}"
kind = "pause"

[pause]
above = "1e26 FLOP"
wind_down = "1 h"

[entry]
labs = {pledges}
pledges_by = "{pledges_by}"
delay = "10 d"
notice = "1 h"

[term]
length = "365 d"

[lifting]
labs = 2

[withdrawal]
before_entry = "allowed"
cut_off = "1 d"
notice = "30 d"
```
"""
