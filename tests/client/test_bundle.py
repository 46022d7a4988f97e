"""Agreement bundles: complete and consistent, or refused by the name of the file that is wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from agreements import signing_key
from participants import Participants, make_participants

from pacekeeper.client.bundle import load_bundle
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.tls import make_certificate
from pacekeeper.protocol.envelope import encode
from pacekeeper.protocol.statements import seal
from pacekeeper.v1 import statements_pb2


def test_a_written_bundle_loads(people: Participants, tmp_path: Path) -> None:
    written = people.write_bundle(tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle == written
    assert bundle.agreement.fingerprint == people.agreement.fingerprint
    assert bundle.entry0 == people.entry0
    assert bundle.certificates == people.certificates
    assert sorted(path.name for path in (tmp_path / "bundle" / "certificates").iterdir()) == [
        "lab-borealis.pem",
        "lab-meridian.pem",
        "log.pem",
        *sorted(f"verifier-{party}.pem" for party in people.keys.party_ids),
    ]
    assert set(bundle.pins) == set(people.identities)
    assert len(bundle.client_certificates()) == len(people.identities) - 1


def test_a_bundle_is_not_overwritten(people: Participants, tmp_path: Path) -> None:
    people.write_bundle(tmp_path / "bundle")
    with pytest.raises(ConfigError, match="exists already"):
        people.write_bundle(tmp_path / "bundle")


def _other_document(directory: Path, people: Participants) -> str:
    path = directory / "agreement.md"
    path.write_bytes(people.document.replace(b"Test agreement", b"Best agreement"))
    return "agreement.envelope: it holds another document"


def _broken_document(directory: Path, people: Participants) -> str:
    path = directory / "agreement.md"
    path.write_bytes(people.document.replace(b"[calendar]", b"[calender]"))
    return "agreement.md: line"


def _unsigned_by_one(directory: Path, people: Participants) -> str:
    sealed = seal(statements_pb2.Agreement(document=people.document), people.keys.parties()[1:])
    (directory / "agreement.envelope").write_bytes(encode(sealed))
    return f'party "{people.keys.party_ids[0]}" has not signed it'


def _signed_by_a_stranger(directory: Path, people: Participants) -> str:
    signers = [*people.keys.parties(), signing_key("stranger")]
    sealed = seal(statements_pb2.Agreement(document=people.document), signers)
    (directory / "agreement.envelope").write_bytes(encode(sealed))
    return "no party's"


def _forged_signature(directory: Path, people: Participants) -> str:
    sealed = seal(statements_pb2.Agreement(document=people.document), people.keys.parties())
    sealed.signatures[2].signature = sealed.signatures[1].signature
    (directory / "agreement.envelope").write_bytes(encode(sealed))
    return "does not verify"


def _another_statement(directory: Path, people: Participants) -> str:
    tick = statements_pb2.Tick(agreement=people.agreement.fingerprint, index=1)
    (directory / "agreement.envelope").write_bytes(encode(seal(tick, people.keys.parties())))
    return "does not hold an Agreement"


def _empty_envelope(directory: Path, people: Participants) -> str:
    (directory / "agreement.envelope").write_bytes(b"")
    return "agreement.envelope is empty"


def _long_envelope(directory: Path, people: Participants) -> str:
    (directory / "agreement.envelope").write_bytes(people.entry0 * 3 + bytes(65_535))
    return "agreement.envelope is too long"


def _no_envelope(directory: Path, people: Participants) -> str:
    (directory / "agreement.envelope").unlink()
    return "agreement.envelope cannot be read"


def _missing_certificate(directory: Path, people: Participants) -> str:
    (directory / "certificates" / "lab-borealis.pem").unlink()
    return "lab-borealis.pem cannot be read"


def _swapped_certificates(directory: Path, people: Participants) -> str:
    shutil.copy(directory / "certificates" / "lab-meridian.pem", directory / "certificates" / "lab-borealis.pem")
    return "lab-borealis.pem: the certificate of pacekeeper:lab/borealis has not the key"


def _another_log_key(directory: Path, people: Participants) -> str:
    (directory / "certificates" / "log.pem").write_bytes(make_certificate("pacekeeper:log")[1])
    return "log.pem: the certificate of pacekeeper:log has not the key"


def _second_certificate_behind(directory: Path, people: Participants) -> str:
    path = directory / "certificates" / "log.pem"
    path.write_bytes(path.read_bytes() + make_certificate("pacekeeper:log")[1])
    return "log.pem: expected exactly one PEM certificate"


FAULTS: list[Callable[[Path, Participants], str]] = [
    _other_document,
    _broken_document,
    _unsigned_by_one,
    _signed_by_a_stranger,
    _forged_signature,
    _another_statement,
    _empty_envelope,
    _long_envelope,
    _no_envelope,
    _missing_certificate,
    _swapped_certificates,
    _another_log_key,
    _second_certificate_behind,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_an_inconsistent_bundle_is_refused(
    people: Participants, tmp_path: Path, fault: Callable[[Path, Participants], str]
) -> None:
    """SPEC transport-8: document, envelope and certificates agree, or the bundle is refused by the file's name."""
    people.write_bundle(tmp_path)
    said = fault(tmp_path, people)
    with pytest.raises(ConfigError) as caught:
        load_bundle(tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_bundle_of_another_agreement_differs_in_its_fingerprint(people: Participants, tmp_path: Path) -> None:
    other = make_participants(title="Another agreement")
    assert other.write_bundle(tmp_path).agreement.fingerprint != people.agreement.fingerprint
