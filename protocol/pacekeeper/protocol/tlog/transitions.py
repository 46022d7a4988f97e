"""Transitions: how one who follows a log passes from one set of verifiers to the next.

The agreement in force says whose cosignatures a checkpoint needs, and entries change it. Published checkpoints form a
chain, and each link of it is held by the policy before: a checkpoint is accepted when it meets the policy of the last
accepted one's tree and the policy of its own. Where these differ it is a transition checkpoint and bears both quorums.

    chain = PolicyChain(founding.policy())
    checked = chain.check(note)                           # the quorum that is known vouches: replay up to its size
    chain.settle(checked, state.agreement.policy())       # and so does that of its own tree

What the chain shows: with at most f liars among each set of verifiers that was in force, nobody accepts another chain.
Left to the caller: that the checkpoint's root is that of the entries replayed.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.encoding import parse_decimal
from pacekeeper.protocol.tlog.policy import CheckedCheckpoint, CosignaturePolicy, check_checkpoint, check_note

PREFIX: Final = "transition/"
FIRST_RULES: Final = 3  # the first rules version under which an entry can change the verifiers


class PolicyChain:
    """Whose cosignatures count, from the founding policy through every transition that was followed.

    policy: that of the last checkpoint accepted. size: that checkpoint's.
    """

    def __init__(self, founding: CosignaturePolicy) -> None:
        self.policy = founding
        self.size = 0
        self._sizes = [0]
        self._policies = [founding]

    @property
    def transitions(self) -> int:
        """How many transitions were followed."""
        return len(self._sizes) - 1

    def policy_at(self, size: int) -> CosignaturePolicy:
        """Return the policy of the tree of a size; beyond what was followed, the last that is known."""
        return self._policies[bisect_right(self._sizes, size) - 1]

    def check(self, note: bytes) -> CheckedCheckpoint:
        """Return a checkpoint whose entries may be replayed, since the quorum that is known has cosigned it.

        SPEC transition-1: a checkpoint MUST meet the policy of the tree of the last checkpoint that was accepted.
        Raises Refused as check_checkpoint. Smaller checkpoints than the last are the caller's to judge.
        """
        return check_checkpoint(note, self.policy)

    def settle(self, checked: CheckedCheckpoint, own: CosignaturePolicy) -> bool:
        """Accept a checked checkpoint whose tree has this policy; whether it is a transition.

        Refused(bad-transition) if it does not meet that policy as well; the chain then stays where it was.
        SPEC transition-2: a checkpoint MUST meet the policy of its own tree, too.
        """
        size = checked.checkpoint.size
        changed = own != self.policy
        if changed:
            try:
                check_note(checked.note, own)
            except Refused as refused:
                raise Refused(
                    Code.BAD_TRANSITION, f"the verifiers changed, and the new quorum is not there: {refused.message}"
                ) from None
            self._sizes.append(size)
            self._policies.append(own)
        self.policy, self.size = own, max(self.size, size)
        return changed

    def cross(self, note: bytes, root: bytes, own: CosignaturePolicy) -> CheckedCheckpoint:
        """Take the next kept transition checkpoint, over a tree with this root and policy, and return it.

        SPEC transition-3: transition checkpoints MUST be ascending in size, each over another policy than the one
        before it, with the root of the log's own entries.
        """
        checked = self.check(note)
        size = checked.checkpoint.size
        if size <= self.size:
            raise Refused(Code.BAD_TRANSITION, f"it covers {size} entries, no more than the checkpoint before it")
        if own == self.policy:
            raise Refused(Code.BAD_TRANSITION, f"the verifiers of {size} entries are those of the checkpoint before it")
        if checked.checkpoint.root != root:
            raise Refused(Code.WRONG_ROOT, f"its root is not that of the log's first {size} entries")
        self.settle(checked, own)
        return checked


def transition_path(number: int) -> str:
    """Return the path of the transition checkpoint with this number, from 1."""
    return f"{PREFIX}{number}"


def parse_transition_path(path: str) -> int:
    """Return the number in a transition checkpoint's path. Refused(malformed) unless it is the canonical path.

    SPEC transition-4: the path MUST be "transition/" and the number, from 1, in decimal without leading zeros.
    """
    number = parse_decimal(path.removeprefix(PREFIX)) if path.startswith(PREFIX) else None
    if number is None or not 1 <= number <= limits.MAX_TRANSITIONS:
        raise Refused(Code.MALFORMED, "not the path of a transition checkpoint")
    return number
