"""`pacekeeper verifier`: run a country's verifier, or ask one how it stands."""

from __future__ import annotations

from pathlib import Path

import click

from pacekeeper.cli.commands.rotating import new_key, rotate_key
from pacekeeper.cli.console import DIRECTORY, FILE, echo_json, sentences


@click.group()
def command() -> None:
    """Run a national verifier."""


command.add_command(rotate_key)
command.add_command(new_key)


@command.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--party", required=True, help="The party's id in the agreement.")
@click.option("--bundle", type=DIRECTORY, required=True, help="The agreement bundle.")
@click.option("--keys", type=DIRECTORY, help="The verifier's keys; default: DIRECTORY/keys, as keygen made them.")
@click.option("--listen", default="127.0.0.1:7811", show_default=True, help="host:port for status and findings.")
@click.option("--accession", type=FILE, help="The accession's document, for a party that is no founder.")
@sentences
def init(directory: Path, party: str, bundle: Path, keys: Path | None, listen: str, accession: Path | None) -> None:
    """Write DIRECTORY/verifier.toml. Refuses to overwrite anything."""
    from pacekeeper.cli.configs import VERIFIER, accession_line, relative, write_checked
    from pacekeeper.client.bundle import load_bundle
    from pacekeeper.client.config import load_config
    from pacekeeper.client.errors import ConfigError
    from pacekeeper.client.newcomers import with_newcomers
    from pacekeeper.verifier.daemon import VerifierConfig, load_identity

    loaded = load_bundle(bundle)
    if party not in {known.id for known in with_newcomers(loaded.agreement, accession).parties}:
        raise ConfigError(f'the agreement has no party "{party}"')
    config = directory / "verifier.toml"
    text = VERIFIER.format(
        party=party,
        bundle=relative(bundle, directory),
        keys=relative(keys or directory / "keys", directory),
        listen=listen,
    )
    text += accession_line(accession, directory)
    write_checked(config, text, lambda written: load_identity(written, load_config(written, VerifierConfig)))
    click.echo(f"wrote {config}; next: pacekeeper verifier run {config}")


@command.command()
@click.argument("config", type=FILE)
@sentences
def run(config: Path) -> None:
    """Follow the log, replay it, cosign it and publish findings, until told to stop (SIGTERM, Ctrl-C)."""
    from pacekeeper.verifier.daemon import run as serve

    serve(config)


@command.command()
@click.argument("config", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@sentences
def status(config: Path, as_json: bool) -> None:
    """Ask the running verifier of a configuration how it stands. Exit status 4 when it does not answer."""
    from pacekeeper.cli.asking import ask_verifier

    answer = ask_verifier(config)
    if as_json:
        echo_json(answer)
        return
    for name, value in answer.items():
        click.echo(f"{name:14} {value}")
