"""The stored checkpoints, checked against the entries as a replay passes their sizes.

The transition checkpoints and the published one form a chain from the founding agreement (tlog.transitions): each is
held by the verifiers before it. So the replay must come by each of their sizes, with the root that the entries have.
"""

from __future__ import annotations

from dataclasses import dataclass

from pacekeeper.log.store.port import Store
from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.transitions import PolicyChain, transition_path

PUBLISHED = "the published checkpoint"


@dataclass(frozen=True)
class Kept:
    """A stored checkpoint and the size that it claims. number: the transition's, 0 for the published one."""

    number: int
    size: int
    note: bytes

    @property
    def name(self) -> str:
        return transition_path(self.number) if self.number else PUBLISHED


class StoredChain:
    """What the store has published. founding: the agreement of entry 0.

    agreement, before: those in force in the published tree, and in the one before it if they differ in the verifiers.
    """

    def __init__(self, store: Store, founding: Agreement) -> None:
        """Raises Refused(unsafe-state) for a stored note that is no checkpoint."""
        notes = list(enumerate(store.transitions(), start=1))
        published = store.published()
        if published is not None:
            notes.append((0, published))
        self.kept = [_read(number, note) for number, note in notes]
        self.agreement = self.before = founding
        self.transitions: list[tuple[int, bytes]] = []
        self._crossed = [founding]
        self._policies = PolicyChain(founding.policy())
        self._waiting = list(self.kept)

    @property
    def published_size(self) -> int:
        """The size that the published checkpoint claims, 0 if there is none."""
        return self.kept[-1].size if self.kept and not self.kept[-1].number else 0

    def stops(self, first: int, end: int) -> list[int]:
        """Return the sizes above first and up to end at which `reach` is to be called."""
        return sorted({kept.size for kept in self._waiting if first < kept.size <= end})

    def reach(self, size: int, root: bytes, agreement: Agreement) -> None:
        """Check the checkpoints of this size against the tree's root and the agreement in force in it.

        SPEC transition-13: a log MUST NOT start unless its stored checkpoints are a chain from the founding agreement.
        Refused(unsafe-state) names the first that does not hold.
        """
        while self._waiting and self._waiting[0].size <= size:
            kept = self._waiting.pop(0)
            try:
                self._take(kept, size, root, agreement)
            except Refused as refused:
                raise Refused(Code.UNSAFE_STATE, f"{kept.name}: {refused.message}") from refused

    def _take(self, kept: Kept, size: int, root: bytes, agreement: Agreement) -> None:
        if kept.size != size:
            raise Refused(Code.BAD_TRANSITION, f"it covers {kept.size} entries, fewer than the one before it")
        if kept.number:
            self._policies.cross(kept.note, root, agreement.policy())
            self.transitions.append((size, kept.note))
            self._crossed.append(agreement)
            return
        checked = self._policies.check(kept.note)
        if checked.checkpoint.root != root:
            raise Refused(Code.WRONG_ROOT, f"entries 0 to {size - 1} are not what was published")
        if self._policies.policy != agreement.policy():
            raise Refused(Code.BAD_TRANSITION, "the verifiers changed before it, and no transition is stored")
        self.agreement = agreement
        self.before = self._crossed[-2] if self.transitions and self.transitions[-1][0] == size else agreement


def _read(number: int, note: bytes) -> Kept:
    try:
        return Kept(number, parse_checkpoint(parse_note(note).text).size, note)
    except Refused as refused:
        name = transition_path(number) if number else PUBLISHED
        raise Refused(Code.UNSAFE_STATE, f"{name} is damaged: {refused.message}") from refused
