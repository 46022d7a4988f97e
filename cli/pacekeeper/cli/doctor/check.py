"""What a check says: how it stands, a sentence, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pacekeeper.cli.console import UNSAFE, USAGE


class Level(StrEnum):
    """How a check came out. A warning is worth a look; a failure keeps the role from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One check's outcome. unsafe: the failure is of keys or state, with which nothing may be signed."""

    name: str
    level: Level
    sentence: str
    advice: str = ""
    unsafe: bool = False


def ok(name: str, sentence: str) -> Check:
    """It is as it should be."""
    return Check(name, Level.OK, sentence)


def warn(name: str, sentence: str, advice: str) -> Check:
    """It works, or may; somebody should look."""
    return Check(name, Level.WARN, sentence, advice)


def fail(name: str, sentence: str, advice: str, *, unsafe: bool = False) -> Check:
    """The role does not work like this."""
    return Check(name, Level.FAIL, sentence, advice, unsafe)


def status_of(checks: Iterable[Check]) -> int:
    """Return the exit status.

    SPEC cli-10: the doctor MUST exit 5 if a check of keys or state failed, 2 if another one did, 0 otherwise.
    """
    failed = [check for check in checks if check.level is Level.FAIL]
    if any(check.unsafe for check in failed):
        return UNSAFE
    return USAGE if failed else 0
