"""A script of signed entries: sixteen labs attest hour by hour, with runs that come and go.

Entry 0 founds the log. In each period every lab in turn gives its account of the period before: some runs, each with
two estimates, and the chip-time by category. Every hundred periods a lab's runs end and it declares new ones. Nothing
is late, missing or over a cap, so that an audit of the script must find it compliant.

Example: [item.envelope for item in script(found(), 1000)]
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from google.protobuf.message import Message

from benchmarks.support.founding import LABS, PERIOD_MS, Founding
from pacekeeper.protocol.envelope import encode, frame_entry, identity, pae, parse_envelope
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import statements_pb2 as pb

FIGURES: Final = 2  # runs in one account, unless said otherwise
RUN_PERIODS: Final = 100  # how long a run lasts
_CHIPS: Final = 8_192
_CAPACITY_MS: Final = _CHIPS * PERIOD_MS
_AMOUNT: Final = 3_000_000_000_000  # gigaFLOP of one run in a period: 3e21 FLOP, some 10^25 in a year


class Item(NamedTuple):
    """An entry to be: log time, the envelope's exact bytes and identity, who signed it, and the sequence it takes.

    lab is empty for entry 0, sequence is 0 where the statement takes none.
    """

    time_ms: int
    envelope: bytes
    id: bytes
    lab: str
    sequence: int

    @property
    def entry(self) -> bytes:
        """The entry's bytes, as the log would frame them."""
        return frame_entry(self.time_ms, self.envelope)


def script(founding: Founding, count: int, figures: int = FIGURES) -> Iterator[Item]:
    """Yield the first so many entries, entry 0 included."""
    return islice(_all(founding, figures), count)


def _all(founding: Founding, figures: int) -> Iterator[Item]:
    epoch_ms = founding.agreement.calendar.epoch_ms
    yield _founding_item(founding, epoch_ms)
    chain = [_Lab(founding, number, figures) for number in range(len(LABS))]
    period = 0
    while True:
        for number, lab in enumerate(chain):
            time_ms = epoch_ms + (period + 1) * PERIOD_MS + number * PERIOD_MS // len(LABS)
            if period % RUN_PERIODS == 0:
                for run in lab.runs(period):
                    yield lab.declare(run, time_ms)
            yield lab.attest(period, time_ms)
        period += 1


def _founding_item(founding: Founding, time_ms: int) -> Item:
    envelope = parse_envelope(founding.entry0)
    return Item(time_ms, founding.entry0, identity(pae(envelope.payload_type, envelope.payload)), "", 0)


class _Lab:
    """One lab's chain as it grows."""

    def __init__(self, founding: Founding, number: int, figures: int) -> None:
        self.id = LABS[number]
        self._number = number
        self._figures = figures
        self._fingerprint = founding.agreement.fingerprint
        self._key = founding.key(f"lab/{self.id}")
        self._sequence = 0
        self._head = b""

    def runs(self, period: int) -> list[str]:
        """The ids of the runs of a period, in order."""
        return [f"run-{period // RUN_PERIODS:05d}-{place:02d}" for place in range(self._figures)]

    def declare(self, run: str, time_ms: int) -> Item:
        statement = pb.RunDeclaration(
            agreement=self._fingerprint,
            lab=self.id,
            run=run,
            initial_state=pb.INITIAL_STATE_FRESH,
            initial_digest=identity(f"{self.id}/{run}".encode()),
        )
        return self._seal(statement, time_ms, 0)

    def attest(self, period: int, time_ms: int) -> Item:
        self._sequence += 1
        statement = pb.ComputeAttestation(
            agreement=self._fingerprint,
            lab=self.id,
            link=pb.Link(sequence=self._sequence, previous=self._head, as_of=1),
            account=self._account(period),
        )
        item = self._seal(statement, time_ms, self._sequence)
        self._head = item.id
        return item

    def _account(self, period: int) -> pb.PeriodAccount:
        # Figures vary from one account to the next, as real ones do, and always in the same way.
        wobble = (period * 7_919 + self._number * 104_729) % 1_000_003
        chip_ms = _CAPACITY_MS // (2 * self._figures) - wobble
        training_ms = chip_ms * self._figures
        evaluation_ms = 40_000_000 + wobble
        return pb.PeriodAccount(
            period=period,
            figures=[
                pb.RunFigure(
                    run=run,
                    steps=1_000 + wobble % 97,
                    chip_ms=chip_ms,
                    estimates=[
                        pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=_AMOUNT + wobble, margin_ppm=10_000),
                        pb.Estimate(method=pb.METHOD_CHIP_TIME, amount=_AMOUNT - wobble, margin_ppm=400_000),
                    ],
                )
                for run in self.runs(period)
            ],
            time=[
                pb.CategoryTime(category=pb.CATEGORY_TRAINING, chip_ms=training_ms),
                pb.CategoryTime(category=pb.CATEGORY_EVALUATION, chip_ms=evaluation_ms),
                pb.CategoryTime(category=pb.CATEGORY_IDLE, chip_ms=_CAPACITY_MS - training_ms - evaluation_ms),
            ],
            pools=[pb.AcceleratorPool(model="accelerator-a", count=_CHIPS, peak_gflop_per_s=989_000)],
        )

    def _seal(self, statement: Message, time_ms: int, sequence: int) -> Item:
        envelope = seal(statement, [self._key])
        statement_id = identity(pae(envelope.payload_type, envelope.payload))
        return Item(time_ms, encode(envelope), statement_id, self.id, sequence)
