"""`pacekeeper commitment new, lint, show, render, diff`: from a template to a document that can be proposed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from pacekeeper.cli.console import DIRECTORY, FILE, Sentence, echo_json, sentences

TEMPLATES: Final = ("pause", "growth", "bilateral", "triggered-pause", "accession", "exit", "keys")


@click.command()
@click.option("--template", type=click.Choice(TEMPLATES), required=True, help="What to begin with.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Fill in a placeholder; repeat.")
@click.option("--sample", is_flag=True, help="Fill in the other quantities and dates with examples, to be changed.")
@click.option("--out", type=FILE, required=True, help="The document to write.")
@sentences
def new(template: str, settings: tuple[str, ...], sample: bool, out: Path) -> None:
    """Write a commitment from a template. Fill in what remains, read it, edit it, lint it, then propose it."""
    import time

    from pacekeeper.cli.commitments import drafting
    from pacekeeper.client.keyfiles import write_public

    otherwise = drafting.sample(int(time.time()) * 1000) if sample else None
    text, left = drafting.fill_in(template, drafting.parse_settings(settings), otherwise)
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
    """List everything that is wrong with a commitment, with line numbers; if nothing is, say what its terms say.

    Exit status 2 if it cannot be proposed.
    """
    # SPEC cli-5: a fault of a document MUST be shown with its line number.
    from pacekeeper.cli.commitments.drafting import lint as look
    from pacekeeper.cli.commitments.drafting import read_document
    from pacekeeper.protocol.documents.commitment import compile_commitment
    from pacekeeper.protocol.documents.commitment_describe import describe_commitment
    from pacekeeper.protocol.text import count_of, printable

    data = read_document(document)
    problems = look(data, bundle)
    if as_json:
        echo_json([{"line": p.line, "severity": p.severity, "message": p.message} for p in problems])
    else:
        where = printable(str(document), 1_000)
        for problem in problems:
            click.echo(f"{where}:{problem.line}: {problem.severity}: {printable(problem.message)}")
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        raise Sentence(f"{document} cannot be proposed: {count_of(errors, 'error')}", 2)
    if not as_json:
        click.echo("\n".join(describe_commitment(compile_commitment(data))))
    unchecked = "" if bundle else "; whom it names was not checked, which takes --bundle"
    click.echo(
        f"{printable(str(document), 1_000)} compiles; {count_of(len(problems), 'warning')}{unchecked}", err=as_json
    )


@click.command()
@click.argument("document", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Digest and sentences as JSON, each with the table that says so.")
@sentences
def show(document: Path, as_json: bool) -> None:
    """Say in plain sentences what a commitment says: every term, and what follows from those that it leaves out."""
    from pacekeeper.cli.commitments.drafting import compile_document
    from pacekeeper.protocol.documents.commitment_describe import describe_tables

    terms = compile_document(document)
    said = describe_tables(terms)
    if as_json:
        listed = [{"table": one.table, "sentence": one.sentence} for one in said]
        echo_json({"commitment": terms.id, "digest": terms.digest.hex(), "sentences": listed})
    else:
        click.echo("\n".join(one.sentence for one in said))


@click.command()
@click.argument("document", type=FILE)
@click.option("--out", type=FILE, required=True, help="The page to write.")
@sentences
def render(document: Path, out: Path) -> None:
    """Write a commitment as one self-contained page: the prose on the left; the terms on the right, and in words."""
    from pacekeeper.cli.commitments.drafting import compile_document
    from pacekeeper.cli.commitments.page import render_page
    from pacekeeper.client.keyfiles import write_public
    from pacekeeper.protocol.documents.blocks import split_document

    terms = compile_document(document)
    page = render_page(terms, split_document(terms.document))
    write_public(out, page.encode())
    click.echo(f"wrote {out}")


@click.command()
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="The changes as JSON.")
@sentences
def diff(before: Path, after: Path, as_json: bool) -> None:
    """Compare two drafts article by article: the prose by sentences, the terms by what they say."""
    from pacekeeper.cli.commitments.difference import compare, read_draft
    from pacekeeper.cli.commitments.drafting import read_document
    from pacekeeper.client.errors import ConfigError
    from pacekeeper.protocol.documents.blocks import DocumentError
    from pacekeeper.protocol.text import printable

    read = [read_document(path) for path in (before, after)]
    drafts = []
    for path, data in zip((before, after), read, strict=True):
        try:
            drafts.append(read_draft(data))
        except DocumentError as error:
            raise ConfigError(f"{path}: {error}") from None
    changes = compare(*drafts)
    if as_json:
        echo_json(
            [
                {
                    "article": change.heading,
                    "prose": [{"sign": sign, "sentence": sentence} for sign, sentence in change.prose],
                    "terms": [{"term": name, "before": was, "after": now} for name, was, now in change.terms],
                }
                for change in changes
            ]
        )
        return
    for change in changes:
        click.echo(printable(change.heading))
        for sign, sentence in change.prose:
            click.echo(f"  {sign} {printable(sentence, 60_000)}")
        for name, was, now in change.terms:
            click.echo(f"  {printable(name)}: {printable(was or 'absent')} -> {printable(now or 'absent')}")
    if not changes:
        click.echo("the drafts are the same" if read[0] == read[1] else "the drafts say the same, written otherwise")


COMMANDS: Final = (new, lint, show, render, diff)
