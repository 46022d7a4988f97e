"""A verifier over changes of the verifiers: whom it takes for one, and what it follows before its accession."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from agreements import verifier_name
from changing_log import ChangingLog

from pacekeeper.client.fetch import DirectorySource
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.verifier import joining
from pacekeeper.verifier.joining import Joining
from pacekeeper.verifier.ledger import Ledger, cosigner
from pacekeeper.verifier.marker import KeyMarker
from pacekeeper.verifier.store import Store


class Newcomer:
    """Highmark's verifier, before its accession."""

    def __init__(self, log: ChangingLog, directory: Path, party: str = "highmark") -> None:
        self.log, self.party = log, party
        agreement = log.world.agreement
        self.marker = KeyMarker(directory / f"{party}.key")
        self.store = Store(directory / party, origin=agreement.origin, fingerprint=agreement.fingerprint)
        sign = cosigner(verifier_name(party), log.world.keys.verifier_cosign(party))
        self.ledger = Ledger(self.store, self.marker, agreement, sign, lambda _outcome: None)
        for _ in self.ledger.replay_stored():
            pass
        self.source = DirectorySource(log.directory)
        self.joining = Joining(self.source, party, self.ledger, self.now_ms)

    def now_ms(self) -> int:
        return self.log.world.state.last_time_ms

    async def look(self, seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            await self.joining.run()

    def close(self) -> None:
        self.store.close()
        self.marker.close()
        self.source.close()


@pytest.fixture
def log(tmp_path: Path) -> ChangingLog:
    return ChangingLog(tmp_path / "log")


@pytest.fixture
def newcomer(log: ChangingLog, tmp_path: Path) -> Iterator[Newcomer]:
    made = Newcomer(log, tmp_path)
    yield made
    made.close()


async def test_the_public_log_is_followed_until_the_accession_and_nothing_is_cosigned(
    log: ChangingLog, newcomer: Newcomer
) -> None:
    """SPEC verifier-33: every entry is stored and replayed, over the changes before it too."""
    assert not newcomer.ledger.is_party("highmark")
    await newcomer.look()
    assert newcomer.ledger.is_party("highmark")
    assert newcomer.ledger.size == len(log.world.entries) == newcomer.store.size
    assert newcomer.ledger.witness.size == 0
    assert newcomer.ledger.tree().root == log.root()


async def test_what_was_followed_is_there_after_a_restart_and_is_not_taken_again(
    log: ChangingLog, tmp_path: Path
) -> None:
    end = log.sizes[2] - 1
    shorter = ChangingLog(tmp_path / "shorter")
    shorter.write(entries=log.world.entries[:end], cosigners=log.quorum(1))
    first = Newcomer(shorter, tmp_path)
    with contextlib.suppress(TimeoutError):
        await first.look(0.5)
    assert (first.ledger.size, first.ledger.is_party("highmark")) == (end, False)
    first.close()
    again = Newcomer(log, tmp_path)
    assert again.ledger.size == end
    await again.look()
    assert again.ledger.size == len(log.world.entries)
    assert again.ledger.tree().root == log.root()
    again.close()


async def test_a_public_log_that_does_not_verify_is_not_gone_along_with(
    log: ChangingLog, newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC transition-11: the changes are not believed on the word of those whom they bring in."""
    monkeypatch.setattr(joining, "EVERY_S", 0.05)
    log.put("checkpoint", log.note(len(log.world.entries), log.root(), cosigners=("highmark", "eastholm", "sudland")))
    log.put_transition(2, cosigners=("highmark", "norland"))
    with pytest.raises(TimeoutError):
        await newcomer.look(1)
    assert not newcomer.ledger.is_party("highmark")
    assert newcomer.ledger.size < log.sizes[2]
    log.put_transition(2)
    await newcomer.look()


def test_the_terms_are_those_of_the_agreement_in_force(log: ChangingLog, newcomer: Newcomer) -> None:
    """Policy, tolerance and membership follow the replay, and go back with it."""
    ledger = newcomer.ledger
    ledger.take(log.world.entries)
    assert ledger.terms.policy == log.agreements[3].policy()
    for number, size in enumerate(log.sizes):
        assert ledger.policy_at(size) == log.agreements[number].policy()
        assert size == 1 or ledger.policy_at(size - 1) == log.agreements[number - 1].policy()
    assert not ledger.is_party("westmere")
    assert ledger.agreement.fingerprint == ledger.present.fingerprint
    ledger.drop_uncosigned()
    assert ledger.is_party("westmere")
    assert ledger.terms.policy == log.agreements[0].policy()


def test_a_newcomer_cosigns_what_the_log_asks_it_to(log: ChangingLog, newcomer: Newcomer) -> None:
    """The decision is the same as a founder's: the whole tree stored and replayed, and fresh."""
    newcomer.ledger.take(log.world.entries)
    line = newcomer.ledger.cosign(log.note(len(log.world.entries), log.root(), cosigners=()), newcomer.now_ms())
    assert line.startswith("— highmark.example/verifier ".encode())
    with pytest.raises(Refused) as refused:
        newcomer.ledger.cosign(log.note(log.sizes[3], log.root(log.sizes[3]), cosigners=()), newcomer.now_ms())
    assert refused.value.code is Code.ROLLED_BACK
