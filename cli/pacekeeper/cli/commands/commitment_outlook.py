"""`pacekeeper commitment status`: how commitments stand on a log."""

from __future__ import annotations

import os
from typing import Final

import click

from pacekeeper.cli.console import echo_json, sentences


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.argument("location", metavar="URL|DIR")
@click.option("--fingerprint", required=True, help="SHA-256 of the agreement's document, 64 hexadecimal digits.")
@click.option("--at", type=int, help="As it stood after this many entries of the same tree.")
@click.option("--json", "as_json", is_flag=True, help="As JSON: a list, times in milliseconds since 1970 UTC.")
@click.option("--jobs", type=click.IntRange(0, 64), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--offline", is_flag=True, help="Do not ask the verifiers of a live log directly.")
@sentences
def status(
    ids: tuple[str, ...], location: str, fingerprint: str, at: int | None, as_json: bool, jobs: int, offline: bool
) -> int:
    """Verify and replay the log at URL or in DIR, and tell how its commitments stand and how they came to.

    Exit status: 0 verified; 2 usage, or no such commitment; 3 verification failed, and nothing is told; 4 no answer, or
    the live log is stale.
    """
    from pacekeeper.audit.result import AuditResult, Exit
    from pacekeeper.audit.story import export_commitment
    from pacekeeper.cli.auditing import audited
    from pacekeeper.cli.commitments.telling import describe, explain_faults

    def show(result: AuditResult) -> None:
        # SPEC cli-15: status MUST say nothing of a log that does not verify.
        if result.faults or result.state is None:
            raise explain_faults(result)
        registry = result.state.commitments
        standings = [registry.standing(ident) for ident in ids] or list(registry.standings().values())
        if as_json:
            echo_json([export_commitment(result.state, standing) for standing in standings])
            return
        for standing in standings:
            click.echo("\n".join(describe(result.state, standing)))
        if not standings:
            click.echo("no commitment has been proposed")

    found = audited(location, fingerprint, at=at, jobs=jobs, offline=offline, show=show)
    return 0 if found == Exit.VIOLATIONS else found


COMMANDS: Final = (status,)
