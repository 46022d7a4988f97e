"""Policy files: what C2SP tlog-policy allows and forbids, and that an export says what the agreement says."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path

import pytest
from agreements import signing_key, verifier_name
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from published_log import PublishedLog
from world import World

from pacekeeper.cli.main import pacekeeper
from pacekeeper.protocol import mldsa
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.merkle import HashTree, hash_leaves
from pacekeeper.protocol.tlog.note import COSIGNATURE_V1, ED25519, ML_DSA_44, NoteKey, format_vkey, parse_note
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.protocol.tlog.policy_file import MAX_BYTES, MAX_LINES, check_under, format_policy, parse_policy
from pacekeeper.protocol.tlog.receipt import Receipt, format_receipt

MLDSA = mldsa.SigningKey(bytes(range(32)))


def log(name: str = "example.org/log") -> str:
    return format_vkey(NoteKey(name, ED25519, signing_key(name).public))


def witness(name: str) -> str:
    return format_vkey(NoteKey(f"{name}.example/w", COSIGNATURE_V1, signing_key(name).public))


def policy(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


X = [f"witness X{n} {witness(f'x{n}')}" for n in (1, 2, 3)]
Y = [f"witness Y{n} {witness(f'y{n}')}" for n in (1, 2, 3)]
TWO_LEVELS = policy(
    f"log {log()}", *X, "group X-witnesses 2 X1 X2 X3", *Y, "group Y-witnesses any Y1 Y2 Y3",
    "group X-and-Y all X-witnesses Y-witnesses", "quorum X-and-Y",
)  # fmt: skip


def test_the_example_of_c2sp_means_what_it_says() -> None:
    """SPEC policy-5: at least two of the one kind and one of the other, over all subsets."""
    read = parse_policy(TWO_LEVELS)
    names = [b"X1", b"X2", b"X3", b"Y1", b"Y2", b"Y3"]
    for count in range(7):
        for some in itertools.combinations(names, count):
            xs = sum(name.startswith(b"X") for name in some)
            assert read.is_met(some) is (xs >= 2 and len(some) - xs >= 1), some


def test_white_space_comments_urls_and_other_alphabets() -> None:
    """SPEC policy-2: bytes that are not ASCII are names like others."""
    read = parse_policy(
        b"\t# comment \xff\n\n  log  " + log().encode() + b" https://log.example/ \n"
        b"witness \xe2\x84\xaa " + witness("a").encode() + b"\thttps://w\xff\n"
        b"witness K " + witness("b").encode() + b"\nquorum \xe2\x84\xaa\n"
    )
    assert list(read.witnesses) == [b"\xe2\x84\xaa", b"K"]
    assert read.is_met([b"\xe2\x84\xaa"])
    assert not read.is_met([b"K"])
    assert parse_policy(b"quorum none\n").is_met([])


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"quorum none",
        policy("quorum none", "quorum none"),
        policy("quorum X1"),
        policy(X[0], "quorum X2"),
        policy("quorum X1", X[0]),
        policy(X[0], X[0], "quorum X1"),
        policy(X[0], f"witness X1 {witness('x2')}", "quorum X1"),
        policy(X[0], X[0].replace("X1", "other"), "quorum X1"),
        policy(X[0], "group X1 any X1", "quorum X1"),
        policy(X[0], "group g any X2", "quorum g"),
        policy("group g any g", "quorum g"),
        policy(*X, "group g 2 X1 X1", "quorum g"),
        policy(*X, "group g any X1", "group h any X1", "quorum h"),
        policy(*X, "group g any none", "quorum g"),
        policy(*X, "group none any X1", "quorum none"),
        policy(*X, "group g 0 X1 X2", "quorum g"),
        policy(*X, "group g 3 X1 X2", "quorum g"),
        policy(*X, "group g 02 X1 X2", "quorum g"),
        policy(*X, "group g +1 X1 X2", "quorum g"),
        policy(*X, "group g all", "quorum g"),
        policy(f"log {log()}", f"log {log()}", "quorum none"),
        policy(f"log {witness('a')}", "quorum none"),
        policy(f"witness a {log()}", "quorum a"),
        policy("log nonsense", "quorum none"),
        policy(f"log {log()} url another", "quorum none"),
        policy("logs", "quorum none"),
        policy("quorum none none"),
        policy("QUORUM none"),
        b"quorum none\r\n",
        b"quorum none\n\0\n",
        b"quorum\x0bnone\n",
        b"log \xff+0+AAAA\nquorum none\n",
    ],
)
def test_what_c2sp_forbids_is_refused(bad: bytes) -> None:
    """SPEC policy-1, SPEC policy-2, SPEC policy-3, SPEC policy-4, SPEC policy-5."""
    with pytest.raises(Refused) as caught:
        parse_policy(bad)
    assert caught.value.code is Code.BAD_POLICY


def test_too_much_is_refused() -> None:
    for bad in (b"#" * MAX_BYTES + b"\n", b"\n" * (MAX_LINES + 1)):
        with pytest.raises(Refused) as caught:
            parse_policy(bad)
        assert caught.value.code is Code.TOO_LARGE


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise_anything_else(data: bytes) -> None:
    try:
        parse_policy(data)
    except Refused:
        return


def test_an_export_is_met_by_exactly_the_agreement_s_quorums(tmp_path: Path) -> None:
    """SPEC policy-6: over all subsets of its verifiers, and by real signatures."""
    world = World()
    published = PublishedLog(world, tmp_path / "log")
    ours = world.agreement.policy()
    exported = parse_policy(format_policy(ours, world.agreement.log.url))
    root = published.root()
    for count in range(len(published.parties) + 1):
        for some in itertools.combinations(published.parties, count):
            note = published.note(len(world.entries), root, cosigners=some)
            try:
                checked = check_checkpoint(note, ours)
            except Refused:
                with pytest.raises(Refused):
                    check_under(note, exported)
                continue
            checkpoint, cosigned = check_under(note, exported)
            assert checkpoint == checked.checkpoint
            assert sorted(name.decode() for name in cosigned) == sorted(some)


def test_a_post_quantum_cosignature_can_be_demanded() -> None:
    """SPEC note-22, SPEC policy-3: a policy whose witnesses have ML-DSA-44 keys takes no Ed25519 in their place."""
    world = World()
    published = PublishedLog.__new__(PublishedLog)
    published.world, published.now_ms, published.parties = world, None, world.keys.party_ids
    party, name = published.parties[0], verifier_name(published.parties[0])
    agreement = world.agreement
    demand = parse_policy(
        policy(
            f"log {format_vkey(agreement.log.key)}",
            f"witness {party} {format_vkey(NoteKey(name, ML_DSA_44, MLDSA.public))}",
            f"quorum {party}",
        )
    )
    note = published.note(1, HashTree(hash_leaves(world.entries)).root(), cosigners=[party])
    with pytest.raises(Refused) as caught:
        check_under(note, demand)
    assert caught.value.code is Code.NO_QUORUM
    line = sign_cosignature(parse_note(note).text, name, MLDSA, 1_800_000_000)
    assert check_under(note + line.encode(), demand)[1] == (party.encode(),)


def test_a_log_signs_under_its_own_origin_only() -> None:
    """SPEC policy-7: a listed log's key does not make another origin valid."""
    world = World()
    published = PublishedLog.__new__(PublishedLog)
    published.world, published.now_ms, published.parties = world, None, world.keys.party_ids
    note = published.note(1, hashlib.sha256(b"a root").digest(), origin="example.net/other")
    with pytest.raises(Refused) as caught:
        check_under(note, parse_policy(format_policy(world.agreement.policy())))
    assert caught.value.code is Code.BAD_SIGNATURE


