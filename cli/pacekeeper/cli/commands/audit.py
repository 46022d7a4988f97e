"""`pacekeeper audit`: re-derive the whole record from a log and one fingerprint."""

from __future__ import annotations

import os

import click

from pacekeeper.cli.console import echo_json, sentences


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
    from pacekeeper.audit.report import write_report
    from pacekeeper.audit.result import AuditResult
    from pacekeeper.cli.auditing import audited

    def show(result: AuditResult) -> None:
        if as_json:
            echo_json(export(result))
        else:
            click.echo(write_report(result), nl=False)

    return audited(location, fingerprint, at=at, jobs=jobs, offline=offline, show=show)
