"""Initialising and asking roles: configurations that work, refusals in a sentence, the audit's exit statuses."""

from __future__ import annotations

import json
import re
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published_log import PublishedLog, served
from world import World

Run = Callable[..., Any]
Must = Callable[..., str]


def one_sentence(outcome: Any, status: int, *words: str) -> None:
    """SPEC cli-1: an error is one line on standard error, with its exit status."""
    assert (outcome.status, outcome.out) == (status, ""), outcome
    assert re.fullmatch(r"pacekeeper: [^\n]+\n", outcome.err), outcome.err
    for word in words:
        assert word in outcome.err, outcome.err


def init(founding: Any, role: str) -> tuple[object, ...]:
    """The arguments that initialise a role in its own directory."""
    directory = founding.root / {"log": "log", "verifier": "norland-v", "lab": "borealis"}[role]
    who = {"log": (), "verifier": ("--party", "norland"), "lab": ("--lab", "borealis")}[role]
    return (role, "init", directory, "--bundle", founding.bundle, *who)


CONFIGS = {"log": "log/log.toml", "verifier": "norland-v/verifier.toml", "lab": "borealis/lab.toml"}


@pytest.mark.parametrize("role", ["log", "verifier", "lab"])
def test_init_writes_a_commented_configuration_once(pacekeeper: Run, must: Must, founding: Any, role: str) -> None:
    """SPEC cli-4."""
    config = founding.root / CONFIGS[role]
    assert f"wrote {config}" in must(*init(founding, role))
    assert stat.S_IMODE(config.stat().st_mode) == 0o644
    written = config.read_text()
    assert written.startswith("# The ")
    assert all(" # " in line or "=" in line or line.startswith(("#", "[")) or not line for line in written.split("\n"))
    one_sentence(pacekeeper(*init(founding, role)), 2, "exists already")
    assert config.read_text() == written


@pytest.mark.parametrize("role", ["log", "verifier"])
def test_a_failed_init_leaves_no_configuration_and_can_be_repeated(
    pacekeeper: Run, must: Must, founding: Any, role: str
) -> None:
    """SPEC cli-4, cli-6."""
    config = founding.root / CONFIGS[role]
    key = config.parent / "keys/statement.key"
    key.rename(key.with_suffix(".away"))
    one_sentence(pacekeeper(*init(founding, role)), 5, "statement.key")
    assert not config.exists()
    key.with_suffix(".away").rename(key)
    must(*init(founding, role))


def test_a_log_is_initialised_once(pacekeeper: Run, must: Must, founding: Any) -> None:
    must(*init(founding, "log"))
    (founding.root / CONFIGS["log"]).unlink()
    one_sentence(pacekeeper(*init(founding, "log")), 2, "has entries already")


@pytest.mark.parametrize(("role", "option"), [("verifier", "--party"), ("lab", "--lab")])
def test_init_for_somebody_whom_the_agreement_does_not_have(
    pacekeeper: Run, founding: Any, role: str, option: str
) -> None:
    arguments = [*init(founding, role)[:-1], "no\x1b[31mbody"]
    one_sentence(pacekeeper(*arguments), 2, "no\\u{1b}[31mbody")
    assert not (founding.root / CONFIGS[role]).exists()


def test_init_with_another_roles_keys_is_refused(pacekeeper: Run, founding: Any) -> None:
    keys = founding.root / "sudland-v/keys"
    one_sentence(pacekeeper(*init(founding, "verifier"), "--keys", keys), 2, "not the one that the agreement names")


@pytest.mark.parametrize(
    ("break_it", "word"),
    [
        (shutil.rmtree, "agreement.md cannot be read"),
        (lambda bundle: (bundle / "agreement.envelope").write_bytes(b""), "agreement.envelope is empty"),
        (lambda bundle: (bundle / "agreement.envelope").write_bytes(b"\xff" * 99), "agreement.envelope"),
        (lambda bundle: (bundle / "certificates/log.pem").unlink(), "log.pem cannot be read"),
        (lambda bundle: (bundle / "certificates/log.pem").write_text("x"), "log.pem"),
        (lambda bundle: (bundle / "agreement.md").write_text("# x\n"), "agreement.md: line "),
    ],
)
@pytest.mark.parametrize("role", ["log", "verifier", "lab"])
def test_a_missing_or_damaged_bundle_is_named(
    pacekeeper: Run, founding: Any, role: str, break_it: Callable[[Path], object], word: str
) -> None:
    """SPEC cli-1."""
    break_it(founding.bundle)
    one_sentence(pacekeeper(*init(founding, role)), 2, word)


COMMANDS = [
    ("log", "serve"),
    ("log", "fsck"),
    ("verifier", "run"),
    ("verifier", "status"),
    ("lab", "run"),
    ("lab", "status"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bundle = ", "is not TOML"),
        ("", "required key"),
        ('surprise = "x"\n', "surprise"),
        ("\x00", "is not TOML"),
    ],
)
def test_a_corrupt_configuration_is_one_sentence(
    pacekeeper: Run, tmp_path: Path, words: tuple[str, str], text: str, said: str
) -> None:
    """SPEC cli-1, cli-2."""
    config = tmp_path / "role.toml"
    config.write_text(text)
    outcome = pacekeeper(*words, config)
    assert (outcome.status, outcome.out) == (2, "")
    assert re.fullmatch(r"pacekeeper( verifier)?: [^\n]+\n", outcome.err)
    assert str(config) in outcome.err
    assert said in outcome.err or "unknown key" in outcome.err


