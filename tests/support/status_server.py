"""A verifier reduced to its public answer: a real gRPC server over TLS that states whatever checkpoint it is given.

Example:
    with StatusServers(["norland", "sudland"]) as servers:
        world = World(pins=servers.pins, addresses=servers.addresses)
        servers.checkpoints["norland"] = note
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import grpc

from pacekeeper.client.tls import SERVER_OPTIONS, make_certificate, server_credentials, spki_pin, verifier_uri
from pacekeeper.v1 import verifier_pb2, verifier_pb2_grpc


class _Service(verifier_pb2_grpc.NationalVerifierServicer):
    def __init__(self, party: str, servers: StatusServers) -> None:
        self._party, self._servers = party, servers

    def GetVerifierStatus(
        self, request: verifier_pb2.GetVerifierStatusRequest, context: grpc.ServicerContext
    ) -> verifier_pb2.GetVerifierStatusResponse:
        clock_ms = int(time.time() * 1000) + self._servers.offset_ms
        note = self._servers.checkpoints.get(self._party, b"")
        return verifier_pb2.GetVerifierStatusResponse(
            party=self._party, origin="example.org/pacekeeper", checkpoint=note, clock_ms=clock_ms
        )

    def ListFindings(
        self, request: verifier_pb2.ListFindingsRequest, context: grpc.ServicerContext
    ) -> verifier_pb2.ListFindingsResponse:
        return verifier_pb2.ListFindingsResponse()


class StatusServers:
    """One server per party; their pins and addresses go into the agreement.

    stopped: parties whose port answers to nobody. impostors: parties whose server shows another certificate.
    """

    def __init__(self, parties: Sequence[str], *, stopped: Sequence[str] = (), impostors: Sequence[str] = ()) -> None:
        self.checkpoints: dict[str, bytes] = {}
        self.offset_ms = 0
        self.pins: dict[str, bytes] = {}
        self.certificates: dict[str, tuple[bytes, bytes]] = {}
        self.addresses: dict[str, str] = {}
        self._servers: list[grpc.Server] = []
        for party in parties:
            identity = make_certificate(verifier_uri(party))
            self.certificates[party] = identity
            self.pins[f"verifier/{party}"] = spki_pin(identity[1])
            shown = make_certificate(verifier_uri(party)) if party in impostors else identity
            port = free_port() if party in stopped else self._serve(party, shown)
            self.addresses[party] = f"127.0.0.1:{port}"

    def _serve(self, party: str, identity: tuple[bytes, bytes]) -> int:
        server = grpc.server(ThreadPoolExecutor(2), options=SERVER_OPTIONS)
        verifier_pb2_grpc.add_NationalVerifierServicer_to_server(_Service(party, self), server)
        port = server.add_secure_port("127.0.0.1:0", server_credentials(*identity, None))
        server.start()
        self._servers.append(server)
        return port

    def __enter__(self) -> StatusServers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.stop(None).wait()


def free_port() -> int:
    """A loopback port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
