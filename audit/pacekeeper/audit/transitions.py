"""Transitions in an audit: the checkpoints over each change of the verifiers, judged as the replay passes them.

The founding agreement says whose cosignatures count at first. Where the replay shows that the verifiers or their quorum
changed, a transition checkpoint must show that the quorum before and the quorum after it both stood behind the change;
then the next ones count. Each fault names its file, and the replay goes on: what follows is judged by the agreement
that is in force there, so that one damaged file does not make every other one look damaged.

What comes after the audited checkpoint is not looked at: the log has grown meanwhile.
"""

from __future__ import annotations

from functools import partial

from pacekeeper.audit.head import fault_of, judge_head, read_checkpoint
from pacekeeper.audit.reading import read_resource
from pacekeeper.audit.result import Change, Fault
from pacekeeper.client.fetch import Source
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.merkle import check_consistency, prove_consistency, subtree_root
from pacekeeper.protocol.tlog.note import Note, parse_note
from pacekeeper.protocol.tlog.policy import CosignaturePolicy, check_note
from pacekeeper.protocol.tlog.tiles import subtree_reader
from pacekeeper.protocol.tlog.transitions import FIRST_RULES, transition_path


class Transitions:
    """Follows the changes of the verifiers up to the head. faults: what did not hold; changes: what the replay shows.

    stop: the tree size at which `reached` wants to be called next.
    """

    def __init__(self, source: Source, founding: Agreement, head_note: bytes) -> None:
        self.faults: list[Fault] = []
        self.changes: list[Change] = []
        self._source = source
        self._head_note = head_note
        self._head = head = read_checkpoint(head_note)
        self._number = 0
        self._note: Note | None = None
        self._policy: CosignaturePolicy | None = founding.policy()  # None: unknown, since a file is damaged
        self._agreement = founding
        self._passed: list[tuple[int, Checkpoint]] = []
        self.stop = head.size + 1
        self.vouched = 0  # entries that the present quorum has cosigned, by the next transition checkpoint or the head
        self._read_next(0)

    @property
    def count(self) -> int:
        """How many transition checkpoints the replay has passed."""
        return len(self._passed)

    def _read_next(self, size: int) -> None:
        """Read the next transition checkpoint over more than size entries; a file that is no such thing is a fault."""
        self.stop, self._note = self._head.size + 1, None
        most = limits.MAX_TRANSITIONS if self._agreement.rules_version >= FIRST_RULES else 0
        while self._number < most:
            path = transition_path(self._number + 1)
            try:
                data = self._source.read(path)
                if data is None:
                    break
                note = parse_note(data)
                checkpoint = parse_checkpoint(note.text)
                if checkpoint.size <= size:
                    sentence = f"it covers {checkpoint.size} entries, no more than the checkpoint before it"
                    raise Refused(Code.BAD_TRANSITION, sentence)
            except Refused as refusal:
                self.faults.append(fault_of(path, refusal))
                self._policy, self._number = None, self._number + 1
                continue
            if checkpoint.size > self._head.size:
                break
            self.stop, self._note, self._number = checkpoint.size, note, self._number + 1
            if self._is_vouched(note):
                self.vouched = checkpoint.size
            return
        if not judge_head(self._head_note, self._agreement)[1]:
            self.vouched = self._head.size

    def _is_vouched(self, note: Note) -> bool:
        try:
            check_note(note, self._agreement.policy())
        except Refused:
            return False  # the fault is noted when the replay has come there
        return True

    def applied(self, state: State) -> None:
        """Note what the entry applied last has changed, and judge the transition checkpoint of this size, if there is.

        SPEC audit-18: where the verifiers or their quorum changed, a transition checkpoint with the quorum before and
        the quorum after MUST show it; each one that is missing, damaged, out of order or over no change is a fault.
        """
        if state.agreement is not self._agreement:
            before, self._agreement = self._agreement, state.agreement
            if before.policy() != state.agreement.policy():
                self.changes.append(Change(state.size - 1, before, state.agreement))
        if state.size == self.stop:
            self._judge(state.agreement.policy())
            self._read_next(state.size)

    def _judge(self, own: CosignaturePolicy) -> None:
        assert self._note is not None
        path = transition_path(self._number)
        try:
            if self._policy is not None:
                check_note(self._note, self._policy)
            if own == self._policy:
                sentence = "the verifiers and their quorum are the same before it and in it"
                raise Refused(Code.BAD_TRANSITION, sentence)
            check_note(self._note, own)
        except Refused as refusal:
            self.faults.append(fault_of(path, refusal))
        self._policy = own
        self._passed.append((self._number, parse_checkpoint(self._note.text)))

    def finish(self) -> None:
        """All entries are replayed: whether the head's verifiers were reached by transitions, each of the same tree."""
        if self._policy not in (None, self._agreement.policy()):
            since = self.changes[-1].index
            sentence = f"it is missing: the verifiers or their quorum changed with entry {since}"
            self.faults.append(Fault(transition_path(self._number + 1), Code.BAD_TRANSITION, sentence))

    def check_roots(self) -> None:
        """Compare the roots with those of the audited tree, whose tiles were verified and are verified again."""
        read_subtree = subtree_reader(self._head.size, partial(read_resource, self._source))
        for number, checkpoint in self._passed:
            size, path = checkpoint.size, transition_path(number)
            try:
                root = subtree_root(0, size, read_subtree) if size < self._head.size else self._head.root
                proof = prove_consistency(size, self._head.size, read_subtree)
                check_consistency(size, root, self._head.size, self._head.root, proof)
            except Refused as refusal:
                self.faults.append(fault_of(path, refusal))
                continue
            if root != checkpoint.root:
                sentence = f"its root is not that of the log's first {size} entries"
                self.faults.append(Fault(path, Code.WRONG_ROOT, sentence))
