"""The observer of a campaign: an outsider that polls the published checkpoint and every verifier, and keeps it all.

It only collects; what it collected is judged by campaign_checks. What is published and what a verifier shows may stand
still while something is down, but never go back.
"""

from __future__ import annotations

import http.client
import threading
from typing import Final
from urllib.parse import urlsplit

import grpc
from site_on_disk import Site

from pacekeeper.client.tls import CHANNEL_OPTIONS, channel_credentials, verifier_uri
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.v1 import verifier_pb2, verifier_pb2_grpc

EVERY_S: Final = 0.1
_CALL_S: Final = 1.0


def size_of(note: bytes) -> int:
    """The number of entries that a checkpoint covers."""
    return parse_checkpoint(parse_note(note).text).size


class Observer:
    """One thread for the log, one for all verifiers. `sizes`: what each showed last, by "log" and party."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sizes: dict[str, int] = {}
        self.failure = ""
        self.answers = 0
        self._notes: set[bytes] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch_log, daemon=True),
            threading.Thread(target=self._watch_verifiers, daemon=True),
        ]

    def __enter__(self) -> Observer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def take_new(self) -> set[bytes]:
        """Return the notes seen since the last call. AssertionError if something was seen to go back."""
        assert not self.failure, self.failure
        assert all(thread.is_alive() for thread in self._threads), "the observer has died"
        with self._lock:
            notes, self._notes = self._notes, set()
        return notes

    def _saw(self, who: str, note: bytes) -> None:
        size = size_of(note)
        before = self.sizes.get(who, 0)
        if size < before:
            self.failure = f"{who} showed a tree of {before} entries first, one of {size} later"
        self.sizes[who] = size
        self.answers += 1
        with self._lock:
            self._notes.add(note)

    def _watch_log(self) -> None:
        where = urlsplit(self.site.url)
        assert where.hostname is not None
        while not self._stopping.wait(EVERY_S):
            connection = http.client.HTTPConnection(where.hostname, where.port, timeout=_CALL_S)
            try:
                connection.request("GET", "/checkpoint")
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == http.client.OK:
                    self._saw("log", body)
            except (OSError, http.client.HTTPException):
                continue
            finally:
                connection.close()

    def _watch_verifiers(self) -> None:
        stubs = {}
        channels = []
        for party in self.site.agreement.parties:
            credentials = channel_credentials(self.site.bundle.certificates[verifier_uri(party.id)])
            channel = grpc.secure_channel(party.verifier.address, credentials, options=CHANNEL_OPTIONS)
            channels.append(channel)
            stubs[party.id] = verifier_pb2_grpc.NationalVerifierStub(channel)
        while not self._stopping.wait(EVERY_S):
            for party_id, stub in stubs.items():
                try:
                    status = stub.GetVerifierStatus(verifier_pb2.GetVerifierStatusRequest(), timeout=_CALL_S)
                except grpc.RpcError:
                    continue
                if status.checkpoint:
                    self._saw(party_id, status.checkpoint)
        for channel in channels:
            channel.close()
