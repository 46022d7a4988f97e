"""Certificates by pin: how someone who has only the agreement reaches a server that it names.

The certificate that a server shows is taken without trust and compared with the agreement's pin; only then is it the
trust anchor of the real connection. Nothing is sent before.
"""

from __future__ import annotations

import socket
import ssl

from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.client.tls import SERVER_NAME, check_certificate


def fetch_certificate(address: str, uri: str, pin: bytes, *, deadline_s: float) -> bytes:
    """Return the PEM certificate of the server at host:port if it is the pinned one.

    Raises TemporaryFailure when it cannot be reached, Refused(wrong-network-pin) when it shows another key.
    SPEC transport-21: a certificate taken from a server MUST be used only if its key matches the agreement's pin.
    """
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the pin is compared below, before anything is sent
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=deadline_s) as connection,
            context.wrap_socket(connection, server_hostname=SERVER_NAME) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
    except (OSError, UnicodeError) as error:  # a host name that no resolver takes is a UnicodeError
        raise TemporaryFailure(Outage.UNREACHABLE, f"{address} cannot be reached: {error}") from None
    if der is None:
        raise TemporaryFailure(Outage.SERVER_ERROR, f"{address} shows no certificate")
    return check_certificate(ssl.DER_cert_to_PEM_cert(der).encode(), uri, pin)
