"""`pacekeeper witness`: what init writes, what add-log takes, and what each refuses in a sentence."""

from __future__ import annotations

from pathlib import Path

from agreements import signing_key
from click.testing import CliRunner, Result

from pacekeeper.cli.main import pacekeeper
from pacekeeper.protocol.tlog.note import COSIGNATURE_V1, ED25519, NoteKey, format_vkey, parse_vkey
from pacekeeper.verifier.public.settings import load_settings

NAME = "witness.example/one"


def run(*words: object) -> Result:
    return CliRunner().invoke(pacekeeper, ["witness", *map(str, words)])


def vkey(name: str, algorithm: int = ED25519) -> str:
    return format_vkey(NoteKey(name, algorithm, signing_key(name).public))


def test_init_makes_two_keys_and_says_who_they_are(tmp_path: Path) -> None:
    result = run("init", tmp_path / "w", "--name", NAME)
    assert result.exit_code == 0, result.output
    settings = load_settings(tmp_path / "w" / "witness.toml")
    assert [parse_vkey(line) for line in result.output.split("\n")[1:3]] == list(settings.vkeys)
    assert run("keys", tmp_path / "w" / "witness.toml").output.split("\n")[:2] == result.output.split("\n")[1:3]
    assert (settings.name, settings.host, settings.port, dict(settings.logs)) == (NAME, "127.0.0.1", 7821, {})


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """SPEC cli-4."""
    run("init", tmp_path / "w", "--name", NAME)
    key = (tmp_path / "w" / "keys" / "cosign.key").read_bytes()
    again = run("init", tmp_path / "w", "--name", NAME)
    assert again.exit_code == 2
    assert (tmp_path / "w" / "keys" / "cosign.key").read_bytes() == key


def test_bad_names_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    for name in ("", "two words", "a+b", 'a"b', "a\\b"):
        assert run("init", tmp_path / "w", "--name", name).exit_code == 2, name
    assert not (tmp_path / "w").exists()


def test_logs_are_added_by_their_key(tmp_path: Path) -> None:
    run("init", tmp_path / "w", "--name", NAME)
    config = tmp_path / "w" / "witness.toml"
    assert run("add-log", config, vkey("example.org/one")).exit_code == 0
    assert run("add-log", config, vkey("key-of-two"), "--origin", 'two "quoted" \\ back').exit_code == 0
    logs = load_settings(config).logs
    assert list(logs) == ["example.org/one", 'two "quoted" \\ back']
    before = config.read_text()
    for words in (
        (vkey("example.org/one"),),
        (vkey("example.org/cosigner", COSIGNATURE_V1),),
        ("nonsense",),
        (vkey("example.org/three")[:-1] + "A",),
    ):
        result = run("add-log", config, *words)
        assert result.exit_code == 2, words
        assert result.output.startswith("pacekeeper: ")
        assert config.read_text() == before


def test_a_damaged_configuration_is_one_sentence(tmp_path: Path) -> None:
    """SPEC transport-11: no key, an unknown word, a log twice, an address that is none."""
    run("init", tmp_path / "w", "--name", NAME)
    config = tmp_path / "w" / "witness.toml"
    good = config.read_text()
    log = f'\n[[logs]]\norigin = "o"\nkeys = ["{vkey("o")}"]\n'
    for bad in (
        good.replace('key = "keys/cosign.key"', "").replace('mldsa_key = "keys/cosign-mldsa.key"', ""),
        good + "\nunknown = 1\n",
        good + log + log,
        good + '\n[[logs]]\norigin = ""\nkeys = []\n',
        good.replace("127.0.0.1:7821", "nowhere"),
        good.replace(NAME, "two words"),
    ):
        config.write_text(bad)
        result = run("serve", config)
        assert result.exit_code == 2, bad
        assert result.output.count("\n") == 1
