"""From keygen to a bundle that every role starts from, and what is said to whoever makes a mistake on the way."""

from __future__ import annotations

import json
import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pacekeeper.client.bundle import load_bundle

Run = Callable[..., Any]
Must = Callable[..., str]


def one_sentence(outcome: Any, status: int, *words: str) -> None:
    """SPEC cli-1: an error is one line on standard error, with its exit status."""
    assert (outcome.status, outcome.out) == (status, ""), outcome
    assert re.fullmatch(r"pacekeeper: [^\n]+\n", outcome.err), outcome.err
    for word in words:
        assert word in outcome.err, outcome.err


LOG_OPTIONS = ("--address", "h:1", "--url", "http://h:2")


@pytest.mark.parametrize(
    ("role", "identity", "options", "keys", "public"),
    [
        ("party", "norland", (), ["party"], "norland.party"),
        ("verifier", "norland", ("--address", "[::1]:7811"), ["cosign", "statement", "tls"], "norland.verifier"),
        ("lab", "borealis", ("--party", "norland"), ["lab", "tls"], "borealis.lab"),
        ("log", "example.org/x", LOG_OPTIONS, ["checkpoint", "statement", "tls"], "log"),
    ],
)
def test_keygen_makes_private_keys_and_a_public_file(
    must: Must, tmp_path: Path, role: str, identity: str, options: tuple[str, ...], keys: list[str], public: str
) -> None:
    """SPEC cli-3: keys are readable by their owner only, and the public file holds no secret."""
    keys = [f"{key}.pem" if key == "tls" else f"{key}.key" for key in keys]
    public += ".public.toml"
    out = must("keygen", role, identity, "--out", tmp_path, *options)
    assert public in out
    files = {path.name: path for path in (tmp_path / "keys").iterdir()}
    assert sorted(files) == sorted([*keys, *(["tls.crt.pem"] if role != "party" else [])])
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    text = (tmp_path / public).read_text()
    for name in keys:
        assert stat.S_IMODE(files[name].stat().st_mode) == 0o600
        secret = files[name].read_text().split("\n")[1]
        assert secret not in text
        assert secret not in out
    shared = tomllib.loads(text)
    assert (shared["role"], shared["id"]) == (role, identity)


def test_nothing_is_ever_overwritten(pacekeeper: Run, founding: Any) -> None:
    """SPEC cli-4."""
    before = {path: path.read_bytes() for path in founding.root.rglob("*") if path.is_file()}
    new = ("--cap", "c:run:1e9 FLOP", "--title", "T", "--out", founding.document)
    key = founding.root / "norland/keys/party.key"
    again = [
        ("keygen", "party", "norland", "--out", founding.root / "norland"),
        ("keygen", "verifier", "norland", "--out", founding.root / "norland-v", "--address", "h:1"),
        ("agreement", "new", *founding.identity_options(), *new),
        ("agreement", "sign", founding.document, "--key", key, "--out", founding.root / "norland.sig"),
    ]
    for arguments in again:
        one_sentence(pacekeeper(*arguments), 2, "exists already and is not overwritten")
    assert {path: path.read_bytes() for path in founding.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("party", "Norland"), ("is not an id",)),
        (("party", "a\x1b[31mb"), ("\\u{1b}[31m", "is not an id")),
        (("party", "norland", "--name", "No\x1b]0;pwned\x07rland"), ("name:", "cannot be shown")),
        (("verifier", "norland", "--address", "nowhere"), ("address:", "log.example.org:7401")),
        (("verifier", "norland", "--address", "h:1", "--name", "has blanks"), ("name:",)),
        (("lab", "borealis", "--party", "No"), ("party:", "expected an id")),
        (("log", "not an origin", "--address", "h:1", "--url", "http://h:2"), ("origin:",)),
        (("log", "example.org/x", "--address", "h:1", "--url", "ftp://h"), ("url:",)),
    ],
)
def test_keygen_refuses_what_no_agreement_takes_before_it_makes_a_key(
    pacekeeper: Run, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """SPEC cli-1, cli-2: what is quoted is escaped."""
    outcome = pacekeeper("keygen", *arguments, "--out", tmp_path / "x")
    one_sentence(outcome, 2, *words)
    assert outcome.err.rstrip("\n").isprintable()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("role", "option"), [("lab", "--party"), ("verifier", "--address"), ("log", "--address")])
