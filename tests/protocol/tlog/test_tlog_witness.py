"""The public witness's decisions: each answer of C2SP tlog-witness, and one growing tree whatever is asked for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT, HashTree, hash_leaves
from pacekeeper.protocol.tlog.note import ED25519, NoteKey
from pacekeeper.protocol.tlog.witness import (
    EMPTY,
    MAX_REQUEST_BYTES,
    AddCheckpoint,
    Cosigning,
    Rejection,
    Tree,
    decide,
    format_request,
    parse_request,
)

ORIGIN = "example.org/pacekeeper"
KEY, OTHER_KEY = SigningKey(bytes(32)), SigningKey(bytes(31) + b"\1")
LOGS = {ORIGIN: (NoteKey(ORIGIN, ED25519, KEY.public),)}
TREE = HashTree(hash_leaves([b"entry %d" % index for index in range(40)]))
FORK = HashTree(hash_leaves([b"entry %d" % index for index in range(10)] + [b"fork %d" % index for index in range(30)]))


def root_of(tree: HashTree, size: int) -> bytes:
    return tree.root(size) if size else EMPTY_ROOT


def note(size: int, tree: HashTree = TREE, *, origin: str = ORIGIN, key: SigningKey = KEY) -> bytes:
    return sign_checkpoint(Checkpoint(origin, size, root_of(tree, size)), ORIGIN, key)


def ask(old: int, size: int, tree: HashTree = TREE) -> AddCheckpoint:
    proof = tree.prove_consistency(old, size) if 0 < old < size else []
    return AddCheckpoint(old, tuple(proof), note(size, tree))


def last(size: int, tree: HashTree = TREE) -> dict[str, Tree]:
    return {ORIGIN: Tree(size, tree.root(size))} if size else {}


def status(request: AddCheckpoint, cosigned: dict[str, Tree]) -> int:
    decision = decide(request, LOGS, cosigned)
    return decision.status if isinstance(decision, Rejection) else 200


@pytest.mark.parametrize(("old", "size"), [(0, 1), (0, 40), (1, 2), (7, 8), (8, 40), (39, 40), (12, 12)])
def test_a_tree_that_grew_is_cosigned(old: int, size: int) -> None:
    decision = decide(ask(old, size), LOGS, last(old))
    assert isinstance(decision, Cosigning)
    assert (decision.origin, decision.tree) == (ORIGIN, Tree(size, TREE.root(size)))
    assert decision.note.text.split("\n")[1] == str(size)


def test_an_unknown_origin_is_404() -> None:
    """SPEC witness-2."""
    assert status(replace(ask(0, 3), note=note(3, origin="example.org/other")), {}) == 404


def test_a_stranger_s_signature_is_403() -> None:
    """SPEC witness-3: unknown keys are ignored, and a known key's wrong signature condemns the note."""
    assert status(replace(ask(0, 3), note=note(3, key=OTHER_KEY)), {}) == 403
    damaged = note(3).replace(b"\n3\n", b"\n4\n", 1)
    assert status(replace(ask(0, 3), note=damaged), {}) == 403


def test_an_old_size_beyond_the_checkpoint_is_400() -> None:
    """SPEC witness-4: before what the witness knows is told to anyone."""
    assert status(ask(5, 3), last(5)) == 400


@pytest.mark.parametrize(("old", "known"), [(0, 5), (4, 5), (6, 5), (3, 0)])
def test_another_old_size_is_409_with_the_right_one(old: int, known: int) -> None:
    """SPEC witness-5."""
    decision = decide(ask(old, 12), LOGS, last(known))
    assert decision == Rejection(409, f"{known}\n", size_only=True)


def test_another_root_of_the_same_size_is_409() -> None:
    """SPEC witness-6."""
    assert decide(ask(20, 20, FORK), LOGS, last(20)) == Rejection(409, "20\n", size_only=True)


@pytest.mark.parametrize(
    "request_",
    [
        ask(20, 30, FORK),
        replace(ask(20, 30), proof=()),
        replace(ask(20, 30), proof=(*ask(20, 30).proof, bytes(32))),
        replace(ask(20, 30), proof=ask(20, 30).proof[:-1]),
        replace(ask(20, 20), proof=(bytes(32),)),
    ],
    ids=["fork", "no proof", "a hash too many", "a hash too few", "a proof of nothing"],
)
def test_a_proof_that_does_not_lead_there_is_422(request_: AddCheckpoint) -> None:
    """SPEC witness-7."""
    assert status(request_, last(20)) == 422
    assert status(replace(ask(0, 20), proof=(bytes(32),)), {}) == 422


