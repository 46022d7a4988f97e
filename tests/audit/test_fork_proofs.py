"""Fork proofs: from two views of a log to a file that convicts it offline; and all that convicts nobody."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agreements import signing_key
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from published_log import PublishedLog, served
from world import World

from pacekeeper.cli.main import pacekeeper
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.fork_proof import (
    MAX_BYTES,
    ForkProof,
    check_fork_proof,
    format_fork_proof,
    parse_fork_proof,
    prove_fork,
)
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.merkle import HashTree, hash_leaves

WORLD = World()
COMMON = [WORLD.entries[0], *(b"entry %d" % index for index in range(1, 300))]
HONEST = [*COMMON, *(b"honest %d" % index for index in range(400))]
FORKED = [*COMMON, *(b"forked %d" % index for index in range(400))]


def views(tmp_path: Path, one: int, other: int, *, forked: bool) -> tuple[PublishedLog, PublishedLog]:
    """Two published copies of those sizes, of one log or of its two histories."""
    return (
        PublishedLog(WORLD, tmp_path / "one", entries=HONEST[:one]),
        PublishedLog(WORLD, tmp_path / "other", entries=(FORKED if forked else HONEST)[:other]),
    )


def run(*words: object, fingerprint: str = WORLD.agreement.fingerprint.hex()) -> Result:
    return CliRunner().invoke(
        pacekeeper, ["audit", *map(str, words), "--fingerprint", fingerprint], standalone_mode=False
    )


@pytest.mark.parametrize(("one", "other"), [(500, 500), (301, 700), (700, 301), (512, 513), (600, 350)])
def test_two_histories_become_a_proof_that_convicts_anywhere(tmp_path: Path, one: int, other: int) -> None:
    """SPEC evidence-6, SPEC audit-20: also where the two were never signed at one size."""
    first, second = views(tmp_path, one, other, forked=True)
    proof = tmp_path / "proof.json"
    made = run("prove-fork", first.directory, second.directory, "--out", proof)
    assert made.return_value == 0, made.output
    for log in (first, second):  # offline: nothing but the file is left
        log.put("checkpoint", b"")
    checked = run("check-evidence", proof, "--json")
    assert checked.return_value == 0, checked.output
    shown = json.loads(checked.output)
    assert shown["origin"] == WORLD.agreement.origin
    assert [tree["size"] for tree in shown["trees"]] == sorted((one, other))
    assert b"norland" not in json.loads(proof.read_text())["first"].split("\n\n")[0].encode()


@pytest.mark.parametrize(("one", "other"), [(500, 500), (301, 700), (700, 301), (256, 257), (200, 250)])
def test_one_history_convicts_nobody(tmp_path: Path, one: int, other: int) -> None:
    """SPEC evidence-6: a smaller tree that the larger one begins with is no lie, nor is what both have in common."""
    first, second = views(tmp_path, one, other, forked=max(one, other) <= len(COMMON))
    result = run("prove-fork", first.directory, second.directory, "--out", tmp_path / "proof.json")
    assert result.return_value == 3
    assert "no fork" in result.output
    assert not (tmp_path / "proof.json").exists()


def test_a_saved_checkpoint_and_a_live_log_are_enough(tmp_path: Path) -> None:
    """SPEC audit-20: the larger tree is read where it is; a larger checkpoint without its tree proves nothing."""
    first, second = views(tmp_path, 350, 600, forked=True)
    saved = tmp_path / "saved-checkpoint"
    saved.write_bytes(first.read("checkpoint"))
    with served(second.directory) as url:
        assert run("prove-fork", saved, url, "--out", tmp_path / "a.json").return_value == 0
    assert run("check-evidence", tmp_path / "a.json").return_value == 0
    saved.write_bytes(second.read("checkpoint"))
    result = run("prove-fork", first.directory, saved, "--out", tmp_path / "b.json")
    assert result.exception is not None
    assert "larger tree" in str(result.exception)


def test_bad_views_are_refused_in_a_sentence(tmp_path: Path) -> None:
    """Two checkpoints alone, another agreement, a damaged tile, a stranger's checkpoint, a file that is there."""
    first, second = views(tmp_path, 350, 600, forked=True)
    out = tmp_path / "proof.json"
    saved = [tmp_path / "a", tmp_path / "b"]
    for path, log in zip(saved, (first, second), strict=True):
        path.write_bytes(log.read("checkpoint"))
    refused: list[tuple[Any, ...]] = [
        ("prove-fork", *saved, "--out", out),
        ("prove-fork", tmp_path / "nowhere", second.directory, "--out", out),
        ("prove-fork", first.directory, second.directory, "--out", saved[0]),
    ]
    for words in refused:
        assert getattr(run(*words).exception, "exit_code", None) == 2, words
    assert getattr(run("prove-fork", *saved, "--out", out, fingerprint="00" * 32).exception, "exit_code", None) == 2
    for damage in ("tile/0/001", "tile/1/000.p/2", "checkpoint"):
        good = second.read(damage)
        second.put(damage, bytes([good[0] ^ 1]) + good[1:])
        result = run("prove-fork", first.directory, second.directory, "--out", out)
        assert getattr(result.exception, "exit_code", None) == 3, damage
        second.put(damage, good)
    other = run("prove-fork", first.directory, second.directory, "--out", out, fingerprint="00" * 32)
    assert getattr(other.exception, "exit_code", None) == 3
    assert not out.exists()


