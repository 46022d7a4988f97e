"""Start-up over a damaged state: refused with a sentence that names what is wrong, or mended; fsck finds the same."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import sqlite3
from pathlib import Path

import pytest
from logcopy import Copy, filled_site, flip_bit
from logsite import LogSite

from pacekeeper.client.errors import ConfigError
from pacekeeper.log.fsck import fsck
from pacekeeper.log.server import initialise, serve
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.note import parse_note


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> LogSite:
    return filled_site(tmp_path_factory.mktemp("original") / "log")


@pytest.fixture
def copy(original: LogSite, tmp_path: Path) -> Copy:
    return Copy(original, tmp_path / "copy")


def test_a_sound_state_starts_and_checks_clean(copy: Copy) -> None:
    """SPEC log-23."""
    assert fsck(copy.state) == []
    copy.starts()
    assert fsck(copy.state) == []


BATCH = "(SELECT max(first) FROM batches WHERE count > 10)"
TAMPERED = {
    "an entry in the store": (
        "UPDATE batches SET entries = CAST(substr(entries, 1, 200) || x'ff' || substr(entries, 202) AS BLOB) "
        f"WHERE first = {BATCH}",
        "are damaged|are not what was published",
        "do not hash to the stored root",
    ),
    "a batch": (
        "DELETE FROM batches WHERE first = (SELECT min(first) FROM batches WHERE first > 0)",
        "entries 1 to .* are missing",
        "entries 1 to .* are missing",
    ),
    "the last batch": (
        "DELETE FROM batches WHERE first = (SELECT max(first) FROM batches)",
        "stored head .* is not that of the stored entries",
        "stored head .* is not that of the stored entries",
    ),
    "the head's root": ("UPDATE head SET root = zeroblob(32)", "stored head", "stored head"),
    "the head's size": ("UPDATE head SET size = size - 1", "stored head", "stored head"),
    "the head's time": ("UPDATE head SET time_ms = time_ms + 1", "stored head", "stored head"),
    "the published checkpoint": (
        "UPDATE published SET note = CAST(replace(CAST(note AS TEXT), char(10) || '3', char(10) || '2') AS BLOB)",
        "published checkpoint: ",
        "published checkpoint: ",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_damaged_store_does_not_start_and_fsck_says_why(copy: Copy, what: str) -> None:
    """SPEC log-23 (FAULTS 7, 10): the sentence names the entries, and no tree is signed over them."""
    statement, sentence, finding = TAMPERED[what]
    copy.sql(statement)
    assert re.search(sentence, copy.refusal())
    assert any(re.search(finding, problem) for problem in fsck(copy.state)), fsck(copy.state)
    assert re.search(sentence, copy.refusal()), "it keeps failing"


def test_a_damaged_database_file_is_named(copy: Copy) -> None:
    (copy.state / "log.sqlite").write_bytes(b"garbage " * 1000)
    assert "log.sqlite" in copy.refusal()
    assert "log.sqlite" in fsck(copy.state)[0]


def test_fsck_finds_indices_that_disagree_with_the_entries(copy: Copy) -> None:
    # Only its identity: the entry with index 18 is the first of its batch, or in the midst of one.
    around = "substr(ids, 1, 32 * (18 - first)) || zeroblob(32) || substr(ids, 32 * (19 - first) + 1)"
    copy.sql(
        f"UPDATE batches SET ids = CAST({around} AS BLOB)"
        " WHERE first = (SELECT max(first) FROM batches WHERE first <= 18)"
    )
    copy.sql("INSERT INTO slots VALUES ('borealis', 1, zeroblob(8))")
    problems = fsck(copy.state)
    assert [problem for problem in problems if "identity of entry" in problem] == [
        "the identity of entry 18 does not lead to it"
    ]
    assert any("sequence numbers are indexed" in problem for problem in problems)
    copy.sql("UPDATE batches SET ids = substr(ids, 33) WHERE first = 0")
    assert any("identities are indexed" in problem for problem in fsck(copy.state))


@pytest.mark.parametrize("name", ["tile/0/000", "tile/entries/000"])
def test_a_damaged_full_tile_stops_the_log_and_a_missing_one_is_made_again(copy: Copy, name: str) -> None:
    """SPEC log-12 (FAULTS 3, 10)."""
    path = copy.public / name
    whole = path.read_bytes()
    flip_bit(path, 4000)
    assert f"{name} differs from the stored entries" in copy.refusal()
    assert any(problem.startswith(name) for problem in fsck(copy.state))
    path.write_bytes(whole[:4000])
    copy.starts()
    assert path.read_bytes() == whole
    path.unlink()
    assert any(f"{name} is missing" in problem for problem in fsck(copy.state))
    copy.starts()
    assert path.read_bytes() == whole
    assert fsck(copy.state) == []


def test_a_lost_public_directory_is_made_again(copy: Copy) -> None:
    """Everything public is derived from the store, the checkpoint with its cosignatures included."""
    files = {path.relative_to(copy.public): path.read_bytes() for path in copy.public.rglob("*") if path.is_file()}
    shutil.rmtree(copy.public)
    assert fsck(copy.state)
    copy.starts()
    made = {path.relative_to(copy.public): path.read_bytes() for path in copy.public.rglob("*") if path.is_file()}
    assert made.items() <= files.items()
    assert fsck(copy.state) == []


def test_a_damaged_checkpoint_file_and_partial_tile_are_found_and_made_again(copy: Copy) -> None:
    flip_bit(copy.public / "checkpoint", 40)
    [partial] = [path for path in (copy.public / "tile/0/001.p").iterdir() if path.name == _published_width(copy)]
    flip_bit(partial, 3)
    problems = fsck(copy.state)
    assert any("public/checkpoint: " in problem for problem in problems)
    assert any(f"tile/0/001.p/{partial.name} differs" in problem for problem in problems)
    copy.starts()
    assert fsck(copy.state) == []


def _published_width(copy: Copy) -> str:
    with contextlib.closing(sqlite3.connect(copy.state / "log.sqlite")) as db:
        return str(int(db.execute("SELECT note FROM published").fetchone()[0].split(b"\n")[1]) - 256)


def test_an_older_checkpoint_file_is_what_a_kill_leaves_and_another_trees_is_not(original: LogSite, copy: Copy) -> None:
    """FAULTS 1: the store is published to first, the file follows; a start brings it up."""
    path = copy.public / "checkpoint"
    newest = path.read_bytes()
    with contextlib.closing(sqlite3.connect(copy.state / "log.sqlite")) as db:
        size, root = db.execute(f"SELECT first + count, root FROM batches WHERE first < {BATCH} LIMIT 1").fetchone()
    people = original.people
    for older_root, sound in ((root, True), (bytes(32), False)):
        origin = people.agreement.origin
        note = sign_checkpoint(Checkpoint(origin, size, older_root), origin, people.keys.log_checkpoint)
        text = parse_note(note).text
        for party, key in people.agreement.policy().witnesses:
            note += sign_cosignature(text, key.name, people.keys.verifier_cosign(party), 1).encode()
        path.write_bytes(note)
        assert fsck(copy.state) == (
            [] if sound else [f"entries 0 to {size - 1} do not hash to the root of the checkpoint file"]
        )
    copy.starts()
    assert path.read_bytes() == newest


def test_the_marker_of_a_failed_write_stops_the_start_until_an_operator_removes_it(copy: Copy) -> None:
    """SPEC log-4 (FAULTS 5)."""
    (copy.state / "unsafe").write_text("writing failed\n")
    assert "run fsck, then remove that file" in copy.refusal()
    assert "unsafe says that a write has failed" in fsck(copy.state)[0]
    (copy.state / "unsafe").unlink()
    copy.starts()


def test_an_empty_store_does_not_start_and_a_full_one_is_not_initialised_again(original: LogSite, copy: Copy) -> None:
    with pytest.raises(ConfigError, match="initialised once"):
        initialise(copy.config)
    (copy.state / "log.sqlite").unlink()
    shutil.rmtree(copy.public)
    copy.mark.unlink()  # it and the public checkpoint would say that there was more: see tests/faults
    assert "initialise the log first" in copy.refusal()
    assert any("initialise the log first" in problem for problem in fsck(copy.state))


def test_a_key_that_the_agreement_does_not_name_is_refused_by_file(copy: Copy) -> None:
    """SPEC log-24."""
    keys = copy.config.parent / "keys"
    shutil.copy(keys / "statement.key", keys / "checkpoint.key")
    assert "checkpoint.key is not the checkpoint key" in copy.refusal()


@pytest.mark.parametrize(
    ("old", "new"),
    [('listen = "127', 'listens = "127'), ('"127.0.0.1:', '"127.0.0.1;'), ('bundle = "bundle"', 'bundle = "none"')],
)
def test_a_wrong_configuration_is_a_sentence_that_names_the_file(copy: Copy, old: str, new: str) -> None:
    copy.config.write_text(copy.config.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=r"log\.toml|none"):
        serve(copy.config)


def test_a_taken_port_is_a_sentence(original: LogSite, copy: Copy, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = copy.config.read_text()
        copy.config.write_text(text.replace('http_listen = "127.0.0.1:0"', f'http_listen = "127.0.0.1:{port}"'))
        with pytest.raises(ConfigError, match="cannot listen"):
            serve(copy.config)