def test_what_is_no_checkpoint_is_400() -> None:
    for text in (b"", b"hello", b"one\n\n", b"a\nb\n\n\xe2\x80\x94 x AAAAAAA=\n"):
        assert status(AddCheckpoint(0, (), text), {}) == 400


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40)), max_size=40))
@settings(max_examples=200)
def test_over_all_requests_one_tree_only_grows(steps: list[tuple[bool, int, int]]) -> None:
    """SPEC witness-5, SPEC witness-6, SPEC witness-7: of two histories of a log one is signed, whatever it asks for."""
    cosigned: dict[str, Tree] = {}
    signed: dict[int, bytes] = {}
    for forked, old, size in steps:
        tree = FORK if forked else TREE
        decision = decide(ask(min(old, 40), size, tree), LOGS, cosigned)
        if isinstance(decision, Rejection):
            continue
        before = cosigned.get(ORIGIN, EMPTY)
        assert decision.tree.size >= before.size
        assert signed.setdefault(decision.tree.size, decision.tree.root) == decision.tree.root
        cosigned[ORIGIN] = decision.tree
    # All that was signed are prefixes of one tree.
    assert any(
        all(root == (tree.root(size) if size else EMPTY_ROOT) for size, root in signed.items()) for tree in (TREE, FORK)
    )


def test_a_request_reads_back() -> None:
    """SPEC witness-1."""
    for request in (ask(0, 1), ask(7, 30), AddCheckpoint(3, (bytes(32),) * 63, b"anything\n\nat all\n")):
        assert parse_request(format_request(request)) == request


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.MALFORMED),
        (b"old 3", Code.MALFORMED),
        (b"old 3\n", Code.MALFORMED),
        (b"old 03\n\nnote", Code.MALFORMED),
        (b"old -1\n\nnote", Code.MALFORMED),
        (b"old  3\n\nnote", Code.MALFORMED),
        (b"OLD 3\n\nnote", Code.MALFORMED),
        (b"3\n\nnote", Code.MALFORMED),
        (b"old 9223372036854775808\n\nnote", Code.MALFORMED),
        (b"old 3\nAAAA\n\nnote", Code.MALFORMED),
        (b"old 3\n" + b"A" * 43 + b"\n\nnote", Code.MALFORMED),
        (b"old 3\n" + b"A" * 43 + b"=\r\n\nnote", Code.MALFORMED),
        (b"old \xc3\xa9\n\nnote", Code.MALFORMED),
        (b"old 3\n" + (b"A" * 43 + b"=\n") * 64 + b"\nnote", Code.TOO_LARGE),
        (b"old 3\n\n" + b"x" * MAX_REQUEST_BYTES, Code.TOO_LARGE),
    ],
)
def test_a_malformed_request_is_refused(body: bytes, code: Code) -> None:
    """SPEC witness-1."""
    with pytest.raises(Refused) as caught:
        parse_request(body)
    assert caught.value.code is code


@given(st.binary(max_size=400))
def test_no_bytes_make_it_raise_anything_else(body: bytes) -> None:
    """Any body is a request or a typed refusal, and any request has an answer."""
    try:
        request = parse_request(body)
    except Refused:
        return
    assert isinstance(decide(request, LOGS, last(5)), Rejection)


def test_the_largest_note_fits() -> None:
    assert (
        limits.MAX_NOTE_BYTES + len(format_request(AddCheckpoint(2**63 - 1, (bytes(32),) * 63, b"")))
        < MAX_REQUEST_BYTES
    )


def test_the_example_of_the_specification() -> None:
    """SPEC witness-1: specs/witness.md shows a request for the tree of specs/notes.md, from its first two entries."""
    specs = Path(__file__).resolve().parents[3] / "specs"
    entries = HashTree(hash_leaves([b"first", b"second", b"third"]))
    shown = re.search(r"^```checkpoint\n(.*?)^```$", (specs / "notes.md").read_text(), re.MULTILINE | re.DOTALL)
    assert shown is not None
    signed = shown[1].split("— norland")[0].encode()
    body = format_request(AddCheckpoint(2, tuple(entries.prove_consistency(2, 3)), signed)).decode()
    assert f"```witness-request\n{body}```" in (specs / "witness.md").read_text()
