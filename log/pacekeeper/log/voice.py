"""The key with which the log ticks and promises: of those at hand, the one that the log itself has in force."""

from __future__ import annotations

from pacekeeper.client.successors import KeyFiles
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey, key_id
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.replay.key_life import present


class StatementKeys:
    """The log's statement keys. Which is in force is for the caller's state to say, which goes on while it is asked."""

    def __init__(self, files: KeyFiles) -> None:
        self._files = files

    def key_for(self, state: State) -> SigningKey:
        """Return the key in force. Refused(key-retired) if no file holds it: the log cannot speak then, and must stop.

        It is unsafe-state where no key was ever rotated or replaced, since the configuration is wrong then.
        SPEC log-30: a log MUST tick with the key in force, and stop when it does not have that key.
        """
        holding = present(state, "log", "log")
        assert holding is not None, "every agreement has a log"
        key = self._files.find(key_id(holding.key))
        if key is not None:
            return key
        if holding.epoch == 1:
            raise Refused(Code.UNSAFE_STATE, "no key file holds the log's statement key that the agreement names")
        why = f" ({self._files.problem})" if self._files.problem else ""
        raise Refused(
            Code.KEY_RETIRED,
            f"the log's statement key in force is its number {holding.epoch}, and no key file holds it{why}; put it "
            "where next_statement_key says, and start the log again",
        )
