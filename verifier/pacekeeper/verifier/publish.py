"""Publishing: every finding that is signed goes onto the log, once, however often either side is restarted.

A finding is stored before it is submitted, and submitted until the log has it: submission is idempotent, so that a lost
answer costs a repetition and nothing else. It counts as published when its receipt verifies against the quorum, or when
it is seen among the entries replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.submit import Submitted, WitnessedReceipt
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import printable
from pacekeeper.verifier.store import Store, StoredFinding

BATCH: Final = 16  # findings in one submission; each may be a whole entry, and together they stay below a message
BACKOFF_S: Final = (0.5, 30.0)
_log = structlog.get_logger()


Renew = Callable[[bytes], bytes]


class Submitter(Protocol):
    """What submits envelopes: client.submit.LogClient."""

    async def submit(self, envelopes: Sequence[bytes]) -> list[Submitted]: ...


class Publisher:
    """Submits what the store has not seen on the log. wake() when there is something new; run never returns."""

    def __init__(self, store: Store, client: Submitter, renew: Renew = lambda envelope: envelope) -> None:
        """renew: gives an envelope the signature of the key in force, where another has signed it."""
        self._store, self._client, self._renew = store, client, renew
        self._new = asyncio.Event()
        self._pause_s = BACKOFF_S[0]
        self._tried = 0  # number of the last one submitted: one that the log will not have does not hold up the others

    def wake(self) -> None:
        """Look for findings to publish now."""
        self._new.set()

    async def run(self) -> None:
        """Publish findings as they come. Raises Refused(unsafe-state) when the own state cannot be written."""
        while True:
            self._new.clear()
            if await self.publish_some():
                self._pause_s = BACKOFF_S[0]
            elif self._store.unpublished(1):
                await asyncio.sleep(self._pause_s)
                self._pause_s = min(self._pause_s * 2, BACKOFF_S[1])
            else:
                await self._new.wait()

    async def publish_some(self) -> bool:
        """Submit the next findings that are not on the log, in turn; whether at least one got there.

        SPEC verifier-27: a finding MUST be stored before it is submitted, and submitted until it is on the log.
        """
        findings = self._store.unpublished(BATCH, after=self._tried) or self._store.unpublished(BATCH)
        if not findings:
            return False
        self._tried = findings[-1].number
        try:
            envelopes = [self._renewed(finding) for finding in findings]
            results = await self._client.submit(envelopes)
        except TemporaryFailure as failure:
            _log.warning("findings not submitted", code=str(failure.code), why=printable(failure.message))
            return False
        except Refused as refused:
            if refused.code == Code.UNSAFE_STATE:
                raise
            _log.error("findings not published", code=refused.code.value, why=printable(refused.message))
            return False
        published = False
        for finding, result in zip(findings, results, strict=True):
            if isinstance(result, WitnessedReceipt):
                self._store.mark_logged(finding.number, result.index)
                published = True
                _log.info("finding published", number=finding.number, index=result.index)
            else:
                _log.warning("finding not published", number=finding.number, answer=printable(repr(result)))
        return published

    def _renewed(self, finding: StoredFinding) -> bytes:
        """SPEC verifier-34: what a former key signed and is not on the log MUST be signed again, unchanged."""
        envelope = self._renew(finding.envelope)
        if envelope != finding.envelope:
            self._store.sign_again(finding.number, envelope)
        return envelope
