"""`pacekeeper commitment new, lint`: from a template to a document that can be proposed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from pacekeeper.cli.console import DIRECTORY, FILE, Sentence, echo_json, sentences

TEMPLATES: Final = ("pause", "growth", "bilateral", "triggered-pause", "accession", "exit")


@click.command()
@click.option("--template", type=click.Choice(TEMPLATES), required=True, help="What to begin with.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Fill in a placeholder; repeat.")
@click.option("--out", type=FILE, required=True, help="The document to write.")
@sentences
def new(template: str, settings: tuple[str, ...], out: Path) -> None:
    """Write a commitment from a template. Fill in what remains, read it, edit it, lint it, then propose it."""
    from pacekeeper.cli.commitments.drafting import fill_in, parse_settings
    from pacekeeper.client.keyfiles import write_public

    text, left = fill_in(template, parse_settings(settings))
    write_public(out, text.encode())
    click.echo(f"wrote {out}")
    if left:
        click.echo(f"still to fill in: {', '.join(left)}")
    click.echo(f"next: pacekeeper commitment lint {out}")


@click.command()
@click.argument("document", type=FILE)
@click.option("--bundle", type=DIRECTORY, help="The agreement bundle, to check whom the document names.")
@click.option("--json", "as_json", is_flag=True, help="Problems as JSON.")
@sentences
def lint(document: Path, bundle: Path | None, as_json: bool) -> None:
    """List everything that is wrong with a commitment, with line numbers. Exit status 2 if it cannot be proposed."""
    # SPEC cli-5: a fault of a document MUST be shown with its line number.
    from pacekeeper.cli.commitments.drafting import lint as look
    from pacekeeper.cli.commitments.drafting import read_document
    from pacekeeper.protocol.text import count_of, printable

    problems = look(read_document(document), bundle)
    if as_json:
        echo_json([{"line": p.line, "severity": p.severity, "message": p.message} for p in problems])
    else:
        where = printable(str(document), 1_000)
        for problem in problems:
            click.echo(f"{where}:{problem.line}: {problem.severity}: {printable(problem.message)}")
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        raise Sentence(f"{document} cannot be proposed: {count_of(errors, 'error')}", 2)
    unchecked = "" if bundle else "; whom it names was not checked, which takes --bundle"
    click.echo(
        f"{printable(str(document), 1_000)} compiles; {count_of(len(problems), 'warning')}{unchecked}", err=as_json
    )


COMMANDS: Final = (new, lint)
