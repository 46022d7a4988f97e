"""Where a meter finds its daemon and its spool, and what it does while the daemon is away.

Arguments win over the environment: PACEKEEPER_SOCKET, PACEKEEPER_SPOOL, PACEKEEPER_ON_DAEMON_DOWN ("continue" or
"hold"). `pacekeeper lab run` and `lab exec` set them for the job that they start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

SOCKET_VARIABLE: Final = "PACEKEEPER_SOCKET"
SPOOL_VARIABLE: Final = "PACEKEEPER_SPOOL"
POLICY_VARIABLE: Final = "PACEKEEPER_ON_DAEMON_DOWN"
MAX_SOCKET_PATH_BYTES: Final = 107  # sun_path has 108 bytes, the last one zero


class OnDaemonDown(StrEnum):
    """What training does while the daemon is away: go on and spool, or hold at the next step until it is back."""

    CONTINUE = "continue"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class MeterSettings:
    """Valid by construction: a socket path that a Unix socket can have, a spool directory that exists."""

    socket: Path
    spool: Path
    on_daemon_down: OnDaemonDown = OnDaemonDown.CONTINUE
    report_s: float = 1.0  # how often usage goes to the daemon, and a decision comes back
    loss_s: float = (
        1.25  # how long neither daemon nor spool file may have what was counted: what a killed process loses
    )
    spool_s: float = 10.0  # how often the spool file is rewritten though the daemon has acknowledged everything
    call_s: float = 2.0  # the deadline of one call
    close_s: float = 5.0  # how long close() waits for the daemon before it leaves the rest to the spool

    def __post_init__(self) -> None:
        if len(os.fsencode(self.socket)) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(
                f"the socket path {self.socket} is longer than {MAX_SOCKET_PATH_BYTES} bytes, which no Unix socket "
                f"can have: choose a shorter directory for the daemon's socket"
            )
        if not self.spool.is_dir():
            raise ValueError(f"the spool directory {self.spool} does not exist; the lab daemon makes it when it starts")


def resolve_settings(
    socket: str | os.PathLike[str] | None = None,
    spool: str | os.PathLike[str] | None = None,
    on_daemon_down: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> MeterSettings:
    """Return settings from arguments, else from the environment. ValueError says what to set."""
    policy = on_daemon_down or environment.get(POLICY_VARIABLE) or OnDaemonDown.CONTINUE
    if policy not in tuple(OnDaemonDown):
        raise ValueError(f'{POLICY_VARIABLE} is "continue" or "hold", not "{policy}"')
    return MeterSettings(
        socket=Path(os.path.abspath(_given(socket, environment, SOCKET_VARIABLE, "the lab daemon's Unix socket"))),
        spool=Path(os.path.abspath(_given(spool, environment, SPOOL_VARIABLE, "the lab daemon's spool directory"))),
        on_daemon_down=OnDaemonDown(policy),
    )


def _given(
    value: str | os.PathLike[str] | None, environment: Mapping[str, str], variable: str, what: str
) -> str | os.PathLike[str]:
    chosen = value or environment.get(variable)
    if not chosen:
        raise ValueError(f"the meter needs {what}: pass it, or set {variable}")
    return chosen
