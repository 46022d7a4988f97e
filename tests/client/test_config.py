"""Configuration files: strict, and every fault is one sentence that names file and key."""

import stat
from pathlib import Path

import pytest

from pacekeeper.client.config import Config, load_config, resolve, write_config
from pacekeeper.client.errors import ConfigError


class Pool(Config):
    model: str
    count: int


class Settings(Config):
    bundle: str
    listen: str = "127.0.0.1:0"
    pools: tuple[Pool, ...] = ()


def test_a_good_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    write_config(path, '# comment\nbundle = "bundle"\n[[pools]]\nmodel = "cpu"\ncount = 2\n')
    settings = load_config(path, Settings)
    assert settings == Settings(bundle="bundle", pools=(Pool(model="cpu", count=2),))
    assert settings.listen == "127.0.0.1:0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'missing required key "bundle"'),
        ("bundle = 1", "bundle: "),
        ('bundle = "b"\nlisten_on = "x"', 'unknown key "listen_on"'),
        ('bundle = "b"\n[[pools]]\nmodel = "m"\ncount = "2"', "pools[0].count: "),
        ('bundle = "b"\n[[pools]]\nmodel = "m"\ncount = true', "pools[0].count: "),
        ('bundle = "b"\n[[pools]]\nmodel = "m"\ncount = 2.5', "pools[0].count: "),
        ('bundle = "b"\n[[pools]]\nmodel = "m"\ncount = 1\nhidden = 2', "pools[0]: "),
        ('bundle = "b"\nbundle = "c"', "not TOML"),
        ("bundle = ", "not TOML"),
        ('bundle = "\x00"', "not TOML"),
    ],
)
def test_a_fault_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    """SPEC transport-11: unknown key, missing key, wrong type: refused."""
    path = tmp_path / "lab.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, Settings)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_key_with_a_terminal_sequence_is_shown_inert(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text('bundle = "b"\n"\\u001b[2J" = 1')
    with pytest.raises(ConfigError) as caught:
        load_config(path, Settings)
    assert "\x1b" not in str(caught.value)


def test_files_that_cannot_be_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml cannot be read"):
        load_config(tmp_path / "missing.toml", Settings)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, Settings)
    path = tmp_path / "a.toml"
    path.write_bytes(b'bundle = "b"\nlisten = "\xff"\n')
    with pytest.raises(ConfigError, match="not UTF-8 in line 2"):
        load_config(path, Settings)
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(ConfigError, match="too long"):
        load_config(path, Settings)


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    assert resolve(tmp_path / "roles" / "log.toml", "keys/a.key") == tmp_path / "roles" / "keys" / "a.key"
    assert resolve(tmp_path / "log.toml", "/var/lib/x") == Path("/var/lib/x")


def test_a_configuration_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.toml"
    write_config(path, "a = 1\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(ConfigError, match="exists already"):
        write_config(path, "a = 2\n")
    assert path.read_text() == "a = 1\n"
