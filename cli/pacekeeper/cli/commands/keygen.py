"""`pacekeeper keygen`: a participant's keys and its public identity file."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from pacekeeper.cli.console import DIRECTORY, Sentence, sentences


@click.command()
@click.argument("role", type=click.Choice(["party", "verifier", "lab", "log"]))
@click.argument("identity", metavar="ID")
@click.option("--out", type=DIRECTORY, required=True, help="Directory for keys/ and the public identity file.")
@click.option(
    "--name", default="", help="Name to show; for a verifier the cosigner name, such as norland.example/verifier."
)
@click.option("--party", default="", help="For a lab: the party in whose jurisdiction it is.")
@click.option("--address", default="", help="For a verifier or log: host:port at which others reach it over gRPC.")
@click.option("--url", default="", help="For a log: URL at which anyone reads it.")
@sentences
def command(role: str, identity: str, out: Path, name: str, party: str, address: str, url: str) -> None:
    """Make the keys of a participant of ROLE with ID, and a public identity file to hand to the others.

    For a log, ID is its origin, such as example.org/pacekeeper. Nothing is ever overwritten.
    """
    from pacekeeper.cli.identities import Role, make_identity, public_file

    needed = {"lab": [("--party", party)], "verifier": [("--address", address)]}
    needed["log"] = [("--address", address), ("--url", url)]
    for option, value in needed.get(role, []):
        if not value:
            raise Sentence(f"a {role} needs {option}", 2)
    default_name = f"{identity}.example/verifier" if role == "verifier" else identity
    made = make_identity(
        cast(Role, role), identity, out, name=name or default_name, party=party, address=address, url=url
    )
    click.echo(f"private keys: {out / 'keys'} (readable by you only; back them up, never copy them to another role)")
    click.echo(f"public file:  {public_file(out, made)}")