def proof_of(one: int, other: int) -> ForkProof:
    notes = {}
    for size, entries in ((one, HONEST), (other, FORKED)):
        log = PublishedLog.__new__(PublishedLog)
        log.world, log.now_ms, log.parties = WORLD, None, WORLD.keys.party_ids
        tree = HashTree(hash_leaves(entries[:size]))
        notes[log.note(size, tree.root(), cosigners=())] = tree
    first, second = notes
    proof = prove_fork(WORLD.agreement, first, second, lambda note: notes[note].read_subtree)
    assert proof is not None
    return proof


DIFFERENT = proof_of(350, 600)
EQUAL = proof_of(400, 400)


@pytest.mark.parametrize("proof", [DIFFERENT, EQUAL], ids=["of different sizes", "of one size"])
def test_a_proof_reads_back(proof: ForkProof) -> None:
    assert parse_fork_proof(format_fork_proof(proof)) == proof
    assert check_fork_proof(proof).agreement.fingerprint == WORLD.agreement.fingerprint


@pytest.mark.parametrize(
    "proof",
    [
        replace(DIFFERENT, prefix=bytes(32)),
        replace(DIFFERENT, prefix=HashTree(hash_leaves(HONEST[:350])).root()),
        replace(DIFFERENT, consistency=DIFFERENT.consistency[:-1]),
        replace(DIFFERENT, consistency=(*DIFFERENT.consistency, bytes(32))),
        replace(DIFFERENT, prefix=b"", consistency=()),
        replace(DIFFERENT, first=DIFFERENT.second, second=DIFFERENT.first),
        replace(DIFFERENT, first=DIFFERENT.second),
        replace(DIFFERENT, second=DIFFERENT.first),
        replace(DIFFERENT, first=DIFFERENT.first.replace(b"\n350\n", b"\n351\n")),
        replace(DIFFERENT, agreement=b"# no agreement"),
        replace(EQUAL, prefix=bytes(32)),
        replace(EQUAL, second=EQUAL.first),
        replace(EQUAL, first=b"", second=b""),
    ],
)
def test_what_was_tampered_with_convicts_nobody(proof: ForkProof) -> None:
    """SPEC evidence-6: each part matters, and nobody can make one without the log's key."""
    with pytest.raises(Refused):
        check_fork_proof(proof)


@pytest.mark.parametrize("whose", ["a stranger's key", "another origin"])
def test_only_what_the_log_signed_under_its_origin_convicts(tmp_path: Path, whose: str) -> None:
    """SPEC evidence-6: one of two good checkpoints signed by somebody else, or by the log for another log."""
    tree = HashTree(hash_leaves(FORKED[:400]))
    agreement = WORLD.agreement
    stranger = whose == "a stranger's key"
    key = signing_key("a stranger") if stranger else WORLD.keys.log_checkpoint
    checkpoint = Checkpoint(agreement.origin if stranger else "example.net/other", 400, tree.root())
    forged = sign_checkpoint(checkpoint, agreement.log.key.name, key)
    for proof in (replace(EQUAL, second=forged), replace(EQUAL, first=forged)):
        with pytest.raises(Refused):
            check_fork_proof(proof)


def test_a_proof_is_about_one_agreement(tmp_path: Path) -> None:
    """SPEC evidence-6: the fingerprint that the reader has from elsewhere says whose log it is."""
    path = tmp_path / "proof.json"
    path.write_bytes(format_fork_proof(DIFFERENT))
    assert run("check-evidence", path).return_value == 0
    other = run("check-evidence", path, fingerprint=World(title="Another").agreement.fingerprint.hex())
    assert getattr(other.exception, "exit_code", None) == 3


def test_no_flipped_byte_convicts_another(tmp_path: Path) -> None:
    """A damaged file convicts the same log or nobody."""
    good = format_fork_proof(DIFFERENT)
    chance = random.Random(31)
    for _ in range(300):
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        try:
            shown = check_fork_proof(parse_fork_proof(bytes(bad)))
        except Refused:
            continue
        assert shown.agreement.fingerprint == WORLD.agreement.fingerprint or shown.agreement.document != WORLD.document
        assert (shown.first.size, shown.second.size) == (350, 600)


JSON = st.recursive(st.none() | st.text(max_size=5) | st.integers(), st.lists).map(json.dumps).map(str.encode)


@given(st.binary(max_size=200) | JSON)
def test_no_bytes_make_it_raise_anything_else(data: bytes) -> None:
    with pytest.raises(Refused):
        parse_fork_proof(data)


@given(
    field=st.sampled_from(["agreement", "first", "second", "prefix", "consistency", "format"]),
    value=st.none() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=3),
)
@settings(max_examples=60)
def test_a_field_of_another_kind_is_refused(field: str, value: Any) -> None:
    fields = json.loads(format_fork_proof(DIFFERENT))
    fields[field] = value
    with pytest.raises(Refused):
        check_fork_proof(parse_fork_proof(json.dumps(fields).encode()))


def test_too_large_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    path.write_bytes(b"{" + b" " * MAX_BYTES)
    assert getattr(run("check-evidence", path).exception, "exit_code", None) == 3
    assert getattr(run("check-evidence", tmp_path / "nowhere").exception, "exit_code", None) == 2
