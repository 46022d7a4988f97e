"""`pacekeeper party`: rotate a party's key, which is kept off the network, and submit the rotation from elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from pacekeeper.cli.console import DIRECTORY, FILE, Sentence, sentences


@click.group()
def command() -> None:
    """Rotate a party's offline key."""


@command.command("rotate-key")
@click.option("--bundle", type=DIRECTORY, required=True, help="The agreement bundle.")
@click.option("--party", required=True, help="The party's id.")
@click.option("--epoch", type=int, required=True, help="The number of the new key; 2 follows the founding key.")
@click.option("--new-key", type=FILE, required=True, help="The new key's file; it is made if it is not there.")
@click.option("--key", type=FILE, help="The present key's file, if it is on this machine.")
@click.option("--out", type=FILE, required=True, help="The rotation to write.")
@sentences
def rotate_key(bundle: Path, party: str, epoch: int, new_key: Path, key: Path | None, out: Path) -> None:
    """Write a rotation of a party's key, signed with the new key and, if it is given, with the present one.

    No network is used. A signature that is missing is added by `sign-rotation`, on the machine that has the key.
    """
    from pacekeeper.client.bundle import load_bundle
    from pacekeeper.client.errors import ConfigError
    from pacekeeper.client.keyfiles import create_key, load_key, write_public
    from pacekeeper.protocol.envelope import encode
    from pacekeeper.protocol.replay.key_life import RULES_WITH_SUCCESSORS
    from pacekeeper.protocol.statements import parse_statement, seal
    from pacekeeper.v1 import statements_pb2 as pb

    agreement = load_bundle(bundle).agreement
    if agreement.rules_version < RULES_WITH_SUCCESSORS:
        raise ConfigError(f"under rules version {agreement.rules_version} no key can follow another")
    if out.exists():
        raise Sentence(f"{out} exists already", 2)  # SPEC cli-4, before a key is made
    new = load_key(new_key) if new_key.exists() else create_key(new_key)
    present = [] if key is None else [load_key(key)]
    rotation = pb.KeyRotation(
        agreement=agreement.fingerprint, role=pb.KEY_ROLE_PARTY, holder=party, epoch=epoch, key=new.public
    )
    envelope = seal(rotation, [new, *present])
    parse_statement(envelope)
    data = encode(envelope)
    write_public(out, data)
    click.echo(f"wrote {out}")
    if not present:
        click.echo("the present key's signature is missing; next: pacekeeper party sign-rotation, where that key is")


@command.command("sign-rotation")
@click.argument("rotation", type=FILE)
@click.option("--key", type=FILE, required=True, help="The key file, present or new, that signs it.")
@click.option("--out", type=FILE, required=True, help="The signed rotation to write.")
@sentences
def sign_rotation(rotation: Path, key: Path, out: Path) -> None:
    """Add a signature to a rotation. It says what the rotation does; sign it if that is what you want."""
    from pacekeeper.cli.rotation import add_signature, read_rotation
    from pacekeeper.client.keyfiles import load_key, write_public
    from pacekeeper.protocol.keys import format_public_key
    from pacekeeper.protocol.text import printable

    data = rotation.read_bytes()
    said = read_rotation(data)
    write_public(out, add_signature(data, load_key(key)))
    click.echo(f"key {said.epoch} of party {printable(said.holder, 64)} is to be {format_public_key(said.key)}")
    click.echo(f"wrote {out}; next: pacekeeper party submit-rotation CONFIG {out}")


@command.command("submit-rotation")
@click.argument("config", type=FILE)
@click.argument("rotation", type=FILE)
@click.option("--receipt", type=FILE, help="Write the receipt, which verifies offline, to this file.")
@sentences
def submit_rotation(config: Path, rotation: Path, receipt: Path | None) -> None:
    """Put a signed rotation on the log. CONFIG is any lab.toml or verifier.toml; it calls the log and signs nothing."""
    from pacekeeper.cli.commitments.acting import put
    from pacekeeper.cli.commitments.caller import connect
    from pacekeeper.cli.doctor.subject import open_subject
    from pacekeeper.cli.rotation import read_rotation
    from pacekeeper.client.keyfiles import write_public
    from pacekeeper.protocol.envelope import parse_envelope
    from pacekeeper.protocol.replay.key_life import ROLES

    if receipt is not None and receipt.exists():
        raise Sentence(f"{receipt} exists already", 2)  # SPEC cli-4, before anything is sent
    data = rotation.read_bytes()
    said = read_rotation(data)
    outcome = put(connect(open_subject(config)), lambda _state: parse_envelope(data))
    if receipt is not None:
        write_public(receipt, outcome.receipt.tlog_proof)
    who = f"{ROLES[said.role]} {said.holder}"
    click.echo(f"entry {outcome.receipt.index}: the key of {who} is its number {said.epoch} now")
