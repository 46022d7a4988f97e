"""The public witness's configuration, and everything that it names, loaded and checked before anything starts.

name = "witness.example/one"
state = "state"
listen = "127.0.0.1:7821"
key = "keys/cosign.key"                  Ed25519
mldsa_key = "keys/cosign-mldsa.key"      ML-DSA-44; either may be left out, not both

[[logs]]
origin = "example.org/pacekeeper"
keys = ["example.org/pacekeeper+f6ea3373+AUD1..."]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacekeeper.client.config import Config, load_config, resolve
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.keyfiles import load_key, load_mldsa_key
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.text import printable
from pacekeeper.protocol.tlog.note import COSIGNATURE_V1, ED25519, ML_DSA_44, NoteKey, parse_vkey
from pacekeeper.protocol.tlog.vkey import is_key_name
from pacekeeper.verifier.public.desk import Signer

MAX_LOGS: Final = 1_000


class LogTable(Config):
    """A log that is witnessed: its origin, and the vkeys of algorithm 1 that sign its checkpoints."""

    origin: str
    keys: list[str]


class WitnessConfig(Config):
    """witness.toml. Paths are relative to its directory; port 0 takes any free port."""

    name: str
    state: str
    listen: str
    key: str = ""
    mldsa_key: str = ""
    logs: tuple[LogTable, ...] = ()


@dataclass(frozen=True)
class WitnessSettings:
    """What the configuration names, loaded. key_path is that of the key whose marker guards the state."""

    name: str
    signers: tuple[Signer, ...]
    vkeys: tuple[NoteKey, ...]
    key_path: Path
    logs: Mapping[str, tuple[NoteKey, ...]]
    state: Path
    host: str
    port: int


def load_settings(path: Path) -> WitnessSettings:
    """Load a configuration. ConfigError names the file and the key; Refused(unsafe-state) a key file."""
    config = load_config(path, WitnessConfig)
    if not is_key_name(config.name) or len(config.name.encode()) > 255:
        raise ConfigError(f"{path}: name: 1 to 255 bytes, without spaces, control characters and plus signs")
    files = [resolve(path, name) for name in (config.key, config.mldsa_key) if name]
    if not files:
        raise ConfigError(f"{path}: key: a witness needs an Ed25519 key, an ML-DSA-44 key or both")
    signers: list[Signer] = []
    signers += [load_key(resolve(path, config.key))] if config.key else []
    signers += [load_mldsa_key(resolve(path, config.mldsa_key))] if config.mldsa_key else []
    host, separator, port = config.listen.rpartition(":")
    if not host or not separator or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f'{path}: listen: expected an address such as "127.0.0.1:7821"')
    return WitnessSettings(
        name=config.name,
        signers=tuple(signers),
        vkeys=tuple([_vkey(config.name, signer) for signer in signers]),
        key_path=files[0],
        logs=_logs(path, config.logs),
        state=resolve(path, config.state),
        host=host.strip("[]"),
        port=int(port),
    )


def _vkey(name: str, signer: Signer) -> NoteKey:
    return NoteKey(name, COSIGNATURE_V1 if isinstance(signer, SigningKey) else ML_DSA_44, signer.public)


def _logs(path: Path, tables: Sequence[LogTable]) -> dict[str, tuple[NoteKey, ...]]:
    if len(tables) > MAX_LOGS:
        raise ConfigError(f"{path}: logs: at most {MAX_LOGS}")
    found: dict[str, tuple[NoteKey, ...]] = {}
    for number, table in enumerate(tables, start=1):
        where = f"{path}: log {number}"
        if not table.origin or not table.keys:
            raise ConfigError(f"{where}: an origin and at least one key")
        if table.origin in found:
            raise ConfigError(f'{where}: "{printable(table.origin)}" is there twice')
        found[table.origin] = tuple([parse_log_key(text, where) for text in table.keys])
    return found


def parse_log_key(text: str, where: str) -> NoteKey:
    """Read a vkey with which a log signs its checkpoints. ConfigError, beginning with where."""
    try:
        key = parse_vkey(text)
    except (ValueError, Refused) as error:
        raise ConfigError(f"{where}: {printable(str(error))}") from None
    if key.algorithm != ED25519:
        raise ConfigError(f"{where}: {printable(key.name)} is the key of a cosigner, not of a log")
    return key
