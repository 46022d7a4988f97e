"""The certificates of all who may call, as the agreements that count at present pin them.

Founders' certificates are in the bundle. A newcomer's is known by its pin alone: it is looked for as a file in the
bundle's certificates directory, where the operator puts it, and a verifier's also at the verifier's own address. What
is found is good if its key is the pinned one (transport-3), whoever brought it. No restart is needed in either case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog

from pacekeeper.client.bundle import read_certificate, transport_pins
from pacekeeper.client.errors import ConfigError, TemporaryFailure
from pacekeeper.client.pins import fetch_certificate
from pacekeeper.client.tls import LOG_URI, check_certificate, lab_uri, verifier_uri
from pacekeeper.protocol.documents.model import Agreement, Lab
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.replay import State

LOOK_EVERY_S: Final = 2.0  # for a certificate that is missing
DEADLINE_S: Final = 2.0  # for one verifier to show its own

_log = structlog.get_logger(__name__)

Pin = tuple[str, bytes]


def owing_labs(state: State) -> frozenset[str]:
    """Return the labs that have left the agreement and keep their keys for what they owe: they may still call."""
    keyed = {authority.owner for authority in state.keyring.values() if authority.role == "lab"}
    return frozenset(keyed - {lab.id for lab in state.agreement.labs})


class Certificates:
    """Found certificates by (URI, pin). trusted() is for any thread, all else for the event loop."""

    def __init__(self, directory: Path, founders: Sequence[tuple[str, bytes, bytes]]) -> None:
        """directory: the bundle's. founders: (URI, pin, PEM) of those in the bundle."""
        self._directory = directory
        self._found: dict[Pin, bytes] = {(uri, pin): pem for uri, pin, pem in founders}
        self._labs: dict[str, Lab] = {}
        self._addresses: dict[Pin, str] = {}
        self._wanted: list[Pin] = []
        self._trusted: tuple[bytes, ...] = ()
        self._changed = asyncio.Event()

    def remember(self, labs: Iterable[Lab]) -> None:
        """Take note of labs that were members, in case one has left and owes accounts."""
        self._labs.update((lab.id, lab) for lab in labs)

    def follow(self, agreements: Sequence[Agreement], owing: Iterable[str] = ()) -> list[Pin]:
        """Trust the members of these agreements and the labs that owe, and nobody else; return identities and pins."""
        for agreement in agreements:
            self.remember(agreement.labs)
        pins = dict.fromkeys(pin for agreement in agreements for pin in transport_pins(agreement).items())
        left = [self._labs[lab] for lab in owing if lab in self._labs]
        pins |= dict.fromkeys((lab_uri(lab.id), lab.tls_spki) for lab in left)
        self._wanted = [pin for pin in pins if pin[0] != LOG_URI]
        self._addresses = {
            (verifier_uri(party.id), party.verifier.tls_spki): party.verifier.address
            for agreement in agreements
            for party in agreement.parties
        }
        self._look_in_files()
        self._changed.set()
        return self._wanted

    def trusted(self) -> tuple[bytes, ...]:
        """Return the certificates with which a handshake succeeds; the same object until they change."""
        return self._trusted

    async def run(self) -> None:
        """Look for what is missing, again and again."""
        while True:
            self._changed.clear()
            if not self._missing():
                await self._changed.wait()
                continue
            await self._ask_verifiers()
            self._look_in_files()
            await asyncio.sleep(LOOK_EVERY_S)

    def _missing(self) -> list[Pin]:
        return [pin for pin in self._wanted if pin not in self._found]

    def _look_in_files(self) -> None:
        for pin in self._missing():
            try:
                self._take(pin, read_certificate(self._directory, *pin), "a file")
            except ConfigError:
                continue  # not there, or not yet the right one
        trusted = tuple(self._found[pin] for pin in self._wanted if pin in self._found)
        if trusted != self._trusted:
            self._trusted = trusted

    async def _ask_verifiers(self) -> None:
        for pin in self._missing():
            address = self._addresses.get(pin)
            if address is None:
                continue
            try:
                pem = await asyncio.to_thread(fetch_certificate, address, *pin, deadline_s=DEADLINE_S)
                self._take(pin, check_certificate(pem, *pin), "its verifier")
            except (TemporaryFailure, Refused) as failure:
                _log.info("no certificate from a verifier yet", uri=pin[0], code=str(failure.code))

    def _take(self, pin: Pin, pem: bytes, source: str) -> None:
        self._found[pin] = pem
        _log.info("certificate of a newcomer found", uri=pin[0], source=source)
