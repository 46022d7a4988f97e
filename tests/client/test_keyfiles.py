"""Key files: created once, readable by their owner only, and refused when anything about them is wrong."""

import base64
import contextlib
import os
import stat
from pathlib import Path

import pytest

from pacekeeper.client.errors import ConfigError
from pacekeeper.client.keyfiles import create_key, load_key, read_private, write_private
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import verify


def refusal(path: Path) -> str:
    with pytest.raises(Refused) as caught:
        load_key(path)
    assert caught.value.code is Code.UNSAFE_STATE
    assert str(path) in caught.value.message
    return caught.value.message


def test_a_created_key_loads_again_and_signs(tmp_path: Path) -> None:
    """SPEC transport-9: created readable by its owner only, whatever the umask."""
    path = tmp_path / "keys" / "statement.key"
    before = os.umask(0)
    try:
        created = create_key(path)
    finally:
        os.umask(before)
    loaded = load_key(path)
    assert loaded.public == created.public
    assert verify(created.public, b"message", loaded.sign(b"message"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    header, seed = path.read_text().splitlines()
    assert header == "pacekeeper-ed25519-seed-v1"
    assert len(base64.b64decode(seed)) == 32


def test_two_created_keys_differ(tmp_path: Path) -> None:
    assert create_key(tmp_path / "a").public != create_key(tmp_path / "b").public


def test_a_key_is_never_overwritten_nor_written_through_a_link(tmp_path: Path) -> None:
    """SPEC transport-9: MUST NOT be overwritten."""
    path = tmp_path / "a.key"
    create_key(path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"a\.key exists already"):
        create_key(path)
    assert path.read_bytes() == before
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="link"):
        create_key(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_in_an_impossible_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be created"):
        create_key(tmp_path / "file" / "a.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_key_that_others_can_touch_is_not_used(tmp_path: Path, mode: int) -> None:
    """SPEC transport-10: a key that others can read is refused, with what to do."""
    path = tmp_path / "a.key"
    create_key(path)
    path.chmod(mode)
    assert "chmod 600" in refusal(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data[:-5] + b"!" + data[-4:],
        lambda data: data.replace(b"seed-v1", b"seed-v2"),
        lambda data: b"pacekeeper-ed25519-seed-v1\n" + base64.b64encode(bytes(31)) + b"\n",
        lambda data: b"pacekeeper-ed25519-seed-v1\n" + base64.b64encode(bytes(33)) + b"\n",
        lambda data: data.replace(b"=", b""),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data[27:],
        lambda data: bytes(len(data)),
        lambda data: data * 1000,
    ],
)
def test_a_damaged_key_is_refused_by_name(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "a.key"
    create_key(path)
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    refusal(path)


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    refusal(tmp_path / "missing")
    refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    refusal(tmp_path / "pipe")


def test_other_private_files_follow_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "tls.pem"
    write_private(path, b"pem")
    assert read_private(path) == b"pem"
    path.chmod(0o644)
    with pytest.raises(Refused, match="open to others"):
        read_private(path)


def test_every_flipped_bit_of_a_key_file_is_noticed_or_makes_another_key(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    public = create_key(path).public
    data = path.read_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        with contextlib.suppress(Refused):
            assert load_key(path).public != public
