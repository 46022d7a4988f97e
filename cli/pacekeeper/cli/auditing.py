"""What every command does that reads a log in order to believe it: audit it, ask its verifiers, say how fresh it is."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from pacekeeper.audit.live import cross_check, stale_ms
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.audit.verify import audit
from pacekeeper.cli.console import USAGE, Sentence, progress
from pacekeeper.cli.copies import open_copy
from pacekeeper.client.collector import settle
from pacekeeper.client.fetch import open_source
from pacekeeper.protocol.text import printable
from pacekeeper.protocol.units import format_duration


def parse_fingerprint(text: str) -> bytes:
    """Read 64 hexadecimal digits, or raise Sentence."""
    try:
        fingerprint = bytes.fromhex(text)
    except ValueError:
        fingerprint = b""
    if len(fingerprint) != 32:
        raise Sentence("a fingerprint has 64 hexadecimal digits", USAGE)
    return fingerprint


def audited(
    location: str,
    fingerprint: str,
    *,
    at: int | None,
    at_ms: int | None = None,
    jobs: int,
    offline: bool,
    show: Callable[[AuditResult], None],
    copied: bool = False,
) -> int:
    """Audit the log at a place, let `show` print what was found, and return the exit status.

    copied: whether what was read of a live log before is taken from the user's copy, and what is read now added to it.
    Who was asked, and how fresh the head is, goes to standard error.
    """
    wanted = parse_fingerprint(fingerprint)
    live = "://" in location
    source = open_source(location)
    copy = open_copy(wanted, no_cache=not (copied and live))
    settle()
    try:
        with progress("auditing") as report_progress:
            try:
                result = audit(source, wanted, at=at, at_ms=at_ms, jobs=jobs, progress=report_progress, copy=copy)
            except ValueError as error:
                raise Sentence(str(error), USAGE) from None
        said = cross_check(source, result) if live and not offline else ["view not cross-checked: nobody was asked"]
    finally:
        source.close()
    for sentence in said:
        click.echo(printable(sentence), err=True)
    show(result)
    if result.status == Exit.FAILED or result.head is None or result.state is None:
        return int(result.status)
    age, stale = stale_ms(result, int(time.time() * 1000))
    stale_words = "; STALE" if stale else ""
    click.echo(f"freshness: the head is {format_duration(age // 1000 * 1000)} old{stale_words}", err=True)
    return int(Exit.TEMPORARY if stale and live else result.status)
