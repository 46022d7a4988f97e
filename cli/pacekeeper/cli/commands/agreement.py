"""`pacekeeper agreement`: from identity files to a founding agreement that every party has signed."""

from __future__ import annotations

from pathlib import Path

import click

from pacekeeper.cli.console import DIRECTORY, FILE, Sentence, echo_json, sentences


@click.group()
def command() -> None:
    """Write, check, sign and assemble the founding agreement."""


@command.command()
@click.option(
    "--identity", "identities", type=FILE, multiple=True, required=True, help="A public identity file; repeat."
)
@click.option(
    "--cap", "caps", multiple=True, required=True, help='"ID:run:LIMIT" or "ID:lab|party:LIMIT:PERIODS"; repeat.'
)
@click.option("--title", required=True, help="Title of the agreement.")
@click.option("--epoch", help="When period 0 begins, RFC 3339 UTC; default: the coming midnight.")
@click.option("--period", help="Length of a reporting period, such as '1 d'.")
@click.option("--due", help="After a period's end its account is due, such as '6 h'.")
@click.option("--fill-in", help="After a period's end nothing is taken any more, such as '90 d'.")
@click.option("--tick", help="The log speaks at least this often, such as '5 min'.")
@click.option("--tolerance", help="How far clocks may differ, such as '10 s'.")
@click.option("--unwitnessed", help="How long an entry may wait for its quorum, such as '1 h'.")
@click.option("--framework-count-margin", help="Widest margin of a counted figure, such as '5 %'.")
@click.option("--chip-time-margin", help="Widest margin of a figure from accelerator time, such as '60 %'.")
@click.option("--quorum", type=int, help="Verifiers that must cosign; default: n - f.")
@click.option("--liars", type=int, help="Verifiers that may lie; default: the most that n allows.")
@click.option("--out", type=FILE, required=True, help="The document to write.")
@sentences
def new(
    identities: tuple[Path, ...],
    caps: tuple[str, ...],
    title: str,
    epoch: str | None,
    quorum: int | None,
    liars: int | None,
    out: Path,
    **terms: str | None,
) -> None:
    """Write an agreement from the participants' public identity files. Read it, edit it, lint it, then sign it."""
    import time

    from pacekeeper.cli.founding import default_quorum, parse_cap, write_agreement
    from pacekeeper.cli.identities import read_identity
    from pacekeeper.client.keyfiles import write_public
    from pacekeeper.protocol.units import format_time

    read = [read_identity(path) for path in identities]
    most, tolerated = default_quorum(sum(identity.role == "party" for identity in read))
    tomorrow_ms = (int(time.time()) // 86_400 + 1) * 86_400_000
    values = {name: value for name, value in terms.items() if value is not None}
    values["title"] = title
    values["epoch"] = epoch or format_time(tomorrow_ms)
    values["quorum"] = str(most if quorum is None else quorum)
    values["liars"] = str(tolerated if liars is None else liars)
    document = write_agreement(read, [parse_cap(cap) for cap in caps], values)
    write_public(out, document)
    click.echo(f"wrote {out}; next: pacekeeper agreement lint {out}")


@command.command()
@click.argument("document", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Problems as JSON.")
@sentences
def lint(document: Path, as_json: bool) -> None:
    """List everything that is wrong with an agreement, with line numbers. Exit status 2 if it cannot be signed."""
    # SPEC cli-5: a fault of a document MUST be shown with its line number.
    from pacekeeper.protocol.documents.lint import lint_agreement
    from pacekeeper.protocol.text import printable

    problems = lint_agreement(document.read_bytes())
    if as_json:
        echo_json([{"line": p.line, "severity": str(p.severity), "message": p.message} for p in problems])
    else:
        for problem in problems:
            where = printable(str(document), 1_000)
            click.echo(f"{where}:{problem.line}: {problem.severity}: {printable(problem.message)}")
    errors = sum(str(problem.severity) == "error" for problem in problems)
    if errors:
        raise Sentence(f"{document} cannot be signed: {errors} errors", 2)
    click.echo(f"{document} compiles; {len(problems)} warnings", err=as_json)


@command.command()
@click.argument("document", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Fingerprint and sentences as JSON.")
@sentences
def show(document: Path, as_json: bool) -> None:
    """Say in plain sentences what an agreement says, with its fingerprint."""
    from pacekeeper.protocol.documents.agreement import compile_agreement
    from pacekeeper.protocol.documents.describe import describe_agreement

    agreement = compile_agreement(document.read_bytes())
    said = describe_agreement(agreement)
    if as_json:
        echo_json({"fingerprint": agreement.fingerprint.hex(), "sentences": said})
    else:
        click.echo("\n".join(said))


@command.command()
@click.argument("document", type=FILE)
@sentences
def policy(document: Path) -> None:
    """Print an agreement's quorum as a policy file, for tools that verify its log's proofs (C2SP tlog-policy)."""
    from pacekeeper.protocol.documents.agreement import compile_agreement
    from pacekeeper.protocol.tlog.policy_file import format_policy

    agreement = compile_agreement(document.read_bytes())
    click.echo(format_policy(agreement.policy(), agreement.log.url), nl=False)


@command.command()
@click.argument("document", type=FILE)
@click.option("--key", type=FILE, required=True, help="The party's key file.")
@click.option("--out", type=FILE, required=True, help="The signature file to write and send to whoever assembles.")
@sentences
def sign(document: Path, key: Path, out: Path) -> None:
    """Sign an agreement as a party. Compare the fingerprint with the other parties before you do."""
    import hashlib

    from pacekeeper.cli.founding import sign_agreement
    from pacekeeper.client.keyfiles import load_key, write_public

    data = document.read_bytes()
    write_public(out, sign_agreement(data, load_key(key)))
    click.echo(f"signed the document with fingerprint {hashlib.sha256(data).hexdigest()}")


@command.command()
@click.argument("document", type=FILE)
@click.option("--signature", "signatures", type=FILE, multiple=True, required=True, help="A party's signature; repeat.")
@click.option("--identity", "identities", type=FILE, multiple=True, required=True, help="Identity files; repeat.")
@click.option("--out", type=DIRECTORY, required=True, help="The bundle directory to write.")
@sentences
def assemble(document: Path, signatures: tuple[Path, ...], identities: tuple[Path, ...], out: Path) -> None:
    """Join all parties' signatures into entry 0, and write the bundle that every role starts from."""
    from pacekeeper.cli.founding import assemble as join
    from pacekeeper.cli.identities import read_identity

    bundle = join(
        document.read_bytes(), [path.read_bytes() for path in signatures], [read_identity(p) for p in identities], out
    )
    click.echo(f"wrote {out}; fingerprint {bundle.agreement.fingerprint.hex()}")
