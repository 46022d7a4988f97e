"""A published log on which the verifiers change three times, with its transition checkpoints.

Example: log = ChangingLog(tmp_path / "log"); log.put_transition(2, cosigners=("norland",)); audit(...)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from membership_world import MembershipWorld, newcomer
from published_log import PublishedLog

from pacekeeper.protocol.documents.model import Agreement

FOUNDERS = ("norland", "sudland", "westmere", "eastholm")
ACTS = ("stricter", "welcome", "farewell")


def changing_world() -> tuple[MembershipWorld, list[tuple[int, Agreement]]]:
    """A quorum of 4 of 4, then highmark accedes (4 of 5), then westmere exits (3 of 4); the size after each, and the
    agreement then in force. Each is performed by the last entry of that size."""
    world = MembershipWorld()
    passed = [(1, world.state.agreement)]
    at = world.start(0) + 1_000
    for act in ACTS:
        document = {
            "stricter": lambda: world.amendment("stricter", quorum={"quorum": 4, "liars": 0}),
            "welcome": lambda: world.accession("welcome", parties=[newcomer("highmark")], quorum=(4, 1)),
            "farewell": lambda: world.exit("westmere", "farewell", (3, 1)),
        }[act]()
        at = world.perform(document, at) + 1_000
        passed.append((world.state.size, world.state.agreement))
    world.to(at + 1_000)
    return world, passed


class ChangingLog(PublishedLog):
    """See the module. sizes[k]: the size of transition k's tree, sizes[0] is 1. agreements[k]: in force in it."""

    def __init__(self, directory: Path) -> None:
        world, passed = changing_world()
        self.sizes = [size for size, _ in passed]
        self.agreements = [agreement for _, agreement in passed]
        super().__init__(world, directory, cosigners=self.quorum(3))
        for number in range(1, len(passed)):
            self.put_transition(number)

    def quorum(self, number: int) -> tuple[str, ...]:
        """The fewest parties, first ones first, that are a quorum after a transition."""
        agreement = self.agreements[number]
        return tuple(party.id for party in agreement.parties)[: agreement.quorum.quorum]

    def both(self, number: int) -> tuple[str, ...]:
        """The fewest parties that are a quorum before a transition and after it."""
        return tuple(dict.fromkeys([*self.quorum(number - 1), *self.quorum(number)]))

    def transition(
        self, number: int, *, cosigners: Sequence[str] | None = None, size: int | None = None, root: bytes | None = None
    ) -> bytes:
        """A transition checkpoint, by default as it must be."""
        size = self.sizes[number] if size is None else size
        signers = self.both(number) if cosigners is None else cosigners
        return self.note(size, self.root(size) if root is None else root, cosigners=signers)

    def put_transition(self, number: int, **more: object) -> None:
        self.put(f"transition/{number}", self.transition(number, **more))  # type: ignore[arg-type]

    def remove(self, path: str) -> None:
        (self.directory / path).unlink()
