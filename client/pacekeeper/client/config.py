"""A role's configuration: one strict TOML file per role, whose paths are relative to the file's own directory.

A key that the role does not know, a missing key, a value of another type: a ConfigError that names file and key, since
a setting that is silently ignored is worse than a role that does not start.

Example:
    class LogConfig(Config):
        bundle: str
        listen: str
    config = load_config(Path("log.toml"), LogConfig)
    bundle = load_bundle(resolve(Path("log.toml"), config.bundle))
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from pacekeeper.client.errors import ConfigError
from pacekeeper.client.keyfiles import write_public
from pacekeeper.client.reading import read_bounded
from pacekeeper.protocol.text import printable

_MAX_BYTES: Final = 262_144  # a lab with hundreds of pools stays far below
_WHERE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<key>.*)`)?$", re.DOTALL)


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """Base of every configuration struct, nested ones too: unknown keys are refused."""


ConfigT = TypeVar("ConfigT", bound=Config)


def load_config(path: Path, kind: type[ConfigT]) -> ConfigT:
    """Return the file's settings as a struct of this kind. ConfigError names the file, and the key where there is one.

    SPEC transport-11: a configuration with an unknown key, a missing key or a value of the wrong type MUST be refused.
    """
    text = _read(path)
    try:
        return msgspec.toml.decode(text, type=kind, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_sentence(str(error))}") from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is not TOML: {printable(str(error))}") from None


def resolve(config_path: Path, relative: str) -> Path:
    """Return a path that a configuration names, relative to the configuration's directory unless absolute."""
    return config_path.resolve().parent / Path(relative).expanduser()


def write_config(path: Path, text: str) -> None:
    """Write a new configuration file with mode 0644. ConfigError if anything is there already."""
    write_public(path, text.encode())


def _read(path: Path) -> str:
    data = read_bounded(path, _MAX_BYTES)
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path} is too long for a configuration, at most {_MAX_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} is not UTF-8 in line {line}") from None


def _sentence(message: str) -> str:
    """Turn msgspec's "Expected `int`, got `str` - at `$.pools[0].count`" into a sentence that begins with the key."""
    match = _WHERE.match(message)
    assert match is not None  # every part of the pattern may be empty
    what = printable(match["what"]).replace("`", '"').replace("Object", "table").replace("unknown field", "unknown key")
    what = what.replace("required field", "required key")
    key = (match["key"] or "").removeprefix(".")
    return f"{printable(key)}: {what}" if key else what
