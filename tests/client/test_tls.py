"""Transport identities against real gRPC servers on loopback: who gets through, and who does not."""

import asyncio
import datetime
import hashlib
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from participants import Participants

from pacekeeper.client import rpc
from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.client.pins import fetch_certificate
from pacekeeper.client.tls import (
    CHANNEL_OPTIONS,
    LOG_URI,
    SERVER_OPTIONS,
    PeerCheck,
    channel_credentials,
    check_certificate,
    lab_uri,
    make_certificate,
    peer_uri,
    server_credentials,
    spki_pin,
)
from pacekeeper.protocol.errors import Code, Refused

LAB = lab_uri("borealis")
VERIFIER = "pacekeeper:verifier/norland"


def variant(
    uri: str = LAB,
    *,
    ca: bool | None = False,
    key: Any = None,
    issuer: tuple[x509.Certificate, Any] | None = None,
    uris: list[str] | None = None,
    start: datetime.datetime | None = None,
    days: int = 10,
) -> tuple[bytes, bytes]:
    """A certificate that differs from what make_certificate makes; issuer signs it instead of its own key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, uri)])
    start = start or datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    names: list[x509.GeneralName] = [x509.DNSName("pacekeeper")]
    names.extend(x509.UniformResourceIdentifier(item) for item in ([uri] if uris is None else uris))
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, certificate.public_bytes(serialization.Encoding.PEM)


Handler = Callable[[bytes, Any], Awaitable[bytes]]


class Service(grpc.GenericRpcHandler):
    """One service whose every method is the handler."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._handler)


@asynccontextmanager
async def serving(credentials: grpc.ServerCredentials, handler: Handler) -> AsyncIterator[int]:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((Service(handler),))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def call(port: int, credentials: grpc.ChannelCredentials) -> bytes:
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=CHANNEL_OPTIONS) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test/Call")
        try:
            answer = await method(b"", timeout=10)
        except grpc.aio.AioRpcError as error:
            raise rpc.failure_of(error, "the server") from None
        assert isinstance(answer, bytes)
        return answer


def identifier(people: Participants) -> Handler:
    check = PeerCheck({uri: spki_pin(certificate) for uri, certificate in people.certificates.items()})

    async def handle(request: bytes, context: Any) -> bytes:
        try:
            return check.identify(context).encode()
        except Refused as refused:
            await rpc.abort(context, refused)

    return handle


async def test_every_participant_is_identified_by_its_certificate(people: Participants) -> None:
    """SPEC transport-6: the caller's identity is its certificate's URI, with the pinned key."""
    async with serving(people.log_credentials(), identifier(people)) as port:
        for uri in people.identities:
            if uri != LOG_URI:
                assert await call(port, people.credentials_of(uri)) == uri.encode()


async def expect_refusal(people: Participants, key_pem: bytes | None, cert_pem: bytes | None) -> None:
    calls = []

    async def handle(request: bytes, context: Any) -> bytes:
        calls.append(peer_uri(context))
        return b"in"

    async with serving(people.log_credentials(), handle) as port:
        with pytest.raises(TemporaryFailure) as caught:
            await call(port, channel_credentials(people.certificates[LOG_URI], key_pem, cert_pem))
        assert caught.value.code == Outage.UNREACHABLE
        assert calls == []
        assert await call(port, people.credentials_of(LAB)) == b"in"  # others are served
        assert calls == [LAB]


async def test_a_good_certificate_that_is_not_pinned_is_refused(people: Participants) -> None:
    """SPEC transport-4: only the agreement's certificates get through, whatever name another one bears."""
    await expect_refusal(people, *make_certificate(LAB))
    await expect_refusal(people, *make_certificate("pacekeeper:lab/unheard-of"))


async def test_no_certificate_is_refused(people: Participants) -> None:
    """SPEC transport-4: a private service requires a certificate."""
    await expect_refusal(people, None, None)


async def test_a_participants_certificate_cannot_issue_another(people: Participants) -> None:
    """SPEC transport-1: CA:FALSE, so that a lab cannot make itself a verifier."""
    key_pem, cert_pem = people.identities[LAB]
    issuer_key = serialization.load_pem_private_key(key_pem, password=None)
    issuer = x509.load_pem_x509_certificate(cert_pem)
    fake_key, fake = variant(VERIFIER, issuer=(issuer, issuer_key))
    await expect_refusal(people, fake_key, fake)
    await expect_refusal(people, fake_key, fake + cert_pem)


