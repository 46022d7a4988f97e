"""One log process per state directory: an advisory lock that the kernel releases when the process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from pacekeeper.protocol.errors import Code, Refused


class StateLock:
    """Holds `<state>/lock` from construction to exit.

    SPEC log-5: a second process on one state directory MUST refuse to start. Refused(unsafe-state).
    """

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._file = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise Refused(Code.UNSAFE_STATE, f"another log process holds {state / 'lock'}") from None

    def release(self) -> None:
        """Let another process start."""
        os.close(self._file)

    def __enter__(self) -> StateLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