def test_keygen_says_which_option_a_role_needs(pacekeeper: Run, tmp_path: Path, role: str, option: str) -> None:
    one_sentence(pacekeeper("keygen", role, "x", "--out", tmp_path), 2, f"a {role} needs {option}")


def test_names_with_quotes_and_backslashes_survive(must: Must, tmp_path: Path) -> None:
    must("keygen", "party", "p", "--out", tmp_path, "--name", 'The "Old" \\ Länd')
    assert tomllib.loads((tmp_path / "p.party.public.toml").read_text())["name"] == 'The "Old" \\ Länd'


def test_the_bundle_is_complete_and_signed_by_all(founded: Any, must: Must) -> None:
    bundle = load_bundle(founded.bundle)
    assert len(bundle.certificates) == 1 + 4 + 1
    shown = json.loads(must("agreement", "show", founded.document, "--json"))
    assert shown["fingerprint"] == bundle.agreement.fingerprint.hex()
    assert shown["fingerprint"] in must("agreement", "show", founded.document)
    assert any("tolerates 1 liar and 1 absence" in sentence for sentence in shown["sentences"])


BAD_CAPS = [
    "frontier",
    "f:run",
    "f:run:1e24",
    "f:run:1e24 FLOP:3",
    "f:lab:1e24 FLOP",
    "f:chip:1e24 FLOP",
    "F!:run:1e24 FLOP",
    "f:lab:1e24 FLOP:x",
    "f:run:1 FLOP",
]


@pytest.mark.parametrize("cap", BAD_CAPS)
def test_a_cap_that_cannot_be_read_is_quoted(pacekeeper: Run, founding: Any, cap: str, tmp_path: Path) -> None:
    """SPEC cli-1."""
    out = tmp_path / "new.md"
    outcome = pacekeeper("agreement", "new", *founding.identity_options(), "--cap", cap, "--title", "T", "--out", out)
    one_sentence(outcome, 2, f'cap "{cap}"')
    assert not out.exists()


def test_an_agreement_without_a_log_or_with_half_a_party_is_not_written(
    pacekeeper: Run, founding: Any, tmp_path: Path
) -> None:
    def new(*identities: Path) -> Any:
        options = [word for path in identities for word in ("--identity", path)]
        return pacekeeper(
            "agreement", "new", *options, "--cap", "c:run:1e9 FLOP", "--title", "T", "--out", tmp_path / "n"
        )

    files = {path.name: path for path in founding.identities}
    one_sentence(new(files["norland.party.public.toml"]), 2, "an agreement has one log")
    pair = files["log.public.toml"], files["norland.party.public.toml"]
    one_sentence(new(*pair), 2, "party norland has no identity file of its verifier")
    one_sentence(new(*pair, pair[1]), 2, "two identity files for party norland")
    assert not (tmp_path / "n").exists()


def test_an_identity_file_with_another_certificate_is_refused(pacekeeper: Run, founding: Any, tmp_path: Path) -> None:
    files = {path.name: path for path in founding.identities}
    text = files["norland.verifier.public.toml"].read_text()
    other = files["sudland.verifier.public.toml"].read_text()
    mark = "certificate = '''"
    files["norland.verifier.public.toml"].write_text(text.split(mark)[0] + mark + other.split(mark)[1])
    new = ("--cap", "c:run:1e9 FLOP", "--title", "T", "--out", tmp_path / "n")
    outcome = pacekeeper("agreement", "new", *founding.identity_options(), *new)
    one_sentence(outcome, 2, "verifier norland: certificate:")


