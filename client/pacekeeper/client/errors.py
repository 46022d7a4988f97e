"""What can go wrong between a role and the log, apart from a refusal (`pacekeeper.protocol.errors`).

A ConfigError is the operator's to mend (exit status 2); a TemporaryFailure passes by itself or by the other side's
effort, and the same call may be made again (exit status 4).
"""

from __future__ import annotations

from enum import StrEnum


class ConfigError(Exception):
    """A file that a role was given is missing or wrong. The message is one sentence that names the file."""


class Outage(StrEnum):
    """Codes of temporary failures that no server stated; those that one did state carry a protocol `Code`."""

    UNREACHABLE = "unreachable"  # no connection, or it broke
    DEADLINE_EXCEEDED = "deadline-exceeded"  # no answer in time
    BEHIND = "behind"  # an answer that rests on entries of the log which were not followed yet
    SERVER_ERROR = "server-error"  # the server failed without a reason of the protocol


class TemporaryFailure(Exception):
    """The call had no final outcome and may be repeated as it is: submission is idempotent.

    code: an Outage, or the protocol's Code that the server stated. message: a sentence without trailing full stop; it
    may quote hostile text and is escaped where it is shown.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[TemporaryFailure], tuple[str, str]]:
        return (TemporaryFailure, (self.code, self.message))
