"""What the cosigning key remembers when its store is lost, replaced or rolled back (FAULTS 15 and 16)."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.verifier.marker import KeyMarker, Mark, check_mark

HERE = "ab" * 16
ELSEWHERE = "cd" * 16
ORIGIN = "example.org/pacekeeper"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "cosign.key"


def check(key: Path, *, origin: str = ORIGIN, store: str = HERE, size: int) -> Mark | None:
    """Open the marker as a new process does, compare, and let go."""
    marker = KeyMarker(key)
    try:
        check_mark(marker, origin=origin, store=store, size=size)
        return marker.mark
    finally:
        marker.close()


def advance(key: Path, size: int) -> None:
    marker = KeyMarker(key)
    marker.advance(size)
    marker.close()


def test_a_new_key_is_bound_to_its_store_and_the_file_says_so(key: Path) -> None:
    assert check(key, size=0) == Mark(ORIGIN, HERE, 0)
    advance(key, 42)
    path = key.with_name("cosign.key.witness")
    assert path.read_text() == f"pacekeeper-witness-v1\norigin {ORIGIN}\nstore {HERE}\nsize 00000000000000000042\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert check(key, size=42) == Mark(ORIGIN, HERE, 42)
    assert check(key, size=43) == Mark(ORIGIN, HERE, 42), "a power cut may leave the marker behind the store"


def test_the_marker_never_goes_back(key: Path) -> None:
    check(key, size=0)
    advance(key, 9)
    advance(key, 8)
    assert check(key, size=9) == Mark(ORIGIN, HERE, 9)


@pytest.mark.parametrize(
    ("store", "size", "origin", "says"),
    [
        (ELSEWHERE, 0, ORIGIN, "another store"),
        (ELSEWHERE, 50, ORIGIN, "another store"),
        (HERE, 0, ORIGIN, "rolled back"),
        (HERE, 41, ORIGIN, "rolled back"),
        (HERE, 42, "example.org/other", "cosigns for example.org/pacekeeper"),
    ],
)
def test_a_key_that_has_cosigned_refuses_a_lost_or_older_store(
    key: Path, store: str, size: int, origin: str, says: str
) -> None:
    """SPEC verifier-12: size 0 is never assumed for a lost state."""
    check(key, size=0)
    advance(key, 42)
    with pytest.raises(Refused, match=says) as refused:
        check(key, origin=origin, store=store, size=size)
    assert refused.value.code == Code.UNSAFE_STATE
    assert check(key, size=42) == Mark(ORIGIN, HERE, 42), "a refusal leaves the marker as it was"


def test_a_key_that_has_cosigned_nothing_may_begin_in_a_new_store(key: Path) -> None:
    check(key, size=0)
    assert check(key, store=ELSEWHERE, size=0) == Mark(ORIGIN, ELSEWHERE, 0)


def test_a_store_that_moves_with_its_key_is_marked_anew(key: Path) -> None:
    assert check(key, size=17) == Mark(ORIGIN, HERE, 17)
    with pytest.raises(Refused, match="rolled back"):
        check(key, size=16)


@pytest.mark.parametrize("content", [b"x", b"pacekeeper-witness-v1\n", b"\xff" * 100, b"\n"])
def test_a_damaged_marker_is_not_a_missing_one(key: Path, content: bytes) -> None:
    """SPEC verifier-12"""
    key.with_name("cosign.key.witness").write_bytes(content)
    with pytest.raises(Refused, match="is damaged") as refused:
        KeyMarker(key)
    assert refused.value.code == Code.UNSAFE_STATE


def test_one_key_is_used_by_one_process(key: Path) -> None:
    """SPEC verifier-13"""
    first = KeyMarker(key)
    with pytest.raises(Refused, match="another process uses this key"):
        KeyMarker(key)
    first.close()
    KeyMarker(key).close()


def test_a_marker_is_not_followed_through_a_link(key: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    key.with_name("cosign.key.witness").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="cannot be opened"):
        KeyMarker(key)
