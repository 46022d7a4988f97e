"""Ties a command to the process that started it: when that process is killed, the command gets SIGTERM.

Run as `python -m pacekeeper.node.meters.leash PARENT-PID COMMAND ARGUMENT...`; it becomes the command. Linux only;
elsewhere it just becomes the command. Exit status 127 if there is no such command, 126 if it cannot be run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> int:
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it was killed before the line above
            return 128 + signal.SIGTERM
    try:
        os.execvp(command[0], command)  # noqa: S606 - an argument list, as the caller wants it
    except FileNotFoundError:
        print(f"{command[0]}: command not found", file=sys.stderr)  # noqa: T201
        return 127
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
