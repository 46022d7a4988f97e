"""Transport identities: self-signed ECDSA P-256 certificates, pinned in the agreement, TLS 1.3, no authorities.

Each server and each lab has one certificate that names it in a URI: `pacekeeper:log`, `pacekeeper:verifier/PARTY` or
`pacekeeper:lab/LAB`. The agreement holds its pin, the SHA-256 of the DER SubjectPublicKeyInfo. A client trusts one
certificate, its server's; a private service trusts the participants' and, on each call, compares URI and key with
the pins. No certificate may sign another one (CA:FALSE), so one participant's key does not make another identity.

Example: PeerCheck(bundle.pins).identify(context) == "pacekeeper:verifier/norland", or Refused(wrong-identity).
"""

from __future__ import annotations

import datetime
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused

SERVER_NAME: Final = "pacekeeper"  # the one DNS name in every certificate: identity is the pinned key, not a host name
LOG_URI: Final = "pacekeeper:log"
_VALIDITY: Final = datetime.timedelta(days=20 * 365 + 5)  # pins, not dates, end a certificate's use
_CLOCK_SLACK: Final = datetime.timedelta(days=1)  # a new certificate works where the clock is behind
_MAX_PEM_BYTES: Final = 8_192
_MAX_MESSAGE_BYTES: Final = limits.MAX_SUBMIT_BYTES + 65_536  # a full batch and its framing

# Short backoff: a verifier that comes back late costs its party the cosignature. Keepalive finds a peer that went
# without a word. No proxy from the environment: it would see which lab speaks to whom, and when.
CHANNEL_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
)
# A second server on the same port must fail instead of sharing it; a stalled handshake and a silent peer are cut off.
SERVER_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_concurrent_streams", 64),
    ("grpc.max_metadata_size", 16_384),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
)


class CallContext(Protocol):
    """What this module needs of a gRPC servicer context, synchronous or asyncio."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...


def verifier_uri(party: str) -> str:
    """Return the transport identity of a party's verifier."""
    return f"pacekeeper:verifier/{party}"


def lab_uri(lab: str) -> str:
    """Return the transport identity of a lab."""
    return f"pacekeeper:lab/{lab}"