async def test_a_participants_key_under_another_name_is_refused(people: Participants) -> None:
    """SPEC transport-6: one participant's key does not make another's identity, whoever signs the certificate."""
    key_pem, cert_pem = people.identities[LAB]
    key = serialization.load_pem_private_key(key_pem, password=None)
    issuer = x509.load_pem_x509_certificate(cert_pem)
    await expect_refusal(people, *variant(VERIFIER, key=key))
    await expect_refusal(people, *variant(VERIFIER, key=key, issuer=(issuer, key)))


async def test_a_trusted_certificate_whose_key_is_pinned_for_another_uri_is_refused(people: Participants) -> None:
    """The second lock: even where TLS was told to trust it, URI and pin must belong together."""
    key_pem, cert_pem = variant(VERIFIER)
    credentials = server_credentials(*people.identities[LOG_URI], [cert_pem])
    async with serving(credentials, identifier(people)) as port:
        with pytest.raises(Refused) as caught:
            await call(port, channel_credentials(people.certificates[LOG_URI], key_pem, cert_pem))
    assert caught.value.code is Code.WRONG_IDENTITY


async def test_a_certificate_with_two_uris_is_nobody(people: Participants) -> None:
    key_pem, cert_pem = variant(LAB, uris=[LAB, VERIFIER])
    credentials = server_credentials(*people.identities[LOG_URI], [cert_pem])
    async with serving(credentials, identifier(people)) as port:
        with pytest.raises(Refused) as caught:
            await call(port, channel_credentials(people.certificates[LOG_URI], key_pem, cert_pem))
    assert caught.value.code is Code.WRONG_IDENTITY


async def test_a_public_port_identifies_nobody(people: Participants) -> None:
    """A certificate that was not required says nothing: the caller stays unknown instead of being believed."""
    credentials = server_credentials(*people.identities[LOG_URI], None)
    async with serving(credentials, identifier(people)) as port:
        with pytest.raises(Refused) as caught:
            await call(port, people.credentials_of(LAB))
    assert caught.value.code is Code.WRONG_IDENTITY


@pytest.mark.parametrize("uri", [LOG_URI, LAB, VERIFIER])
async def test_a_server_with_another_key_is_refused_by_the_client(people: Participants, uri: str) -> None:
    """SPEC transport-5: neither a stranger with the log's name nor another participant can stand in for the log."""

    async def handle(request: bytes, context: Any) -> bytes:
        return b"trust me"

    identity = make_certificate(uri) if uri == LOG_URI else people.identities[uri]
    async with serving(server_credentials(*identity, [people.certificates[LAB]]), handle) as port:
        with pytest.raises(Refused) as caught:
            await call(port, people.credentials_of(LAB))
    assert caught.value.code is Code.WRONG_NETWORK_PIN


async def test_a_certificate_issued_by_the_pinned_one_is_refused_by_the_client(people: Participants) -> None:
    """SPEC transport-5: no certificate but the pinned one, and so none that it signed."""
    key_pem, cert_pem = people.identities[LOG_URI]
    key = serialization.load_pem_private_key(key_pem, password=None)
    fake_key, fake = variant(LOG_URI, issuer=(x509.load_pem_x509_certificate(cert_pem), key))

    async def handle(request: bytes, context: Any) -> bytes:
        return b"trust me"

    async with serving(server_credentials(fake_key, fake + cert_pem, [people.certificates[LAB]]), handle) as port:
        with pytest.raises(Refused) as caught:
            await call(port, people.credentials_of(LAB))
    assert caught.value.code is Code.WRONG_NETWORK_PIN


async def test_an_expired_server_certificate_is_a_matter_of_clocks() -> None:
    start = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    key_pem, cert_pem = make_certificate(LOG_URI, now=start)

    async def handle(request: bytes, context: Any) -> bytes:
        return b""

    async with serving(server_credentials(key_pem, cert_pem, None), handle) as port:
        with pytest.raises(TemporaryFailure, match="check this machine's clock"):
            await call(port, channel_credentials(cert_pem))


