"""The public service: how this verifier stands, and what it has found, for anyone who asks over TLS.

Answers come from memory and from one bounded query, and no caller can make the verifier work for it: calls are few at a
time, requests small, pages bounded in number and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc

from pacekeeper.client.rpc import abort
from pacekeeper.client.tls import SERVER_OPTIONS
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import envelope_pb2, verifier_pb2, verifier_pb2_grpc
from pacekeeper.verifier.follower import Follower
from pacekeeper.verifier.ledger import Ledger
from pacekeeper.verifier.store import Store, StoredFinding

MAX_PAGE: Final = 256  # findings in one answer
MAX_PAGE_BYTES: Final = 2_097_152  # below gRPC's own default limit for a message, whatever the findings carry
MAX_CALLS: Final = 64  # at one time; more are turned away, so that following the log goes on
MAX_REQUEST_BYTES: Final = 4_096  # two integers
_MAX_OFFSET: Final = 2**62  # SQLite's integers are signed
_OPTIONS: Final = (
    *(option for option in SERVER_OPTIONS if option[0] != "grpc.max_receive_message_length"),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.max_connection_age_ms", 600_000),
)


class StatusService(verifier_pb2_grpc.NationalVerifierServicer):
    """NationalVerifier, answered from the ledger, the follower and the store."""

    def __init__(
        self, party: str, ledger: Ledger, follower: Follower, store: Store, clock_ms: Callable[[], int]
    ) -> None:
        self._party, self._ledger, self._follower, self._store = party, ledger, follower, store
        self._clock_ms = clock_ms

    async def GetVerifierStatus(  # noqa: N802
        self, request: verifier_pb2.GetVerifierStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> verifier_pb2.GetVerifierStatusResponse:
        """SPEC verifier-29: the status MUST show the last checkpoint cosigned, and why the verifier refuses, if so."""
        state = self._ledger.state
        return verifier_pb2.GetVerifierStatusResponse(
            party=self._party,
            origin=self._ledger.agreement.origin,
            size=self._ledger.size,
            violations=len(state.violations) if state is not None else 0,
            void_entries=state.void_count if state is not None else 0,
            findings=self._store.count_findings(),
            checkpoint=self._ledger.cosigned_note(),
            clock_ms=self._clock_ms(),
            connected=self._follower.connected,
            refusing=self._follower.refusing,
        )

    async def ListFindings(  # noqa: N802
        self, request: verifier_pb2.ListFindingsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> verifier_pb2.ListFindingsResponse:
        """SPEC verifier-30: a page MUST have at most 256 findings; a caller that asks for more is refused."""
        if request.limit > MAX_PAGE or request.offset > _MAX_OFFSET:
            await abort(context, Refused(Code.BAD_FIELD, f"a page has at most {MAX_PAGE} findings"))
        found = self._store.findings(request.offset, request.limit or MAX_PAGE)
        envelopes = [envelope_pb2.Envelope.FromString(finding.envelope) for finding in _page(found)]
        return verifier_pb2.ListFindingsResponse(findings=envelopes, total=self._store.count_findings())


def _page(found: list[StoredFinding]) -> Iterator[StoredFinding]:
    """Yield findings, at least one if there is one, until the page is full by bytes."""
    size = 0
    for finding in found:
        size += len(finding.envelope)
        if size > MAX_PAGE_BYTES and size != len(finding.envelope):
            return
        yield finding


def bind_server(
    service: StatusService, listen: str, credentials: grpc.ServerCredentials
) -> tuple[grpc.aio.Server, int]:
    """Return a public server, not started yet, and the port that it is bound to. RuntimeError if it cannot be bound."""
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
    verifier_pb2_grpc.add_NationalVerifierServicer_to_server(service, server)
    return server, server.add_secure_port(listen, credentials)