def test_lint_names_lines_and_lists_all(pacekeeper: Run, founding: Any) -> None:
    """SPEC cli-5."""
    text = founding.document.read_text()
    lines = text.split("\n")
    line = next(number for number, content in enumerate(lines) if content.startswith("quorum ="))
    lines[line] = "quorum = 9"
    founding.document.write_text("\n".join(lines))
    outcome = pacekeeper("agreement", "lint", founding.document)
    assert outcome.status == 2
    assert f"{founding.document}:{line + 1}: error: " in outcome.out
    assert "cannot be signed" in outcome.err
    as_json = pacekeeper("agreement", "lint", founding.document, "--json")
    assert as_json.status == 2
    assert json.loads(as_json.out)[0]["line"] == line + 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("period = ", 'periods = "1 d"\nperiod = '),
        ('limit = "1e24 FLOP"', 'limit = "1e24"'),
        ('party = "norland"', 'party = "nobody"'),
        ('title = "A test agreement"', 'title = "A \\u001b[31mred agreement"'),
        ("## Article 2.", "## Article 3."),
    ],
)
def test_a_faulty_document_is_an_error_with_its_line_everywhere(
    pacekeeper: Run, founding: Any, old: str, new: str, tmp_path: Path
) -> None:
    """SPEC cli-5: an unknown key, a missing unit, an undefined party; and what is quoted is escaped (cli-2)."""
    text = founding.document.read_text()
    assert old in text
    line = text[: text.index(old)].count("\n") + 1
    founding.document.write_text(text.replace(old, new, 1))
    linted = pacekeeper("agreement", "lint", founding.document)
    assert linted.status == 2
    assert re.search(rf":{line}: error: ", linted.out), linted.out
    assert linted.out.replace("\n", "").isprintable()
    key = founding.root / "norland/keys/party.key"
    signed = pacekeeper("agreement", "sign", founding.document, "--key", key, "--out", tmp_path / "s")
    one_sentence(signed, 2, f"line {line}: ")
    one_sentence(pacekeeper("agreement", "show", founding.document), 2, f"line {line}: ")
    assert not (tmp_path / "s").exists()


def test_assembling_says_whose_signature_is_missing_or_wrong(pacekeeper: Run, founding: Any, tmp_path: Path) -> None:
    def assemble(*signatures: Path) -> Any:
        options = [word for path in signatures for word in ("--signature", path)]
        identities = founding.identity_options()
        return pacekeeper("agreement", "assemble", founding.document, *options, *identities, "--out", tmp_path / "b")

    files = [founding.root / f"{party}.sig" for party in ("norland", "sudland", "westmere", "eastholm")]
    one_sentence(assemble(*files[:3]), 2, 'party "eastholm" has not signed it')
    one_sentence(assemble(*files[:3], founding.document), 2, "a signature file is not one")
    other = tmp_path / "other.md"
    other.write_text(founding.document.read_text().replace("A test agreement", "Another agreement"))
    key = founding.root / "eastholm/keys/party.key"
    assert pacekeeper("agreement", "sign", other, "--key", key, "--out", tmp_path / "other.sig").status == 0
    one_sentence(assemble(*files[:3], tmp_path / "other.sig"), 2, "over different documents")
    key = founding.root / "norland-v/keys/statement.key"
    assert pacekeeper("agreement", "sign", founding.document, "--key", key, "--out", tmp_path / "v.sig").status == 0
    one_sentence(assemble(*files, tmp_path / "v.sig"), 2, "a key signed it that is no party's")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("damage", ["", "pacekeeper-ed25519-seed-v1\nAAAA\n", "-----BEGIN PRIVATE KEY-----\n"])
def test_a_damaged_key_exits_5(pacekeeper: Run, founding: Any, damage: str, tmp_path: Path) -> None:
    """SPEC cli-6."""
    key = founding.root / "norland/keys/party.key"
    key.write_text(damage)
    outcome = pacekeeper("agreement", "sign", founding.document, "--key", key, "--out", tmp_path / "s")
    one_sentence(outcome, 5, str(key), "unsafe-state")


def test_a_key_that_others_can_read_or_that_is_gone_exits_5(pacekeeper: Run, founding: Any, tmp_path: Path) -> None:
    """SPEC cli-6."""
    key = founding.root / "norland/keys/party.key"
    arguments = ("agreement", "sign", founding.document, "--key", key, "--out", tmp_path / "s")
    key.chmod(0o640)
    one_sentence(pacekeeper(*arguments), 5, "run chmod 600")
    key.unlink()
    one_sentence(pacekeeper(*arguments), 5, "No such file")


def test_missing_files_are_named(pacekeeper: Run, tmp_path: Path) -> None:
    """SPEC cli-1, cli-2."""
    for words in (("agreement", "show"), ("agreement", "lint")):
        one_sentence(pacekeeper(*words, tmp_path / "no\x1b[2J.md"), 2, "no\\u{1b}[2J.md", "No such file")
