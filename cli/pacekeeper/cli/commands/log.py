"""`pacekeeper log`: run the shared log, or check its state."""

from __future__ import annotations

from pathlib import Path

import click

from pacekeeper.cli.console import DIRECTORY, FILE, Sentence, echo_json, sentences


@click.group()
def command() -> None:
    """Run the shared log, or check its state."""


@command.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--bundle", type=DIRECTORY, required=True, help="The agreement bundle.")
@click.option("--keys", type=DIRECTORY, help="The log's keys; default: DIRECTORY/keys, as keygen made them.")
@click.option("--listen", default="127.0.0.1:7801", show_default=True, help="host:port for gRPC over mutual TLS.")
@click.option("--http-listen", default="127.0.0.1:7802", show_default=True, help="host:port for the static log.")
@sentences
def init(directory: Path, bundle: Path, keys: Path | None, listen: str, http_listen: str) -> None:
    """Write DIRECTORY/log.toml and sequence the agreement as entry 0. Refuses to overwrite anything."""
    from pacekeeper.cli.configs import LOG, relative, write_checked
    from pacekeeper.client.bundle import load_bundle
    from pacekeeper.log.server import initialise

    loaded = load_bundle(bundle)
    config = directory / "log.toml"
    text = LOG.format(
        bundle=relative(bundle, directory),
        keys=relative(keys or directory / "keys", directory),
        listen=listen,
        http_listen=http_listen,
    )
    write_checked(config, text, initialise)
    click.echo(f"wrote {config}; fingerprint {loaded.agreement.fingerprint.hex()}")
    click.echo(f"next: pacekeeper log serve {config}")


@command.command()
@click.argument("config", type=FILE)
@sentences
def serve(config: Path) -> None:
    """Serve the log until it is told to stop (SIGTERM, Ctrl-C)."""
    from pacekeeper.log.server import serve as run

    run(config)


@command.command()
@click.argument("config", type=FILE)
@click.option("--against", type=DIRECTORY, help="An older state directory, of which nothing may have been lost.")
@click.option("--json", "as_json", is_flag=True, help="Problems as JSON.")
@sentences
def fsck(config: Path, against: Path | None, as_json: bool) -> None:
    """Check the store, tiles, head and checkpoint of a stopped log against each other. Exit status 5 on a problem."""
    from pacekeeper.client.config import load_config, resolve
    from pacekeeper.log.fsck import against as compare
    from pacekeeper.log.fsck import fsck as check
    from pacekeeper.log.settings import LogConfig

    state = resolve(config, load_config(config, LogConfig).state)
    problems = check(state) + (compare(state, against) if against is not None else [])
    if as_json:
        echo_json(problems)
    for problem in problems if not as_json else []:
        click.echo(problem)
    if problems:
        raise Sentence(f"{len(problems)} problems; do not serve this log before they are understood", 5)
    if not as_json:
        click.echo("no problem found")


@command.command("rotate-key")
@click.argument("config", type=FILE)
@click.option("--out", type=FILE, required=True, help="The rotation to write.")
@sentences
def rotate_key(config: Path, out: Path) -> None:
    """Make the log's next statement key, and write the rotation that both keys sign.

    A lab or a verifier submits it: `pacekeeper party submit-rotation`. The running log goes over to the new key by
    itself. The number of the key is read from the log's own public files, which are verified first.
    """
    from pacekeeper.audit.verify import audit
    from pacekeeper.cli.doctor.subject import open_subject
    from pacekeeper.cli.rotation import key_files, settle, sign_rotation
    from pacekeeper.client.errors import ConfigError
    from pacekeeper.client.fetch import DirectorySource
    from pacekeeper.client.keyfiles import write_public
    from pacekeeper.protocol.envelope import encode

    if out.exists():
        raise Sentence(f"{out} exists already", 2)  # SPEC cli-4, before a key is made
    subject = open_subject(config)
    if subject.bundle is None:
        raise ConfigError(subject.bundle_error)
    result = audit(DirectorySource(subject.state / "public"), subject.bundle.agreement.fingerprint)
    if result.faults or result.state is None:
        raise Sentence(f"{subject.state / 'public'} does not verify: {result.faults[0].message}", 3)
    files = key_files(subject)
    settle(files, result.state)
    write_public(out, encode(sign_rotation(files, result.state)))
    click.echo(f"wrote {out}; next: pacekeeper party submit-rotation CONFIG {out}, with a lab's or verifier's CONFIG")


@command.command()
@click.argument("config", type=FILE)
@click.option("--from", "location", required=True, help="A copy of the log: its URL, or a directory.")
@sentences
def restore(config: Path, location: str) -> None:
    """Make a lost or outdated store again from a copy of the published log. Exit status 5 if that would fork it."""
    from pacekeeper.log.restore import KEPT
    from pacekeeper.log.restore import restore as make_again

    size = make_again(config, location)
    click.echo(f"{size} entries restored; the store of before, if there was one, is kept with the ending {KEPT}")
    click.echo(f"next: pacekeeper log fsck {config}, remove state/unsafe if it is there, pacekeeper log serve {config}")