def make_certificate(uri: str, *, now: datetime.datetime | None = None) -> tuple[bytes, bytes]:
    """Return (key_pem, cert_pem) of a new P-256 key and its self-signed certificate for a transport identity.

    SPEC transport-1: a certificate MUST be self-signed, of an ECDSA P-256 key, CA:FALSE, with exactly one URI.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, uri[:64])])
    start = (now or datetime.datetime.now(datetime.UTC)) - _CLOCK_SLACK
    names = [x509.DNSName(SERVER_NAME), x509.UniformResourceIdentifier(uri)]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # Two long identities may share a truncated common name; the key identifier tells the certificates apart.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, certificate.public_bytes(serialization.Encoding.PEM)


def spki_pin(cert_pem: bytes) -> bytes:
    """Return the 32-byte pin of a certificate. Refused(malformed) if it is not one PEM certificate.

    SPEC transport-2: a pin MUST be the SHA-256 of the certificate's DER SubjectPublicKeyInfo.
    """
    return _pin(_load(cert_pem))


def check_certificate(cert_pem: bytes, uri: str, pin: bytes) -> bytes:
    """Return the certificate as clean PEM if it may stand for uri, else raise Refused.

    Checked: 1. one certificate and no second one behind it, which TLS would trust too; 2. its key is the pinned one
    (wrong-network-pin); 3. shape as make_certificate makes it (transport-1); 4. the URI. Dates are left to TLS.
    SPEC transport-3: a certificate that does not match its pin, or differs from transport-1, MUST NOT be trusted.
    """
    certificate = _load(cert_pem)
    if _pin(certificate) != pin:
        raise Refused(Code.WRONG_NETWORK_PIN, f"the certificate of {uri} has not the key that the agreement pins")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused(Code.WRONG_IDENTITY, f"the certificate of {uri} is not of an ECDSA P-256 key")
    if _may_sign(certificate):
        raise Refused(Code.WRONG_IDENTITY, f"the certificate of {uri} is not marked CA:FALSE, so it could sign others")
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        raise Refused(Code.WRONG_IDENTITY, f"the certificate of {uri} is not self-signed") from None
    if _uri(certificate) != uri:
        raise Refused(Code.WRONG_IDENTITY, f"the certificate of {uri} names another identity")
    return certificate.public_bytes(serialization.Encoding.PEM)


def server_credentials(key_pem: bytes, cert_pem: bytes, client_certs: Sequence[bytes] | None) -> grpc.ServerCredentials:
    """Return a server's credentials; with client_certs only their holders get through the handshake.

    None makes a public port: nobody is asked for a certificate, and nobody has an identity. A private service needs its
    own port, since a certificate that is asked for but not required identifies nobody.
    SPEC transport-4: a private service MUST require a client certificate, and accept only the agreement's.
    """
    if client_certs is None:
        return grpc.ssl_server_credentials([(key_pem, cert_pem)])
    if not client_certs:
        raise ValueError("a private service needs at least one client certificate")
    trusted = b"".join(certificate.rstrip(b"\n") + b"\n" for certificate in client_certs)
    return grpc.ssl_server_credentials([(key_pem, cert_pem)], root_certificates=trusted, require_client_auth=True)


def changing_server_credentials(
    key_pem: bytes, cert_pem: bytes, trusted: Callable[[], Sequence[bytes]]
) -> grpc.ServerCredentials:
    """As server_credentials of a private service whose clients change while it runs.

    trusted is asked at each handshake. It may be called from any thread, and must return the same object as long as
    nothing has changed.
    """
    known: Sequence[bytes] = ()

    def configuration() -> grpc.ServerCertificateConfiguration:
        joined = b"".join(certificate.rstrip(b"\n") + b"\n" for certificate in known)
        return grpc.ssl_server_certificate_configuration([(key_pem, cert_pem)], root_certificates=joined)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal known
        wanted = trusted()
        if wanted is known:
            return None
        known = wanted
        return configuration()

    known = trusted()
    if not known:
        raise ValueError("a private service needs at least one client certificate")
    # None says that nothing has changed; the stubs do not know it.
    return grpc.dynamic_ssl_server_credentials(configuration(), fetch, require_client_authentication=True)  # type: ignore[arg-type]


def channel_credentials(
    server_cert_pem: bytes, key_pem: bytes | None = None, cert_pem: bytes | None = None
) -> grpc.ChannelCredentials:
    """Return a client's credentials: they trust this one server certificate and, if given, show the client's own.

    SPEC transport-5: a client MUST accept no server certificate but the one that the agreement pins.
    """
    return grpc.ssl_channel_credentials(server_cert_pem, key_pem, cert_pem)


class PeerCheck:
    """Who calls: the URI of the client's certificate, provided its key is the one pinned for that URI."""

    def __init__(self, pins: Mapping[str, bytes]) -> None:
        self._pins = frozenset(pins.items())

    def repin(self, pins: Iterable[tuple[str, bytes]]) -> None:
        """Have other participants from now on: each (URI, pin) that is good, an identity may have more than one."""
        self._pins = frozenset(pins)

    def identify(self, context: CallContext) -> str:
        """Return the caller's URI, else raise Refused(wrong-identity).

        SPEC transport-6: the caller's identity MUST be the certificate's URI, and its key MUST be that URI's pin's.
        SPEC transport-7: connections MUST use TLS 1.3.
        """
        peer = context.auth_context()
        if _single(peer, "ssl_tls_version") != b"TLSv1.3":
            raise Refused(Code.WRONG_IDENTITY, "the connection is not TLS 1.3")
        pem = _single(peer, "x509_pem_cert")
        if not pem:
            raise Refused(Code.WRONG_IDENTITY, "the caller has shown no certificate")
        try:
            uri, pin = _read_peer(pem)
        except Refused as refused:
            raise Refused(Code.WRONG_IDENTITY, refused.message) from None
        if (uri, pin) not in self._pins:
            raise Refused(Code.WRONG_IDENTITY, "the caller's certificate is not the one pinned for its identity")
        return uri


def peer_uri(context: CallContext) -> str | None:
    """Return the URI that the caller's certificate claims, for a log line; only PeerCheck makes it an identity."""
    pem = _single(context.auth_context(), "x509_pem_cert")
    try:
        return _read_peer(pem)[0] if pem else None
    except Refused:
        return None


def _single(properties: Mapping[str, Iterable[bytes]], name: str) -> bytes:
    values = list(properties.get(name, ()))
    return values[0] if len(values) == 1 else b""


@functools.lru_cache(maxsize=1024)
def _read_peer(pem: bytes) -> tuple[str, bytes]:
    certificate = _load(pem)
    return _uri(certificate), _pin(certificate)


def _load(pem: bytes) -> x509.Certificate:
    if len(pem) > _MAX_PEM_BYTES or pem.count(b"-----BEGIN ") != 1:
        raise Refused(Code.MALFORMED, "expected exactly one PEM certificate")
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion):
        raise Refused(Code.MALFORMED, "not a PEM certificate") from None


def _pin(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(Code.MALFORMED, "the certificate's key is of an unknown kind") from None
    return hashlib.sha256(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).digest()


def _uri(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        names = x509.SubjectAlternativeName([])
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise Refused(Code.WRONG_IDENTITY, "a certificate names exactly one URI")
    return uris[0]


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return True