@pytest.mark.parametrize("honest", [True, False])
async def test_a_certificate_may_be_fetched_by_its_pin(people: Participants, honest: bool) -> None:
    """SPEC transport-21: the server's own certificate is used if it is the pinned one, and only then."""

    async def handle(request: bytes, context: Any) -> bytes:
        return b"in"

    pin = spki_pin(people.certificates[VERIFIER])
    identity = people.identities[VERIFIER] if honest else make_certificate(VERIFIER)
    async with serving(server_credentials(*identity, None), handle) as port:
        fetching = asyncio.to_thread(fetch_certificate, f"127.0.0.1:{port}", VERIFIER, pin, deadline_s=10)
        if honest:
            assert await call(port, channel_credentials(await fetching)) == b"in"
        else:
            with pytest.raises(Refused) as caught:
                await fetching
            assert caught.value.code is Code.WRONG_NETWORK_PIN


async def test_nobody_there_is_a_temporary_failure(people: Participants) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(TemporaryFailure) as caught:
        await call(port, people.credentials_of(LAB))
    assert caught.value.code == Outage.UNREACHABLE
    with pytest.raises(TemporaryFailure):
        fetch_certificate(f"127.0.0.1:{port}", LOG_URI, bytes(32), deadline_s=5)


async def test_two_long_identities_with_one_common_name_are_told_apart() -> None:
    uris = [lab_uri("a" * 63 + end) for end in "xyz"]
    identities = {uri: make_certificate(uri) for uri in [LOG_URI, *uris]}
    check = PeerCheck({uri: spki_pin(certificate) for uri, (_, certificate) in identities.items()})

    async def handle(request: bytes, context: Any) -> bytes:
        return check.identify(context).encode()

    credentials = server_credentials(*identities[LOG_URI], [identities[uri][1] for uri in uris])
    async with serving(credentials, handle) as port:
        for uri in uris:
            assert await call(port, channel_credentials(identities[LOG_URI][1], *identities[uri])) == uri.encode()


async def test_two_servers_do_not_share_a_port(people: Participants) -> None:
    async def handle(request: bytes, context: Any) -> bytes:
        return b""

    async with serving(people.log_credentials(), handle) as port:
        second = grpc.aio.server(options=SERVER_OPTIONS)
        with pytest.raises(RuntimeError):
            second.add_secure_port(f"127.0.0.1:{port}", people.log_credentials())


SERVER_PROCESS = """
import pacekeeper.client.tls as tls
import sys, grpc
key, certificate, client = (open(name, "rb").read() for name in sys.argv[1:4])
from concurrent import futures
server = grpc.server(futures.ThreadPoolExecutor(1))
print(server.add_secure_port("127.0.0.1:0", tls.server_credentials(key, certificate, [client])), flush=True)
server.start()
sys.stdin.read()
server.stop(0)
"""


