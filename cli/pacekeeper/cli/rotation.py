"""Rotating a role's key: the file of the next one, the statement that both keys sign, and the files put in order.

The new key is on disk before anything is signed with it, and each step can be repeated: whatever happens in between,
the same command goes on from where the log and the files are. A daemon that runs meanwhile finds the key in force in
either file; one that starts later does too.

    make_next       the next key's file, if there is none
    rotate          the rotation, signed by both keys, on the log; then settle
    settle          the key in force under the name that the configuration gives it, the retired one beside it
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacekeeper.cli.commitments.acting import Outcome, put
from pacekeeper.cli.commitments.caller import Connection
from pacekeeper.cli.console import USAGE, Sentence
from pacekeeper.cli.doctor.subject import Subject
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.keyfiles import create_key, load_key
from pacekeeper.protocol.envelope import parse_envelope, sign_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.replay.key_life import ROLES, RULES_WITH_SUCCESSORS, Holding, present
from pacekeeper.protocol.statements import parse_statement, seal
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

_ROLE: Final = {name: pb.KeyRole.ValueType(number) for number, name in ROLES.items()}


@dataclass(frozen=True)
class KeyFiles:
    """Where a role's key lies, and where the next one does or will."""

    role: str
    holder: str
    key: Path
    next_key: Path

    def at_hand(self) -> dict[bytes, Path]:
        """The public keys that are there -> their files. Refused(unsafe-state) for a file that is no sound key's."""
        return {load_key(path).public: path for path in (self.key, self.next_key) if path.exists()}


def key_files(subject: Subject) -> KeyFiles:
    """Return the files of the key with which a role makes statements. ConfigError if there is no next."""
    name = "key" if subject.role == "lab" else "statement_key"
    following = subject.next_keys.get(name)
    if following is None:
        example = subject.keys[name].with_suffix(".next.key").name
        where = f"{subject.config_path}: next_{name}"
        raise ConfigError(f'{where}: say where the next key is to lie, such as "keys/{example}"')
    return KeyFiles(subject.role, subject.holder, subject.keys[name], following)


def make_next(files: KeyFiles) -> SigningKey:
    """Return the next key, made now if its file is not there. ConfigError, Refused(unsafe-state) for a bad file."""
    return load_key(files.next_key) if files.next_key.exists() else create_key(files.next_key)


def make_rotation(state: State, role: str, holder: str, new: bytes) -> pb.KeyRotation:
    """The statement by which a holder's key is followed by a new one."""
    return pb.KeyRotation(
        agreement=state.agreement.fingerprint,
        role=_ROLE[role],
        holder=holder,
        epoch=_holding(state, role, holder).epoch + 1,
        key=new,
    )


def rotate(connection: Connection, files: KeyFiles) -> Outcome:
    """Put the next key in the place of the present one. Raises as acting.act; Sentence where there is nothing to do.

    SPEC cli-23: the new key MUST be on disk before the rotation is signed, and a repetition after an interruption MUST
    finish it and not begin another.
    """
    outcome = put(connection, lambda state: sign_rotation(files, state))
    settle(files, outcome.state)
    return outcome


def sign_rotation(files: KeyFiles, state: State) -> envelope_pb2.Envelope:
    """Return the rotation to the next key, signed by both keys.

    Raises as rotate does, and ConfigError under rules that know no rotation.
    """
    version = state.agreement.rules_version
    if version < RULES_WITH_SUCCESSORS:
        raise ConfigError(f"under rules version {version} no key can follow another")
    holding, at_hand = _holding(state, files.role, files.holder), files.at_hand()
    path = at_hand.get(holding.key)
    if path is None:
        raise Refused(
            Code.UNSAFE_STATE,
            f"neither {files.key} nor {files.next_key} is the key in force, number {holding.epoch}",
        )
    if path == files.next_key:
        settle(files, state)
        raise Sentence(
            f"key number {holding.epoch} was in force already, and is {files.key} now; give the command again for "
            "another rotation",
            USAGE,
        )
    new = make_next(files)
    return seal(make_rotation(state, files.role, files.holder, new.public), [load_key(path), new])


def settle(files: KeyFiles, state: State) -> None:
    """Give the key in force the name that the configuration has for it; the retired one is kept beside it."""
    holding = _holding(state, files.role, files.holder)
    if not files.next_key.exists() or load_key(files.next_key).public != holding.key:
        return
    if files.key.exists():
        _move(files.key, retired_file(files, holding.epoch - 1))
    _move(files.next_key, files.key)


def _move(path: Path, target: Path) -> None:
    """SPEC cli-4: a key MUST NOT be overwritten."""
    if target.exists():
        raise ConfigError(f"{target} exists already and is not overwritten: move it away, and give the command again")
    path.rename(target)


def retired_file(files: KeyFiles, epoch: int) -> Path:
    """Where a retired key is kept until its operator destroys it."""
    return files.key.with_name(f"{files.key.name}.retired-{epoch}")


def add_signature(data: bytes, key: SigningKey) -> bytes:
    """Return a rotation's envelope with one signature more. ConfigError if it is not a rotation."""
    envelope = parse_envelope(data)
    if not isinstance(parse_statement(envelope), pb.KeyRotation):
        raise ConfigError("the file holds another statement than a key rotation")
    made = sign_envelope(envelope.payload_type, envelope.payload, [key])
    pairs = {signature.key_id: signature.signature for signature in (*envelope.signatures, *made.signatures)}
    del envelope.signatures[:]
    envelope.signatures.extend(
        envelope_pb2.Signature(key_id=ident, signature=signature) for ident, signature in sorted(pairs.items())
    )
    return envelope.SerializeToString(deterministic=True)


def read_rotation(data: bytes) -> pb.KeyRotation:
    """Return what a rotation's envelope says. ConfigError if it is not one, Refused for bytes that are no envelope."""
    statement = parse_statement(parse_envelope(data))
    if not isinstance(statement, pb.KeyRotation):
        raise ConfigError("the file holds another statement than a key rotation")
    return statement


def _holding(state: State, role: str, holder: str) -> Holding:
    holding = present(state, role, holder)
    if holding is None:
        raise Refused(Code.UNKNOWN_PARTICIPANT, f'there is no {role} "{holder}"')
    return holding
