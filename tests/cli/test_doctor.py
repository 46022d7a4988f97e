"""The doctor finds what is wrong with configuration, bundle, keys and certificate, and goes on with the rest."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pacekeeper.client.bundle import load_bundle
from pacekeeper.client.cache_head import CopyHead, format_head
from pacekeeper.client.tls import make_certificate

Run = Callable[..., Any]


@pytest.mark.parametrize("role", ["log", "verifier", "lab"])
def test_a_role_that_is_ready_to_start_passes_and_nothing_is_changed(doctor: Any, role: str) -> None:
    before = sorted((str(path), path.stat().st_mtime_ns) for path in doctor.root.rglob("*"))
    status, checks = doctor.examine(role, "--offline")
    assert status == 0, checks
    assert checks["config"][0]["sentence"].endswith(f"is the configuration of a {role}")
    assert len(checks["bundle"][0]["sentence"].split("fingerprint is ")[1].split(";")[0]) == 64
    assert {"disk", "state", "tls_key", "tls_certificate", "tls_dates", "python", "extras"} <= checks.keys()
    assert sorted((str(path), path.stat().st_mtime_ns) for path in doctor.root.rglob("*")) == before


def test_in_words_each_check_has_a_line_and_advice_where_it_is_needed(doctor: Any, pacekeeper: Run) -> None:
    doctor.config("log").parent.joinpath("keys/statement.key").chmod(0o644)
    outcome = pacekeeper("doctor", doctor.config("log"), "--offline")
    lines = outcome.out.splitlines()
    assert outcome.status == 5
    assert lines[0].startswith("ok    config")
    [at] = [number for number, line in enumerate(lines) if line.startswith("FAIL")]
    assert "statement.key is open to others (mode 0644)" in lines[at]
    assert "-> chmod 600 " in lines[at + 1]


def test_copies_of_the_log_are_shown_with_their_size(
    doctor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fingerprint = load_bundle(doctor.site.bundle).agreement.fingerprint
    assert "copy" not in doctor.examine("lab", "--offline")[1]
    own, users = doctor.root / "borealis/state/log-copy", tmp_path / "cache/pacekeeper" / fingerprint.hex()
    for directory, entries in ((own, 3), (users, 5)):
        directory.mkdir(mode=0o700, parents=True)
        head = CopyHead(fingerprint, b"note", (), (b"entry",) * entries, frozenset())
        (directory / "head").write_bytes(format_head(head))
    status, checks = doctor.examine("lab", "--offline")
    assert status == 0
    assert [check["sentence"].split(" of the log")[0] for check in checks["copy"]] == ["3 entries", "5 entries"]
    assert "0.0 MB" in checks["copy"][0]["sentence"]
    (own / "head").write_bytes(b"damaged")
    users.chmod(0o755)
    checks = doctor.examine("lab", "--offline")[1]
    assert [check["level"] for check in checks["copy"]] == ["warn", "warn"]
    assert (own / "head").read_bytes() == b"damaged", "the doctor changes nothing"


@pytest.mark.parametrize(
    ("text", "word"),
    [(None, "cannot be read"), ("bundle = ", "not TOML"), ("", "no configuration of"), ('lab = "x"\n', "required key"),
     ('checkpoint_key = "x\\u001b"\nsurprise = 1\n', "")],
)  # fmt: skip
def test_a_configuration_that_is_wrong_fails_first_and_alone(
    doctor: Any, pacekeeper: Run, text: str | None, word: str
) -> None:
    config = doctor.config("log")
    config.unlink()
    if text is not None:
        config.write_text(text)
    assert doctor.failing("log") == (2, {"config"})
    outcome = pacekeeper("doctor", config)
    assert word in outcome.out
    assert outcome.out.replace("\n", "").isprintable()


@pytest.mark.parametrize("role", ["log", "verifier", "lab"])
def test_a_missing_bundle_fails_and_the_rest_is_looked_at_all_the_same(doctor: Any, role: str) -> None:
    """SPEC cli-11."""
    (doctor.site.bundle / "agreement.md").unlink()
    key = next(doctor.config(role).parent.glob("keys/*.key"))
    key.chmod(0o604)
    status, failed = doctor.failing(role)
    assert status == 5
    assert failed >= {"bundle"}
    assert len(failed) == 2


@pytest.mark.parametrize(
    ("spoil", "failed"),
    [
        (lambda keys: (keys / "statement.key").chmod(0o640), "statement_key"),
        (lambda keys: (keys / "statement.key").unlink(), "statement_key"),
        (lambda keys: (keys / "statement.key").write_text("damaged"), "statement_key"),
        (lambda keys: (keys / "statement.key").write_bytes((keys / "cosign.key").read_bytes()), "statement_key"),
        (lambda keys: (keys / "tls.pem").chmod(0o644), "tls_key"),
        (lambda keys: (keys / "tls.pem").write_text("damaged"), "tls_key"),
        (lambda keys: (keys / "tls.pem").write_bytes(make_certificate("pacekeeper:verifier/norland")[0]), "tls_key"),
        (lambda keys: keys.chmod(0o777), "keys"),
    ],
)
def test_keys_that_are_unsafe_exit_5(doctor: Any, spoil: Callable[[Path], object], failed: str) -> None:
    """SPEC cli-10."""
    spoil(doctor.config("verifier").parent / "keys")
    assert doctor.failing("verifier") == (5, {failed})


def test_a_certificate_that_is_gone_or_not_the_pinned_one(doctor: Any) -> None:
    keys = doctor.config("verifier").parent / "keys"
    own = (keys / "tls.crt.pem").read_bytes()
    other_key, other = make_certificate("pacekeeper:verifier/norland")
    (keys / "tls.crt.pem").write_bytes(other)
    (keys / "tls.pem").write_bytes(other_key)
    assert doctor.failing("verifier") == (5, {"tls_certificate"})
    (keys / "tls.crt.pem").write_text("no certificate")
    assert doctor.failing("verifier") == (2, {"tls_certificate"})
    (keys / "tls.crt.pem").unlink()
    assert doctor.failing("verifier") == (2, {"tls_certificate"})
    (keys / "tls.crt.pem").write_bytes(own[:-1] + b"\n" + own)
    assert "tls_certificate" in doctor.failing("verifier")[1]


@pytest.mark.parametrize(("years", "level"), [(-21, "fail"), (3, "fail"), (-19.9, "warn"), (-1, "ok")])
def test_the_certificates_dates(doctor: Any, years: float, level: str) -> None:
    """Made at another time, with the same name and another key: dates are told apart from the pin."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365 * years)
    key, certificate = make_certificate("pacekeeper:verifier/norland", now=moment)
    keys = doctor.config("verifier").parent / "keys"
    (keys / "tls.crt.pem").write_bytes(certificate)
    (keys / "tls.pem").write_bytes(key)
    _, checks = doctor.examine("verifier", "--offline")
    assert checks["tls_dates"][0]["level"] == level


@pytest.mark.parametrize("role", ["verifier", "lab"])
def test_an_id_that_the_agreement_does_not_have(doctor: Any, role: str) -> None:
    name = {"verifier": "norland", "lab": "borealis"}[role]
    key = {"verifier": "party", "lab": "lab"}[role]
    doctor.rewrite(role, f'{key} = "{name}"', f'{key} = "nobody"')
    status, failed = doctor.failing(role)
    assert status == 2
    assert "identity" in failed