def test_a_tls_1_2_handshake_is_refused(people: Participants, tmp_path: Path) -> None:
    """SPEC transport-7: TLS 1.3 only. A fresh process, since gRPC reads its settings when it is first imported."""
    names = ["server.key", "server.pem", "client.pem", "client.key"]
    paths = [tmp_path / name for name in names]
    key_pem, cert_pem = people.identities[LAB]
    for path, data in zip(paths, [*people.identities[LOG_URI], cert_pem, key_pem], strict=True):
        path.write_bytes(data)
    command = [sys.executable, "-c", SERVER_PROCESS, *map(str, paths[:3])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())

        def handshake(version: ssl.TLSVersion) -> str | None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(paths[1])
            context.load_cert_chain(paths[2], paths[3])
            context.set_alpn_protocols(["h2"])
            context.minimum_version = context.maximum_version = version
            plain = socket.create_connection(("127.0.0.1", port), timeout=10)
            with plain, context.wrap_socket(plain, server_hostname="pacekeeper") as wrapped:
                return wrapped.version()

        try:
            assert handshake(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
            with pytest.raises((ssl.SSLError, ConnectionError)):
                handshake(ssl.TLSVersion.TLSv1_2)
        finally:
            server.stdin.close()
            server.wait(10)


class Peer:
    """What a connection's authentication context says."""

    def __init__(self, **properties: bytes) -> None:
        self._properties = {name: [value] for name, value in properties.items()}

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._properties


def test_an_older_tls_version_identifies_nobody(people: Participants) -> None:
    """SPEC transport-7: where gRPC was loaded before its settings were, the version is checked on each call."""
    pem = people.certificates[LAB]
    check = PeerCheck({LAB: spki_pin(pem)})
    assert check.identify(Peer(ssl_tls_version=b"TLSv1.3", x509_pem_cert=pem)) == LAB
    for peer in [
        Peer(ssl_tls_version=b"TLSv1.2", x509_pem_cert=pem),
        Peer(x509_pem_cert=pem),
        Peer(ssl_tls_version=b"TLSv1.3"),
        Peer(ssl_tls_version=b"TLSv1.3", x509_pem_cert=b"-----BEGIN CERTIFICATE-----\n"),
        Peer(ssl_tls_version=b"TLSv1.3", x509_pem_cert=pem + pem),
    ]:
        with pytest.raises(Refused) as caught:
            check.identify(peer)
        assert caught.value.code is Code.WRONG_IDENTITY
    assert peer_uri(Peer()) is None
    assert peer_uri(Peer(x509_pem_cert=b"?")) is None


def test_a_certificate_is_what_the_specification_says() -> None:
    """SPEC transport-1: self-signed, P-256, CA:FALSE, one URI. SPEC transport-2: the pin is the SPKI's SHA-256."""
    now = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
    _, cert_pem = make_certificate(LAB, now=now)
    certificate = x509.load_pem_x509_certificate(cert_pem)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    certificate.verify_directly_issued_by(certificate)
    assert certificate.not_valid_before_utc < now
    assert (certificate.not_valid_after_utc - now).days > 20 * 365
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [LAB]
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert spki_pin(cert_pem) == hashlib.sha256(spki).digest()
    assert check_certificate(cert_pem, LAB, spki_pin(cert_pem)) == cert_pem


def _signed_by_another() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(variant(LAB, key=key)[1])
    return variant(LAB, issuer=(issuer, ec.generate_private_key(ec.SECP256R1())))[1]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: variant(ca=True)[1], Code.WRONG_IDENTITY),
        (lambda: variant(ca=None)[1], Code.WRONG_IDENTITY),
        (lambda: variant(key=ec.generate_private_key(ec.SECP384R1()))[1], Code.WRONG_IDENTITY),
        (lambda: variant(key=rsa.generate_private_key(65537, 2048))[1], Code.WRONG_IDENTITY),
        (lambda: variant(uris=[])[1], Code.WRONG_IDENTITY),
        (lambda: variant(uris=[VERIFIER])[1], Code.WRONG_IDENTITY),
        (lambda: variant(uris=[LAB, LAB])[1], Code.WRONG_IDENTITY),
        (_signed_by_another, Code.WRONG_IDENTITY),
        (lambda: make_certificate(LAB)[1] + make_certificate(LAB)[1], Code.MALFORMED),
        (lambda: b"".join(make_certificate(LAB)), Code.MALFORMED),
        (lambda: b"", Code.MALFORMED),
        (lambda: make_certificate(LAB)[1][:-60], Code.MALFORMED),
        (lambda: make_certificate(LAB)[1] + b"#" * 10_000, Code.MALFORMED),
    ],
)
def test_an_unfit_certificate_is_not_trusted_even_if_its_key_is_pinned(make: Callable[[], bytes], code: Code) -> None:
    """SPEC transport-3: shape as transport-1, exactly one, or not trusted."""
    cert_pem = make()
    try:
        pin = spki_pin(cert_pem)
    except Refused as refused:
        pin = bytes(32)
        assert refused.code is code  # noqa: PT017  # both ways in must refuse alike
    with pytest.raises(Refused) as caught:
        check_certificate(cert_pem, LAB, pin)
    assert caught.value.code is code


def test_a_certificate_with_another_key_than_pinned_is_not_trusted() -> None:
    """SPEC transport-3: it must match its pin."""
    with pytest.raises(Refused) as caught:
        check_certificate(make_certificate(LAB)[1], LAB, spki_pin(make_certificate(LAB)[1]))
    assert caught.value.code is Code.WRONG_NETWORK_PIN


def test_a_private_service_without_clients_is_a_mistake(people: Participants) -> None:
    with pytest.raises(ValueError, match="at least one"):
        server_credentials(*people.identities[LOG_URI], [])


def test_an_address_that_no_resolver_takes_is_only_unreachable() -> None:
    """An accession's address is whoever's wish; asking there must not end who asks."""
    with pytest.raises(TemporaryFailure) as failure:
        fetch_certificate(f"{'a' * 64}.example:7", VERIFIER, bytes(32), deadline_s=1)
    assert failure.value.code == Outage.UNREACHABLE