@pytest.mark.parametrize("role", ["log", "verifier", "lab"])
def test_an_unknown_key_in_a_configuration_is_named(pacekeeper: Run, must: Must, founding: Any, role: str) -> None:
    must(*init(founding, role))
    config = founding.root / CONFIGS[role]
    config.write_text('lisen = "127.0.0.1:1"\n' + config.read_text())
    words = {"log": "fsck", "verifier": "status", "lab": "status"}[role]
    one_sentence(pacekeeper(role, words, config), 2, str(config), "lisen")


def test_roles_that_do_not_run_are_a_temporary_failure(pacekeeper: Run, must: Must, founding: Any) -> None:
    """SPEC cli-7."""
    for role in ("verifier", "lab"):
        must(*init(founding, role))
        one_sentence(pacekeeper(role, "status", founding.root / CONFIGS[role]), 4)


def test_fsck_of_a_new_log_finds_nothing_and_speaks_json(pacekeeper: Run, must: Must, founding: Any) -> None:
    must(*init(founding, "log"))
    config = founding.root / CONFIGS["log"]
    assert must("log", "fsck", config) == "no problem found\n"
    assert json.loads(must("log", "fsck", config, "--json")) == []
    store = founding.root / "log/state/log.sqlite"
    store.write_bytes(b"not a database" * 100)
    outcome = pacekeeper("log", "fsck", config)
    assert outcome.status == 5
    assert str(store) in outcome.err + outcome.out


@pytest.fixture
def published(tmp_path: Path) -> PublishedLog:
    world = World(period="10 s")
    world.to(world.end(0))
    world.attest("borealis", 0, {})
    world.attest("meridian", 0, {})
    return PublishedLog(world, tmp_path / "log", now_ms=int(time.time() * 1000))


def test_audit_of_a_directory(pacekeeper: Run, published: PublishedLog) -> None:
    """SPEC cli-7, cli-8: report on standard output; freshness, which differs between auditors, on standard error."""
    fingerprint = published.fingerprint.hex()
    first = pacekeeper("audit", published.directory, "--fingerprint", fingerprint)
    assert first.status == 0
    assert first.out.endswith("nobody is in breach.\n")
    assert "view not cross-checked: nobody was asked" in first.err
    assert "freshness: the head is" in first.err
    again = pacekeeper("audit", published.directory, "--fingerprint", fingerprint, "--jobs", "0")
    assert again.out == first.out
    as_json = pacekeeper("audit", published.directory, "--fingerprint", fingerprint.upper(), "--json")
    assert json.loads(as_json.out)["status"] == 0


def test_audit_exit_statuses(pacekeeper: Run, published: PublishedLog, tmp_path: Path) -> None:
    """SPEC cli-7."""
    fingerprint = published.fingerprint.hex()
    one_sentence(pacekeeper("audit", published.directory, "--fingerprint", "abc"), 2, "64 hexadecimal digits")
    one_sentence(pacekeeper("audit", tmp_path, "--fingerprint", "0" * 64), 2, "holds no log")
    one_sentence(pacekeeper("audit", published.directory, "--fingerprint", fingerprint, "--at", 99), 2, "entries")
    one_sentence(pacekeeper("audit", "http://127.0.0.1:1/x y", "--fingerprint", fingerprint), 2, "not the URL of a log")
    failed = pacekeeper("audit", published.directory, "--fingerprint", "0" * 64)
    assert failed.status == 3
    assert "VERIFICATION FAILED" in failed.out
    published.world.to(published.world.due(1) + 1)
    published.write()
    late = pacekeeper("audit", published.directory, "--fingerprint", fingerprint)
    assert late.status == 1
    assert "gave no account of period 1" in late.out


def test_audit_of_a_live_log_that_stands_still_is_stale(pacekeeper: Run, published: PublishedLog) -> None:
    """SPEC cli-7, audit-10: the entries are of January, whenever they are cosigned."""
    with served(published.directory) as url:
        outcome = pacekeeper("audit", url, "--fingerprint", published.fingerprint.hex(), "--offline")
        earlier = pacekeeper("audit", url, "--fingerprint", published.fingerprint.hex(), "--offline", "--at", 1)
    assert outcome.status == 4
    assert "; STALE" in outcome.err
    assert earlier.status == 0


def test_what_the_document_says_is_inert_on_the_terminal(pacekeeper: Run, tmp_path: Path) -> None:
    """SPEC cli-2."""

    directory = tmp_path / "lo\x1b[31mg"
    outcome = pacekeeper("audit", directory, "--fingerprint", "0" * 64)
    one_sentence(outcome, 2, "lo\\u{1b}[31mg")
