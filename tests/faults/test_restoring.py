"""A store made again from a copy of the published log: whole, under the quorum's checkpoint, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from log_invariants import stored_entries
from logcopy import LAB, Copy, filled_site, flip_bit, submit
from logsite import LogSite

from pacekeeper.cli.main import pacekeeper
from pacekeeper.client.errors import ConfigError
from pacekeeper.log.fsck import fsck
from pacekeeper.log.restore import KEPT, restore
from pacekeeper.protocol.errors import Code, Refused


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[LogSite, Path]:
    """A log of more than one tile, with a lab's sequence number taken, and a backup from before its last entries."""
    directory = tmp_path_factory.mktemp("original")
    site = filled_site(directory / "log", 270, period="1 s", fill_in="1 h")
    shutil.copytree(site.state, directory / "backup")
    submit(site, ["later"], [site.gap(LAB, "the first period")])
    return site, directory / "backup"


@pytest.fixture
def copy(original: tuple[LogSite, Path], tmp_path: Path) -> Copy:
    return Copy(original[0], tmp_path / "log")


@pytest.mark.parametrize("loss", ["all of the state", "what came after a backup", "a bit", "nothing"])
def test_a_lost_store_is_made_again_and_the_log_goes_on(original: tuple[LogSite, Path], copy: Copy, loss: str) -> None:
    """SPEC log-31 (FAULTS 9, 10): entry for entry what it was, and no start before that."""
    site, backup = original
    entries = stored_entries(site.state)
    if loss == "a bit":
        copy.sql("UPDATE batches SET root = zeroblob(32) WHERE first = 1")
    elif loss != "nothing":
        shutil.rmtree(copy.state)
        if loss != "all of the state":
            shutil.copytree(backup, copy.state)
    if loss != "nothing":
        assert copy.refusal()
    run = CliRunner().invoke(pacekeeper, ["log", "restore", str(copy.config), "--from", str(site.state / "public")])
    assert run.exit_code == 0, run.output
    assert f"{len(entries)} entries restored" in run.output
    assert stored_entries(copy.state) == entries
    assert (copy.state / f"log.sqlite{KEPT}").exists()
    copy.starts()
    assert fsck(copy.state) == []
    submit(copy.site(), ["and-on"])
    assert stored_entries(copy.state)[: len(entries)] == entries


def _refused(copy: Copy, location: Path) -> Refused:
    before = {path: path.read_bytes() for path in copy.state.glob("log.sqlite*") if not path.name.endswith("-shm")}
    with pytest.raises(Refused) as refused:
        restore(copy.config, str(location))
    assert {path: path.read_bytes() for path in before} == before, "the store is as it was"
    return refused.value


def test_a_copy_that_lacks_what_was_committed_does_not_take_its_place(
    original: tuple[LogSite, Path], copy: Copy
) -> None:
    """SPEC log-31 (FAULTS 9): also where only the store or only the mark knows of it."""
    _, backup = original
    assert "would fork the log" in _refused(copy, backup / "public").message
    mark = copy.mark.read_bytes()
    copy.mark.unlink()
    assert "would fork the log" in _refused(copy, backup / "public").message
    copy.mark.write_bytes(mark)
    shutil.rmtree(copy.state)
    assert "would fork the log" in _refused(copy, backup / "public").message


@pytest.mark.parametrize("name", ["tile/entries/000", "tile/0/000", "tile/1/000.p/1", "checkpoint"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_copy_does_not_take_its_place(
    original: tuple[LogSite, Path], copy: Copy, tmp_path: Path, name: str, damage: str
) -> None:
    """SPEC log-31 (FAULTS 27)."""
    public = tmp_path / "public"
    shutil.copytree(original[0].state / "public", public)
    if damage == "flipped":
        # In the checkpoint, a digit of its root.
        flip_bit(public / name, 30)
    else:
        (public / name).unlink()
    if (name, damage) == ("checkpoint", "missing"):
        with pytest.raises(ConfigError, match="no checkpoint"):
            restore(copy.config, str(public))
        return
    assert _refused(copy, public).code in {Code.BAD_TILE, Code.NOT_FOUND, Code.BAD_SIGNATURE, Code.BAD_CHECKPOINT}


def test_another_tree_of_the_committed_size_does_not_take_its_place(original: tuple[LogSite, Path], copy: Copy) -> None:
    """SPEC log-31: a quorum of verifiers cannot make a log forget what it committed."""
    text = copy.mark.read_text()
    root = text.split("root ")[1][:64]
    copy.mark.write_text(text.replace(root, "0" * 64))
    assert "would fork the log" in _refused(copy, original[0].state / "public").message
