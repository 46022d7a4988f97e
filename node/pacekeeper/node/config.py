"""A lab's configuration, lab.toml: read strictly, units parsed, checked against the agreement.

bundle = "bundle"                 # the agreement bundle
lab = "borealis"
state = "state"
socket = "state/gate.sock"        # where training processes find the daemon
spool = "state/spool"             # where they leave their accounts while it is away
key = "keys/lab.key"
next_key = "keys/lab.next.key"     # where the key that follows it lies, or will
tls_key = "keys/tls.pem"
tls_certificate = "keys/tls.crt.pem"
on_daemon_down = "continue"       # or "hold": what training does while the daemon is away
auto_declare = true               # whether a job may open a run that was not declared
chip_time_margin = "60 %"
job_timeout = "30 s"              # a silent job's accelerators are free again after that
accession = "accession.md"        # only for a lab that is no founder's: the commitment's document by which it joins

[[pools]]
model = "h100-sxm"
count = 8
peak = "990e12 FLOP/s"            # fastest dense mode, of one accelerator
utilisation = "40 %"

[drill]                           # an exercise, never for a real account: specs/node.md
hold_periods = [17]
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from pacekeeper.client.bundle import Bundle, load_bundle
from pacekeeper.client.config import Config, load_config, resolve
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.newcomers import with_newcomers
from pacekeeper.node.records import Pool
from pacekeeper.protocol import limits, units
from pacekeeper.protocol.documents.agreement import Agreement, Lab
from pacekeeper.protocol.readings import is_id
from pacekeeper.protocol.text import printable
from pacekeeper.v1 import statements_pb2 as pb

MAX_CHIPS: Final = 10_000_000  # of one model; more than were ever made of any
COPY_FOLDER: Final = "log-copy"  # of the state directory
MAX_SOCKET_PATH_BYTES: Final = 107  # sun_path has 108 bytes, the last one zero

_T = TypeVar("_T")


class PoolConfig(Config):
    """[[pools]]"""

    model: str
    count: int
    peak: str
    utilisation: str = "40 %"


class DrillConfig(Config):
    """[drill]"""

    hold_periods: tuple[int, ...] = ()
    fill_in: bool = True


class LabConfig(Config):
    """lab.toml"""

    bundle: str
    lab: str
    state: str
    key: str
    tls_key: str
    tls_certificate: str
    pools: list[PoolConfig]
    socket: str = "state/gate.sock"
    spool: str = "state/spool"
    on_daemon_down: Literal["continue", "hold"] = "continue"
    auto_declare: bool = True
    chip_time_margin: str = "60 %"
    next_key: str = ""
    job_timeout: str = "30 s"
    accession: str = ""
    drill: DrillConfig = msgspec.field(default_factory=DrillConfig)


@dataclass(frozen=True)
class LabSettings:
    """The configuration with paths resolved, units parsed, and every part checked against the agreement."""

    path: Path
    bundle: Bundle
    lab: Lab
    state: Path
    socket: Path
    spool: Path
    key: Path
    next_key: Path | None
    tls_key: Path
    tls_certificate: Path
    on_daemon_down: str
    auto_declare: bool
    pools: tuple[Pool, ...]
    chip_time_margin_ppm: int
    job_timeout_ms: int
    hold_periods: frozenset[int]
    fill_in_held: bool

    @property
    def agreement(self) -> Agreement:
        return self.bundle.agreement

    @property
    def log_copy(self) -> Path:
        """Where the daemon keeps what it has read of the log. It may be removed at any time."""
        return self.state / COPY_FOLDER


def load_settings(path: Path) -> LabSettings:
    """Return the settings of a lab. ConfigError names the file and the key that is wrong."""
    config = load_config(path, LabConfig)
    bundle = load_bundle(resolve(path, config.bundle))
    accession = resolve(path, config.accession) if config.accession else None
    labs = with_newcomers(bundle.agreement, accession).labs
    lab = next((lab for lab in labs if lab.id == config.lab), None)
    if lab is None:
        raise ConfigError(f'{path}: lab: the agreement has no lab "{printable(config.lab, 64)}"')
    if any(period < 0 for period in config.drill.hold_periods):
        raise ConfigError(f"{path}: drill.hold_periods: periods count from 0")
    return LabSettings(
        path=path,
        bundle=bundle,
        lab=lab,
        state=resolve(path, config.state),
        socket=check_socket_path(resolve(path, config.socket), f"{path}: socket"),
        spool=resolve(path, config.spool),
        key=resolve(path, config.key),
        next_key=resolve(path, config.next_key) if config.next_key else None,
        tls_key=resolve(path, config.tls_key),
        tls_certificate=resolve(path, config.tls_certificate),
        on_daemon_down=config.on_daemon_down,
        auto_declare=config.auto_declare,
        pools=_pools(path, config.pools),
        chip_time_margin_ppm=_chip_time_margin(path, config.chip_time_margin, bundle.agreement),
        job_timeout_ms=_parse(path, "job_timeout", units.parse_duration, config.job_timeout),
        hold_periods=frozenset(config.drill.hold_periods),
        fill_in_held=config.drill.fill_in,
    )


def check_socket_path(socket: Path, where: str) -> Path:
    """Return a path that a Unix socket can have, else ConfigError."""
    length = len(os.fsencode(socket))
    if length > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"{where}: {socket} has {length} bytes, and a Unix socket's path at most {MAX_SOCKET_PATH_BYTES}; "
            "choose a shorter one"
        )
    return socket


def _pools(path: Path, configured: list[PoolConfig]) -> tuple[Pool, ...]:
    if not 1 <= len(configured) <= limits.MAX_POOLS:
        raise ConfigError(f"{path}: pools: a lab has 1 to {limits.MAX_POOLS} pools")
    pools: list[Pool] = []
    for number, pool in enumerate(configured):
        where = f"pools[{number}]"
        if not is_id(pool.model):
            raise ConfigError(f"{path}: {where}.model: expected lower-case letters, digits and hyphens")
        if not 1 <= pool.count <= MAX_CHIPS:
            raise ConfigError(f"{path}: {where}.count: expected 1 to {MAX_CHIPS}")
        peak = _parse(path, f"{where}.peak", units.parse_rate, pool.peak)
        utilisation = _parse(path, f"{where}.utilisation", units.parse_percent, pool.utilisation)
        if not peak or not utilisation:
            raise ConfigError(f"{path}: {where}: peak and utilisation are above zero")
        pools.append(Pool(pool.model, pool.count, peak, utilisation))
    if len({pool.model for pool in pools}) != len(pools):
        raise ConfigError(f"{path}: pools: two pools of one model; add up their counts")
    return tuple(pools)


def _chip_time_margin(path: Path, text: str, agreement: Agreement) -> int:
    margin = _parse(path, "chip_time_margin", units.parse_percent, text)
    allowed = agreement.margins.get(pb.METHOD_CHIP_TIME)
    if allowed is not None and margin > allowed:
        raise ConfigError(f"{path}: chip_time_margin: the agreement allows at most {allowed / 10_000:g} %")
    return margin


def _parse(path: Path, key: str, parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{path}: {key}: {printable(str(error))}") from None
