"""Keys and certificate: there, whole, private, and the ones that the agreement names."""

from __future__ import annotations

import datetime
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pacekeeper.cli.doctor.check import Check, fail, ok, warn
from pacekeeper.cli.doctor.epochs import may_be_followed
from pacekeeper.cli.doctor.subject import Subject
from pacekeeper.client.bundle import transport_pins
from pacekeeper.client.keyfiles import load_key, read_private
from pacekeeper.client.tls import check_certificate
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay.participants import members_of

_RESTORE: Final = "restore it from your backup; a new key has to be named by the agreement first"
_SOON: Final = datetime.timedelta(days=90)


def check_keys(subject: Subject, now: datetime.datetime) -> Iterator[Check]:
    """Look at each signing key, at the directories that hold keys, and at the transport identity."""
    expected = {} if subject.bundle is None else subject.public_keys(subject.agreement)
    if subject.bundle is not None and not expected:
        yield fail(
            "identity",
            f'the agreement has no {subject.role} "{subject.holder}"',
            f"correct the id in {subject.config_path}, or get the right bundle",
        )
    for name, path in subject.keys.items():
        following = subject.next_keys.get(name)
        # An interrupted rotation may have left only the second file.
        moved = following is not None and following.exists() and not path.exists()
        yield _signing_key(name, following if moved and following else path, expected.get(name), subject)
    for directory in sorted({path.parent for path in (*subject.keys.values(), subject.tls_key)}):
        yield from _key_directory(directory)
    yield from _transport(subject, now)


def _signing_key(name: str, path: Path, expected: bytes | None, subject: Subject) -> Check:
    try:
        key = load_key(path)
    except Refused as refusal:
        return fail(name, refusal.message, _private_advice(path), unsafe=True)
    if expected is None:
        return ok(name, f"{path} is a signing key, readable by its owner only")
    assert subject.bundle is not None, "it is the agreement that expects a key"
    strange = key.public not in members_of(subject.bundle.agreement).keys
    if strange and may_be_followed(subject, name):
        sentence = f"{path} is not the key that the agreement names"
        return warn(name, sentence, "if it follows that one, the log says so: see key_in_force")
    if key.public != expected:
        sentence = f"{path} is not the key that the agreement names"
        return fail(name, sentence, "point the configuration at the right file, or restore it", unsafe=True)
    return ok(name, f"{path} is the key that the agreement names, readable by its owner only")


def _private_advice(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError:
        return f"{_RESTORE}, or point the configuration at it"
    if stat.S_ISREG(mode) and mode & 0o077:
        return f"chmod 600 {path}, and think about who could have read it"
    return _RESTORE


def _key_directory(directory: Path) -> Iterator[Check]:
    try:
        mode = directory.stat().st_mode
    except OSError:
        return  # the missing file in it has been named
    if mode & 0o002:
        sentence = f"anybody may replace files in {directory} (mode {stat.S_IMODE(mode):04o})"
        yield fail("keys", sentence, f"chmod 700 {directory}", unsafe=True)
    elif mode & 0o020:
        sentence = f"the group may replace files in {directory} (mode {stat.S_IMODE(mode):04o})"
        yield warn("keys", sentence, f"chmod 700 {directory}")


def _transport(subject: Subject, now: datetime.datetime) -> Iterator[Check]:
    path = subject.tls_certificate
    try:
        data = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(data)
    except OSError as error:
        yield fail("tls_certificate", f"{path} cannot be read: {error.strerror}", "restore it")
        return
    except ValueError:
        yield fail("tls_certificate", f"{path} is not a PEM certificate", "restore it")
        return
    yield _tls_key(subject.tls_key, certificate)
    yield _certificate(path, data, subject)
    yield _dates(path, certificate, now)


def _tls_key(path: Path, certificate: x509.Certificate) -> Check:
    try:
        data = read_private(path)
    except Refused as refusal:
        return fail("tls_key", refusal.message, _private_advice(path), unsafe=True)
    encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        public = load_pem_private_key(data, None).public_key().public_bytes(*encoding)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return fail("tls_key", f"{path} is not a PEM private key, or is damaged", _RESTORE, unsafe=True)
    if public != certificate.public_key().public_bytes(*encoding):
        return fail("tls_key", f"{path} does not belong to the certificate", "restore the pair", unsafe=True)
    return ok("tls_key", f"{path} belongs to the certificate, readable by its owner only")


def _certificate(path: Path, data: bytes, subject: Subject) -> Check:
    uri = subject.uri
    pin = None if subject.bundle is None else transport_pins(subject.agreement).get(uri)
    if pin is None:
        return warn("tls_certificate", f"{path} was not compared with the agreement", "mend what is said above first")
    try:
        check_certificate(data, uri, pin)
    except Refused as refusal:
        wrong = "restore the one that was handed in with the identity file; the agreement pins its key"
        unsafe = refusal.code == Code.WRONG_NETWORK_PIN
        return fail("tls_certificate", f"{path}: {refusal.message}", wrong, unsafe=unsafe)
    return ok("tls_certificate", f"{path} is the one that the agreement pins for {uri}")


def _dates(path: Path, certificate: x509.Certificate, now: datetime.datetime) -> Check:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        sentence = f"{path} is valid from {start:%Y-%m-%d} on, and this machine's clock says {now:%Y-%m-%d}"
        return fail("tls_dates", sentence, "set the clock")
    if now > end:
        sentence = f"{path} expired on {end:%Y-%m-%d}"
        return fail("tls_dates", sentence, "set the clock, or make a certificate of the same key with later dates")
    if end - now < _SOON:
        return warn("tls_dates", f"{path} expires on {end:%Y-%m-%d}", "renew it with the same key")
    return ok("tls_dates", f"{path} is valid until {end:%Y-%m-%d}")
