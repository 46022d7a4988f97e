"""`pacekeeper audit`: re-derive the whole record from a log and one fingerprint."""

from __future__ import annotations

import os
import time

import click

from pacekeeper.cli.console import Sentence, echo_json, progress, sentences


@click.command()
@click.argument("location", metavar="URL|DIR")
@click.option("--fingerprint", required=True, help="SHA-256 of the agreement's document, 64 hexadecimal digits.")
@click.option("--at", type=int, help="Replay only this many entries of the same tree.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("--jobs", type=click.IntRange(0, 64), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--offline", is_flag=True, help="Do not ask the verifiers of a live log directly.")
@sentences
def command(location: str, fingerprint: str, at: int | None, as_json: bool, jobs: int, offline: bool) -> int:
    """Verify every entry, tile, signature and the quorum of the log at URL or in DIR, replay it, and report.

    Exit status: 0 verified and compliant; 1 verified, with violations; 2 usage; 3 verification failed; 4 no answer, or
    the live log is stale.
    """
    from pacekeeper.audit.export import export
    from pacekeeper.audit.live import cross_check, stale_ms
    from pacekeeper.audit.report import write_report
    from pacekeeper.audit.result import Exit
    from pacekeeper.audit.verify import audit
    from pacekeeper.client.collector import settle
    from pacekeeper.client.fetch import open_source
    from pacekeeper.protocol.text import printable
    from pacekeeper.protocol.units import format_duration

    try:
        wanted = bytes.fromhex(fingerprint)
    except ValueError:
        wanted = b""
    if len(wanted) != 32:
        raise Sentence("a fingerprint has 64 hexadecimal digits", 2)
    live = "://" in location
    source = open_source(location)
    settle()
    try:
        with progress("auditing") as report_progress:
            try:
                result = audit(source, wanted, at=at, jobs=jobs, progress=report_progress)
            except ValueError as error:
                raise Sentence(str(error), 2) from None
        said = cross_check(source, result) if live and not offline else ["view not cross-checked: nobody was asked"]
    finally:
        source.close()
    for sentence in said:
        click.echo(printable(sentence), err=True)
    if as_json:
        echo_json(export(result))
    else:
        click.echo(write_report(result), nl=False)
    if result.status == Exit.FAILED or result.head is None or result.state is None:
        return int(result.status)
    age, stale = stale_ms(result, int(time.time() * 1000))
    stale_words = "; STALE" if stale else ""
    click.echo(f"freshness: the head is {format_duration(age // 1000 * 1000)} old{stale_words}", err=True)
    return int(Exit.TEMPORARY if stale and live else result.status)
