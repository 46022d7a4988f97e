"""Gossip: asks the other verifiers for the last checkpoint that they cosigned, and compares it with the own ones.

A log that shows two trees to two countries gets at most one of them a quorum, but only when the countries compare notes
does the lie become a proof. Both notes bear the log's signature, so no verifier has to be believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import grpc
import structlog

from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.pins import fetch_certificate
from pacekeeper.client.tls import CHANNEL_OPTIONS, channel_credentials, spki_pin, verifier_uri
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.agreement import Party
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import printable
from pacekeeper.v1 import verifier_pb2, verifier_pb2_grpc
from pacekeeper.verifier.findings import Findings
from pacekeeper.verifier.ledger import Ledger

DEADLINE_S: Final = 5.0  # for one verifier's answer
EVERY_S: Final = (1.0, 60.0)  # a tick interval, within these bounds: between ticks there is little to compare
_OPTIONS: Final = (
    *(option for option in CHANNEL_OPTIONS if option[0] != "grpc.max_receive_message_length"),
    ("grpc.max_receive_message_length", limits.MAX_NOTE_BYTES + 4_096),
)
_log = structlog.get_logger()


class Gossip:
    """Compares notes with each of the other parties' verifiers, one after the other."""

    def __init__(
        self,
        others: Callable[[], Iterable[Party]],
        certificates: Iterable[bytes],
        ledger: Ledger,
        findings: Findings,
    ) -> None:
        """others: who the other parties are at present. certificates: those at hand; others are taken by their pins."""
        self._others = others
        self._certificates = {spki_pin(certificate): certificate for certificate in certificates}
        self._ledger, self._findings = ledger, findings

    @property
    def _every_s(self) -> float:
        return min(max(self._ledger.present.timing.tick_ms / 1000, EVERY_S[0]), EVERY_S[1])

    async def run(self) -> None:
        """Ask again and again. Raises Refused(unsafe-state) when the own state cannot be written."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.ask_all()

    async def ask_all(self) -> None:
        """Ask every other verifier once; one that does not answer, or answers nonsense, is passed over.

        SPEC verifier-28: a verifier MUST compare the checkpoints that others cosigned with its own.
        """
        for party in self._others():
            note = await self._ask(party)
            if not note or not self._ledger.witness.size:
                continue
            try:
                self._findings.compare(self._ledger, note)
            except Refused as refused:
                if refused.code == Code.UNSAFE_STATE:
                    raise
                _log.warning("bad checkpoint from a verifier", party=party.id, why=printable(refused.message))
        self._findings.conclude(self._ledger)

    async def _ask(self, party: Party) -> bytes:
        certificate = await self._certificate_of(party)
        if certificate is None:
            return b""
        credentials = channel_credentials(certificate)
        async with grpc.aio.secure_channel(party.verifier.address, credentials, options=_OPTIONS) as channel:
            stub: verifier_pb2_grpc.NationalVerifierAsyncStub = verifier_pb2_grpc.NationalVerifierStub(channel)
            try:
                request = verifier_pb2.GetVerifierStatusRequest()
                answer = await stub.GetVerifierStatus(request, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                _log.debug("verifier not reached", party=party.id, status=error.code().name)
                return b""
        return answer.checkpoint

    async def _certificate_of(self, party: Party) -> bytes | None:
        """Return a verifier's certificate; a newcomer's is taken from itself, and is good if it has the pinned key."""
        terms = party.verifier
        if terms.tls_spki not in self._certificates:
            uri = verifier_uri(party.id)
            try:
                self._certificates[terms.tls_spki] = await asyncio.to_thread(
                    fetch_certificate, terms.address, uri, terms.tls_spki, deadline_s=DEADLINE_S
                )
            except (TemporaryFailure, Refused) as failure:
                _log.debug("verifier not reached", party=party.id, code=str(failure.code))
        return self._certificates.get(terms.tls_spki)
