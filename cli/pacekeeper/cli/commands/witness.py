"""`pacekeeper witness`: cosign that logs of any kind only grow, for anyone."""

from __future__ import annotations

from pathlib import Path

import click

from pacekeeper.cli.console import DIRECTORY, FILE, sentences


@click.group()
def command() -> None:
    """Run a public witness (C2SP tlog-witness): it cosigns that a log only grew, whatever its entries are.

    Its keys are its own, and its cosignatures count towards no agreement's quorum of verifiers.
    """


@command.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--name", required=True, help="The cosigner's name, such as witness.example/one.")
@click.option("--listen", default="127.0.0.1:7821", show_default=True, help="host:port for HTTP.")
@sentences
def init(directory: Path, name: str, listen: str) -> None:
    """Make the witness's keys and write DIRECTORY/witness.toml. Refuses to overwrite anything."""
    from pacekeeper.cli.configs import WITNESS, write_checked
    from pacekeeper.client.errors import ConfigError
    from pacekeeper.client.keyfiles import create_key, create_mldsa_key
    from pacekeeper.protocol.tlog.vkey import is_key_name
    from pacekeeper.verifier.public.settings import load_settings

    config = directory / "witness.toml"
    if not is_key_name(name) or '"' in name or "\\" in name:
        raise ConfigError("--name: no spaces, control characters, plus signs, quotation marks or backslashes")
    if config.exists():
        raise ConfigError(f"{config} exists already and is not overwritten")
    create_key(directory / "keys" / "cosign.key")
    create_mldsa_key(directory / "keys" / "cosign-mldsa.key")
    write_checked(config, WITNESS.format(name=name, listen=listen), load_settings)
    click.echo(f"wrote {config}; what logs and readers have to know of this witness:")
    _show_keys(config)
    click.echo(f"next: pacekeeper witness add-log {config} VKEY, then pacekeeper witness serve {config}")


@command.command("add-log")
@click.argument("config", type=FILE)
@click.argument("vkey")
@click.option("--origin", help="The log's origin; default: the name in its key, as is usual.")
@sentences
def add_log(config: Path, vkey: str, origin: str | None) -> None:
    """Witness another log from now on: the one whose checkpoints the key VKEY signs. Takes effect at the next start."""
    import json

    from pacekeeper.client.errors import ConfigError
    from pacekeeper.protocol.text import printable
    from pacekeeper.verifier.public.settings import load_settings, parse_log_key

    key = parse_log_key(vkey, "VKEY")
    origin = origin or key.name
    if origin in load_settings(config).logs:
        raise ConfigError(f'{config} has the log "{printable(origin)}" already; add a further key to its table by hand')
    before = config.read_text(encoding="utf-8")
    table = f"\n[[logs]]\norigin = {json.dumps(origin, ensure_ascii=False)}\nkeys = [{json.dumps(vkey)}]\n"
    config.write_text(before + table, encoding="utf-8")
    try:
        load_settings(config)
    except ConfigError:
        config.write_text(before, encoding="utf-8")
        raise
    click.echo(f"{config} has the log {printable(origin)}")


@command.command()
@click.argument("config", type=FILE)
@sentences
def keys(config: Path) -> None:
    """Print the witness's verifier keys, one a line: what logs and readers have to know of it."""
    _show_keys(config)


@command.command()
@click.argument("config", type=FILE)
@sentences
def serve(config: Path) -> None:
    """Answer logs and monitors until told to stop (SIGTERM, Ctrl-C)."""
    import asyncio

    from pacekeeper.verifier.public.serve import serve as run

    asyncio.run(run(config))


def _show_keys(config: Path) -> None:
    from pacekeeper.protocol.tlog.note import format_vkey
    from pacekeeper.verifier.public.settings import load_settings

    for key in load_settings(config).vkeys:
        click.echo(format_vkey(key))
