"""Before its accession a verifier follows the public log, so that it has everything when it is first asked to cosign.

Until the replay shows its party among those of the agreement, the log does not let it in: it reads the static files,
verified past every change of the verifiers, and stores and replays what it reads. Nothing is cosigned here. What the
log pushes later goes on from there; entries that turn out to be of another tree are dropped, like any others that no
cosignature covers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.fetch import Source
from pacekeeper.client.follow import VerifiedBatch
from pacekeeper.client.static import StaticFollower
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import printable
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.verifier.ledger import Ledger

EVERY_S: Final = 2.0  # a look at the public checkpoint
_SLICE: Final = 256  # entries replayed between two looks at the clock and the status

_log = structlog.get_logger()


class Joining:
    """Reads a log's static files into the ledger until the party is one of the agreement's."""

    def __init__(self, source: Source, party: str, ledger: Ledger, clock_ms: Callable[[], int]) -> None:
        self._source, self._party, self._ledger, self._clock_ms = source, party, ledger, clock_ms
        # Its own reading begins at entry 0 after each start; what is stored already is not taken again.
        self._follower = self._anew()

    def _anew(self) -> StaticFollower:
        return StaticFollower(self._source, self._ledger.agreement.policy(), self._policy)

    def _policy(self) -> CosignaturePolicy:
        return self._ledger.policy_at(self._follower.size)

    async def run(self) -> None:
        """Return once the party is in the agreement. Raises Refused(unsafe-state) when the store cannot be written.

        SPEC verifier-33: a verifier MUST NOT cosign before its accession; it follows the public log until then.
        """
        while not self._ledger.is_party(self._party):
            try:
                await self._look()
            except TemporaryFailure as failure:
                _log.info("the public log is not read", code=str(failure.code))
            except Refused as refused:
                if refused.code is Code.UNSAFE_STATE:
                    raise
                _log.warning("the public log does not verify", code=refused.code.value, why=printable(refused.message))
                self._follower = self._anew()
            if not self._ledger.is_party(self._party):
                await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        batches = self._follower.poll()
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            await self._take(batch)
        self._ledger.flush()

    async def _take(self, batch: VerifiedBatch) -> None:
        entries = batch.entries[max(0, self._ledger.size - batch.first_index) :]
        for start in range(0, len(entries), _SLICE):
            some = entries[start : start + _SLICE]
            self._ledger.check_batch(self._ledger.size, some, self._clock_ms())
            self._ledger.take(some)
            await asyncio.sleep(0)