def test_the_example_of_the_specification_is_that_of_the_notes() -> None:
    """SPEC policy-6: specs/policy.md exports the keys and the quorum of specs/notes.md."""
    specs = Path(__file__).resolve().parents[3] / "specs"
    shown = re.search(r"^```policy\n(.*?)^```$", (specs / "policy.md").read_text(), re.MULTILINE | re.DOTALL)
    keys = re.search(r"^```vkeys\n(.*?)^```$", (specs / "notes.md").read_text(), re.MULTILINE | re.DOTALL)
    note = re.search(r"^```checkpoint\n(.*?)^```$", (specs / "notes.md").read_text(), re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert keys is not None
    assert note is not None
    read = parse_policy(shown[1].encode())
    assert [format_vkey(key) for key in (*read.logs, *read.witnesses.values())] == keys[1].split()
    assert check_under(note[1].encode(), read)[1] == (b"norland", b"sudria")


def test_a_receipt_is_checked_under_an_exported_policy(tmp_path: Path) -> None:
    """The way of a stranger: a policy, an entry and a receipt as files, and an exit status."""
    world = World()
    published = PublishedLog(world, tmp_path / "log", entries=[*world.entries, b"one more"])
    document, rules = tmp_path / "agreement.md", tmp_path / "policy"
    document.write_bytes(world.document)
    run = CliRunner().invoke
    rules.write_text(run(pacekeeper, ["agreement", "policy", str(document)]).output)
    tree = HashTree(hash_leaves([*world.entries, b"one more"]))
    receipt, entry = tmp_path / "a.tlog-proof", tmp_path / "entry"
    receipt.write_bytes(format_receipt(Receipt(1, tuple(tree.prove_inclusion(1)), published.read("checkpoint"))))
    words = ["audit", "check-receipt", str(receipt), "--entry", str(entry), "--policy", str(rules)]
    for content, status in ((b"one more", 0), (b"another", 3)):
        entry.write_bytes(content)
        result = run(pacekeeper, words, standalone_mode=False)
        got = result.return_value if result.exception is None else getattr(result.exception, "exit_code", None)
        assert got == status, result.output
    receipt.write_bytes(b"nonsense")
    assert getattr(run(pacekeeper, words, standalone_mode=False).exception, "exit_code", None) == 3
    rules.write_text("nonsense")
    assert getattr(run(pacekeeper, words, standalone_mode=False).exception, "exit_code", None) == 2
