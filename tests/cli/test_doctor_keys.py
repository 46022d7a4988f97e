"""The doctor and keys that follow each other: in force, waiting to be put in order, retired, or nobody's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from key_world import KeyWorld

from pacekeeper.cli.doctor.check import Level
from pacekeeper.cli.doctor.epochs import judge_key
from pacekeeper.cli.doctor.subject import Subject
from pacekeeper.client.keyfiles import create_key
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay import Applied
from pacekeeper.protocol.statements import seal


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject(
        role="lab",
        holder="borealis",
        uri="",
        config_path=tmp_path / "lab.toml",
        state=tmp_path / "state",
        keys={"key": tmp_path / "lab.key"},
        tls_key=tmp_path / "tls.pem",
        tls_certificate=tmp_path / "tls.crt.pem",
        listen={},
        bundle=None,
        next_keys={"key": tmp_path / "lab.next.key"},
    )


def rotate(world: KeyWorld, old: SigningKey, new: SigningKey, epoch: int) -> None:
    rotation = world.rotation("lab", "borealis", new.public, epoch)
    assert isinstance(world.put(seal(rotation, [old, new]), world.now), Applied)


def settled(first: Path, second: Path) -> None:
    first.unlink()
    second.rename(first)


def in_force_elsewhere(first: Path, second: Path) -> None:
    second.unlink()


def both_gone(first: Path, second: Path) -> None:
    first.unlink()
    second.unlink()


def only_the_second(first: Path, second: Path) -> None:
    first.unlink()


@pytest.mark.parametrize(
    ("files", "level", "said"),
    [
        (settled, Level.OK, "lab.key is the key in force, number 2"),
        (lambda first, second: None, Level.WARN, "lab.next.key, and "),
        (only_the_second, Level.WARN, "`pacekeeper lab rotate-key"),
        (in_force_elsewhere, Level.FAIL, "lab.key is key 1, which its holder rotated with entry"),
        (both_gone, Level.FAIL, "no key file holds the key in force, number 2"),
    ],
)
def test_the_key_files_are_compared_with_the_key_in_force(
    subject: Subject, files: Callable[[Path, Path], None], level: Level, said: str
) -> None:
    """SPEC cli-24."""
    world = KeyWorld()
    first, second = subject.keys["key"], subject.next_keys["key"]
    old = create_key(first)
    rotate(world, world.key("lab", "borealis"), old, 2)
    new = create_key(second)
    rotate(world, old, new, 3)
    files(first, second)
    check = judge_key(subject, "key", world.state)
    assert check.level is level
    assert said.replace("number 2", "number 3").replace("key 1,", "key 2,") in f"{check.sentence}; {check.advice}"
    assert check.unsafe is (level is Level.FAIL)


def test_a_lab_that_the_log_does_not_have_is_told(subject: Subject) -> None:
    """SPEC cli-24."""
    check = judge_key(dataclasses.replace(subject, holder="nowhere"), "key", KeyWorld().state)
    assert check.level is Level.FAIL
    assert "no lab nowhere" in check.sentence


def test_offline_a_key_that_is_not_the_founding_one_is_worth_a_look(doctor: Any) -> None:
    """SPEC cli-24: and without the next key's file that is all that can be said."""
    keys = doctor.config("verifier").parent / "keys"
    (keys / "statement.key").unlink()
    create_key(keys / "statement.key")
    assert doctor.failing("verifier") == (0, set())
