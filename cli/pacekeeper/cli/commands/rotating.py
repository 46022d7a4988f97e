"""`rotate-key` and `new-key` of a lab and of a verifier: the same two commands under both groups."""

from __future__ import annotations

from pathlib import Path

import click

from pacekeeper.cli.console import FILE, Sentence, sentences


@click.command("rotate-key")
@click.argument("config", type=FILE)
@click.option("--receipt", type=FILE, help="Write the receipt, which verifies offline, to this file.")
@sentences
def rotate_key(config: Path, receipt: Path | None) -> None:
    """Put a new key in the place of the present one: make it, sign the rotation with both, put that on the log.

    The daemon may run meanwhile; it signs with the new key as soon as it reads the rotation. What the old key signed
    stays valid, and what it signs from then on is void.
    """
    from pacekeeper.cli.commitments.caller import connect
    from pacekeeper.cli.doctor.subject import open_subject
    from pacekeeper.cli.rotation import key_files, retired_file, rotate
    from pacekeeper.client.keyfiles import write_public
    from pacekeeper.protocol.replay.key_life import present

    if receipt is not None and receipt.exists():
        raise Sentence(f"{receipt} exists already", 2)  # SPEC cli-4, before anything is signed
    subject = open_subject(config)
    files = key_files(subject)
    outcome = rotate(connect(subject), files)
    if receipt is not None:
        write_public(receipt, outcome.receipt.tlog_proof)
    holding = present(outcome.state, files.role, files.holder)
    assert holding is not None, "it has just got a key"
    click.echo(
        f"entry {outcome.receipt.index}: the key of {files.role} {files.holder} is its number {holding.epoch} now"
    )
    click.echo(f"the key in force is {files.key}; back it up")
    click.echo(f"the retired one is {retired_file(files, holding.epoch - 1)}; destroy it, it signs nothing any more")


@click.command("new-key")
@click.argument("config", type=FILE)
@sentences
def new_key(config: Path) -> None:
    """Make the next key's file and print its public key, for the parties to put in the place of a lost or stolen one.

    The daemon goes over to it by itself once the parties' decision is on the log.
    """
    from pacekeeper.cli.doctor.subject import open_subject
    from pacekeeper.cli.rotation import key_files, make_next
    from pacekeeper.protocol.keys import format_public_key

    files = key_files(open_subject(config))
    click.echo(format_public_key(make_next(files).public))
    click.echo(f"its file is {files.next_key}; hand the line above to the parties", err=True)
