"""`pacekeeper commitment status, simulate`: how commitments stand on a log, and what one would do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from pacekeeper.cli.console import DIRECTORY, FILE, Sentence, echo_json, sentences
from pacekeeper.cli.copies import no_cache_option


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.argument("location", metavar="URL|DIR")
@click.option("--fingerprint", required=True, help="SHA-256 of the agreement's document, 64 hexadecimal digits.")
@click.option("--at", type=int, help="As it stood after this many entries of the same tree.")
@click.option(
    "--at-time",
    "at_time",
    metavar="TIME",
    help="As it stood at this log time, RFC 3339 UTC, or would if all is silent.",
)
@click.option("--save", type=FILE, help="Write the document of the one ID, as it is on the log, to this file.")
@click.option("--json", "as_json", is_flag=True, help="As JSON: a list, times in milliseconds since 1970 UTC.")
@click.option("--jobs", type=click.IntRange(0, 64), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--offline", is_flag=True, help="Do not ask the verifiers of a live log directly.")
@no_cache_option
@sentences
def status(
    ids: tuple[str, ...],
    location: str,
    fingerprint: str,
    at: int | None,
    at_time: str | None,
    save: Path | None,
    as_json: bool,
    jobs: int,
    offline: bool,
    no_cache: bool,
) -> int:
    """Verify and replay the log at URL or in DIR, and tell how its commitments stand and how they came to.

    With --at-time, how they stood then; or, for a time after the log's last entry, how they would stand if nothing more
    were said until then.

    Exit status: 0 verified; 2 usage, or no such commitment; 3 verification failed, and nothing is told; 4 no answer, or
    the live log is stale.
    """
    from pacekeeper.audit.result import AuditResult, Exit
    from pacekeeper.audit.story import export_commitment
    from pacekeeper.cli.auditing import audited
    from pacekeeper.cli.commitments.planning import parse_moment
    from pacekeeper.cli.commitments.telling import describe, describe_view, explain_faults, export_view, view_at
    from pacekeeper.client.keyfiles import write_public

    if save is not None and len(ids) != 1:
        raise Sentence("--save takes the document of one commitment: name its ID", 2)
    if at is not None and at_time is not None:
        raise Sentence("give either --at or --at-time", 2)
    at_ms = None if at_time is None else parse_moment(at_time, "--at-time", 0)

    def show(result: AuditResult) -> None:
        # SPEC cli-15: status MUST say nothing of a log that does not verify.
        if result.faults or result.state is None:
            raise explain_faults(result)
        state = result.state
        view = None if at_ms is None else view_at(result, at_ms)
        registry = state.commitments
        standings = [registry.standing(ident) for ident in ids] or list(registry.standings().values())
        if save is not None:
            write_public(save, standings[0].terms.document)
        if as_json:
            exported = (
                export_commitment(state, one) if view is None else export_view(state, one, view) for one in standings
            )
            echo_json(list(exported))
            return
        if view is not None:
            click.echo(describe_view(state, view))
        for standing in standings:
            click.echo("\n".join(describe(state, standing, view)))
        if not standings:
            click.echo("no commitment has been proposed")

    found = audited(
        location, fingerprint, at=at, at_ms=at_ms, jobs=jobs, offline=offline, show=show, copied=not no_cache
    )
    return 0 if found == Exit.VIOLATIONS else found


@click.command()
@click.argument("document", type=FILE)
@click.option("--bundle", type=DIRECTORY, required=True, help="The agreement bundle: who the participants are.")
@click.option(
    "--pledge",
    "pledges",
    multiple=True,
    required=True,
    metavar="ID[:DEMANDS][@TIME]",
    help='A pledge, such as "norland:parties>=3, labs>=1|with sudland@2026-02-01T00:00:00Z"; repeat.',
)
@click.option("--withdraw", "withdrawals", multiple=True, metavar="ID[@TIME]", help="A withdrawal; repeat.")
@click.option("--lift", "lifts", multiple=True, metavar="ID[@TIME]", help="A word for lifting it; repeat.")
@click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="INDICATOR:REPORTER:VALUE[@TIME]",
    help='An indicator report, such as "merged-code:borealis:85 %@TIME"; repeat.',
)
@click.option(
    "--clean", multiple=True, metavar="ID:PERIODS", help="Periods without violation; default: enough. Repeat."
)
@click.option("--proposer", metavar="ID", help="Who proposes it; default: who pledges first.")
@click.option("--from", "from_text", metavar="TIME", help="When it is proposed, RFC 3339 UTC; default: now.")
@click.option("--until", metavar="TIME", help="How far to look; default: until all this has first taken effect.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with every collapse set that was found.")
@sentences
def simulate(
    document: Path,
    bundle: Path,
    pledges: tuple[str, ...],
    proposer: str | None,
    from_text: str | None,
    until: str | None,
    as_json: bool,
    **acts: tuple[str, ...],
) -> None:
    """Foresee what the commitment of DOCUMENT would do: who would be bound, what is in force when, whose exit would
    collapse it, and what each lab's gate would be told. Asks nobody and signs nothing.
    """
    import time

    from pacekeeper.cli.commitments.drafting import check_document
    from pacekeeper.cli.commitments.foresight import describe_foresight, export_foresight
    from pacekeeper.cli.commitments.planning import first_consequences_ms, parse_moment, plan
    from pacekeeper.client.bundle import load_bundle
    from pacekeeper.protocol.commitments.simulate import foresee
    from pacekeeper.protocol.replay.participants import members_of

    agreement = load_bundle(bundle).agreement
    terms, members = check_document(document, agreement), members_of(agreement)
    from_ms = parse_moment(from_text, "--from", int(time.time()) * 1000)
    steps = plan(members, from_ms, pledges=pledges, **acts)
    until_ms = parse_moment(until, "--until", first_consequences_ms(terms, steps))
    first = next(step.who for step in steps if step.action == "pledge")
    foresight = foresee(terms, members, proposer or first, from_ms, steps, max(until_ms, from_ms))
    if as_json:
        echo_json(export_foresight(foresight, until_ms))
    else:
        click.echo("\n".join(describe_foresight(foresight, until_ms)))


COMMANDS: Final = (status, simulate)
