"""A scripted log for tests of the replay: statements of any role, sequenced at any time, without a server.

Example:
    world = World(period="10 s")
    world.declare("borealis", "run-1", at=world.start(0))
    world.attest("borealis", 0, {"run-1": 500}, at=world.end(0) + 1)
    assert world.state.violations == []
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from agreements import Keys, build_document
from google.protobuf.message import Message

from pacekeeper.protocol import keys as key_rules
from pacekeeper.protocol.envelope import encode, encode_entry, identity, pae, read_envelope
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay import Applied, State, Void, admit, apply, genesis
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

POOL_CHIPS = 8


def digest(label: str) -> bytes:
    """A 32-byte digest that stands for a model's state."""
    return hashlib.sha256(label.encode()).digest()


def statement_id(envelope: envelope_pb2.Envelope) -> bytes:
    """The identity of an envelope's statement."""
    return identity(pae(envelope.payload_type, envelope.payload))


class World:
    """An agreement, its keys, the entries so far and the state that they replay to."""

    def __init__(self, **document: Any) -> None:
        document.setdefault("period", "10 s")
        self.document, self.keys = build_document(**document)
        founding = seal(pb.Agreement(document=self.document), self.keys.parties())
        self.entries: list[bytes] = []
        self.verify = key_rules.verify
        first = encode_entry(self._founded_ms(self.document), founding)
        self.state: State = genesis(first)
        self.entries.append(first)
        self.agreement = self.state.agreement
        self.chain: dict[str, tuple[int, bytes]] = {lab.id: (0, b"") for lab in self.agreement.labs}

    @staticmethod
    def _founded_ms(document: bytes) -> int:
        from pacekeeper.protocol.documents.agreement import compile_agreement

        return compile_agreement(document).calendar.epoch_ms

    def start(self, period: int) -> int:
        """The first millisecond of a period."""
        return self.agreement.calendar.epoch_ms + period * self.agreement.calendar.period_ms

    def end(self, period: int) -> int:
        """The first millisecond after a period."""
        return self.start(period + 1)

    def due(self, period: int) -> int:
        return self.agreement.due_ms(period)

    def put(self, envelope: envelope_pb2.Envelope, at: int) -> Applied | Void:
        """Sequence an envelope at a log time and apply it, whatever it is."""
        return self.put_entry(encode_entry(at, envelope))

    def put_entry(self, entry: bytes) -> Applied | Void:
        self.entries.append(entry)
        return apply(self.state, entry, verify=self.verify)

    def seal(self, statement: Message, key: SigningKey) -> envelope_pb2.Envelope:
        return seal(statement, [key])

    def admit(self, envelope: envelope_pb2.Envelope, at: int) -> Applied | Refused:
        """Sequence an envelope as a log does: ticks first where they are called for, and only what is admitted."""
        while self.needs_tick(at):
            self.entries.append(encode_entry(at, tick := self.sealed_tick()))
            admit(self.state, read_envelope(tick), at)
        try:
            applied = admit(self.state, read_envelope(envelope), at)
        except Refused as refusal:
            return refusal
        self.entries.append(encode_entry(at, envelope))
        return applied

    def needs_tick(self, at: int) -> bool:
        due = self.state.next_deadline_ms()
        return (due is not None and due <= at) or at - self.state.last_time_ms > self.agreement.timing.tick_ms

    def sealed_tick(self, index: int | None = None) -> envelope_pb2.Envelope:
        number = self.state.size if index is None else index
        return self.seal(pb.Tick(agreement=self.agreement.fingerprint, index=number), self.keys.log_statement)

    def tick(self, at: int) -> Applied | Void:
        return self.put(self.sealed_tick(), at)

    def ticks(self, start: int, stop: int) -> None:
        """Tick as often as the agreement asks, from after start up to and including stop."""
        step = self.agreement.timing.tick_ms
        for at in [*range(start + step, stop, step), stop]:
            self.tick(at)

    def to(self, at: int) -> None:
        """Tick from the last entry's time to a moment, without silence."""
        if at > self.state.last_time_ms:
            self.ticks(self.state.last_time_ms, at)

    def declaration(self, lab: str, run: str, initial: str = "", parents: Iterable[int] = (), title: str = "") -> Any:
        parents = list(parents)
        state = pb.INITIAL_STATE_CHECKPOINT if parents else pb.INITIAL_STATE_FRESH
        return pb.RunDeclaration(
            agreement=self.agreement.fingerprint,
            lab=lab,
            run=run,
            title=title,
            initial_state=state,
            initial_digest=digest(initial or f"{lab}/{run}/fresh"),
            parents=parents,
        )

    def declare(self, lab: str, run: str, at: int, **more: Any) -> Applied | Void:
        return self.put(self.seal(self.declaration(lab, run, **more), self.keys.lab(lab)), at)

    def link(self, lab: str, as_of: int | None = None) -> pb.Link:
        sequence, head = self.chain[lab]
        return pb.Link(
            sequence=sequence + 1, previous=head, as_of=self.state.labs[lab].as_of if as_of is None else as_of
        )

    def account(
        self, period: int, figures: Mapping[str, int], margin_ppm: int = 0, chip_ms: int = 10
    ) -> pb.PeriodAccount:
        capacity = POOL_CHIPS * self.agreement.calendar.period_ms
        training = chip_ms * len(figures)
        times = [(pb.CATEGORY_TRAINING, training), (pb.CATEGORY_IDLE, capacity - training)]
        return pb.PeriodAccount(
            period=period,
            figures=[
                pb.RunFigure(
                    run=run,
                    steps=1,
                    chip_ms=chip_ms,
                    estimates=[pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=amount, margin_ppm=margin_ppm)],
                )
                for run, amount in sorted(figures.items())
            ],
            time=[pb.CategoryTime(category=category, chip_ms=ms) for category, ms in times if ms],
            pools=[pb.AcceleratorPool(model="test-chip", count=POOL_CHIPS, peak_gflop_per_s=100)],
        )

    def put_chain(self, lab: str, statement: Message, at: int) -> Applied | Void:
        """Sign a chain statement as the lab, sequence it, and move the lab's chain on if it was applied."""
        envelope = self.seal(statement, self.keys.lab(lab))
        outcome = self.put(envelope, at)
        if isinstance(outcome, Applied):
            self.chain[lab] = (self.chain[lab][0] + 1, statement_id(envelope))
        return outcome

    def attest(
        self, lab: str, period: int, figures: Mapping[str, int], at: int | None = None, margin_ppm: int = 0
    ) -> Applied | Void:
        statement = pb.ComputeAttestation(
            agreement=self.agreement.fingerprint,
            lab=lab,
            link=self.link(lab),
            account=self.account(period, figures, margin_ppm),
        )
        return self.put_chain(lab, statement, self.end(period) if at is None else at)

    def gap(self, lab: str, first: int, last: int, at: int) -> Applied | Void:
        statement = pb.Gap(
            agreement=self.agreement.fingerprint,
            lab=lab,
            link=self.link(lab),
            first_period=first,
            last_period=last,
            reason=pb.GAP_REASON_LATE,
        )
        return self.put_chain(lab, statement, at)

    def correct(self, lab: str, period: int, figures: Mapping[str, int], corrects: bytes, at: int) -> Applied | Void:
        statement = pb.Correction(
            agreement=self.agreement.fingerprint,
            lab=lab,
            link=self.link(lab),
            account=self.account(period, figures),
            corrects=corrects,
        )
        return self.put_chain(lab, statement, at)

    def record(self, lab: str, run: str, label: str, period: int, steps: int, amount: int, at: int) -> Applied | Void:
        statement = pb.CheckpointRecord(
            agreement=self.agreement.fingerprint,
            lab=lab,
            run=run,
            digest=digest(label),
            period=period,
            steps=steps,
            estimates=[pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=amount)],
        )
        return self.put(self.seal(statement, self.keys.lab(lab)), at)

    def replayed(self) -> State:
        """A second state, replayed from the entries alone."""
        state = genesis(self.entries[0])
        for entry in self.entries[1:]:
            apply(state, entry)
        return state


__all__ = ["POOL_CHIPS", "Keys", "World", "digest", "encode", "statement_id"]
