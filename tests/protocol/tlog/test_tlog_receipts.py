"""Receipts: one entry's place on the log, proved from a file alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, format_checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.encoding import format_base64
from pacekeeper.protocol.tlog.merkle import HashTree, hash_leaves
from pacekeeper.protocol.tlog.note import NoteKey
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.protocol.tlog.receipt import Receipt, check_receipt, format_receipt, parse_receipt
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, ED25519

ORIGIN = "example.org/pacekeeper"
WITNESS = "norland.example/verifier"
ENTRIES = [b"entry %d" % number for number in range(11)]
TREE = HashTree(hash_leaves(ENTRIES))


def signing_key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(b"pacekeeper test key " + name.encode()).digest())


def cosigned(checkpoint: Checkpoint) -> bytes:
    line = sign_cosignature(format_checkpoint(checkpoint), WITNESS, signing_key(WITNESS), 1000)
    return sign_checkpoint(checkpoint, ORIGIN, signing_key(ORIGIN)) + line.encode()


POLICY = CosignaturePolicy(
    ORIGIN,
    NoteKey(ORIGIN, ED25519, signing_key(ORIGIN).public),
    (("norland", NoteKey(WITNESS, COSIGNATURE_V1, signing_key(WITNESS).public)),),
    1,
)
NOTE = cosigned(Checkpoint(ORIGIN, TREE.size, TREE.root()))
RECEIPT = Receipt(5, tuple(TREE.prove_inclusion(5)), NOTE)
DATA = format_receipt(RECEIPT)


def code_of(data: bytes, leaf: bytes = ENTRIES[5]) -> Code | None:
    try:
        check_receipt(parse_receipt(data), leaf, POLICY)
    except Refused as refusal:
        return refusal.code
    return None


def test_every_entry_has_a_receipt_that_checks() -> None:
    """SPEC receipt-3: for its own entry and for no other."""
    for index, entry in enumerate(ENTRIES):
        receipt = Receipt(index, tuple(TREE.prove_inclusion(index)), NOTE)
        assert parse_receipt(format_receipt(receipt)) == receipt
        checked = check_receipt(receipt, entry, POLICY)
        assert (checked.checkpoint.size, checked.cosigners) == (11, {"norland": 1000})
        assert code_of(format_receipt(receipt), entry + b"x") is Code.BAD_PROOF


def test_the_only_entry_of_a_log_has_an_empty_proof() -> None:
    """SPEC receipt-1: zero proof lines, as tlog-proof allows."""
    tree = HashTree(hash_leaves([b"only"]))
    receipt = Receipt(0, (), cosigned(Checkpoint(ORIGIN, 1, tree.root())))
    assert b"\nindex 0\n\nexample.org" in format_receipt(receipt)
    check_receipt(parse_receipt(format_receipt(receipt)), b"only", POLICY)


def test_extra_data_is_carried_and_not_trusted() -> None:
    """SPEC receipt-1, SPEC receipt-4: it comes back, and changing it changes nothing that is checked."""
    with_extra = format_receipt(replace(RECEIPT, extra=b"context"))
    assert with_extra.startswith(b"c2sp.org/tlog-proof@v1\nextra Y29udGV4dA==\nindex 5\n")
    assert parse_receipt(with_extra).extra == b"context"
    assert code_of(with_extra) is None
    assert code_of(format_receipt(replace(RECEIPT, extra=b"another"))) is None


def test_every_flipped_bit_is_refused() -> None:
    """SPEC receipt-1, SPEC receipt-3: header, index, proof, checkpoint, signatures."""
    for bit in range(len(DATA) * 8):
        damaged = bytearray(DATA)
        damaged[bit // 8] ^= 1 << bit % 8
        assert code_of(bytes(damaged)) is not None, f"bit {bit}"


def test_every_cut_is_refused() -> None:
    """SPEC receipt-1: from either side. (A cut between signature lines leaves a note without its quorum.)"""
    for at in range(1, len(DATA)):
        assert code_of(DATA[:at]) is not None
        assert code_of(DATA[at:]) is not None


def swap(old: str, new: str) -> bytes:
    assert old.encode() in DATA
    return DATA.replace(old.encode(), new.encode(), 1)


FIRST = format_base64(RECEIPT.proof[0])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        DATA + b"\n",
        b"\n" + DATA,
        swap("tlog-proof@v1", "tlog-proof@v2"),
        swap("tlog-proof@v1\n", "tlog-proof@v1\r\n"),
        swap("index 5", "index 05"),
        swap("index 5", "index +5"),
        swap("index 5", "index  5"),
        swap("index 5", "index 5 "),
        swap("index 5", "index -5"),
        swap("index 5", "index ٥"),
        swap("index 5", "index 9223372036854775808"),
        swap("index 5\n", ""),
        swap("index 5\n", "index 5\nindex 5\n"),
        swap("index 5\n", "extra \nindex 5\n"),
        swap("index 5\n", "extra\nindex 5\n"),
        swap("index 5\n", "extra AAAAAAB=\nindex 5\n"),
        swap("index 5\n", "extra AAAA\nextra AAAA\nindex 5\n"),
        swap("index 5\n", "index 5\nextra AAAA\n"),
        swap(FIRST, FIRST + " "),
        swap(FIRST, FIRST[:-4]),
        swap(FIRST, FIRST[:-1]),
        swap(FIRST, format_base64(bytes(31))),
        swap(FIRST, format_base64(bytes(33))),
        swap(FIRST + "\n", FIRST + "\n\n"),
        swap(FIRST + "\n", ""),
        swap(FIRST + "\n", FIRST + "\n" + FIRST + "\n"),
    ],
)
def test_what_is_not_the_receipt_is_refused(data: bytes) -> None:
    """SPEC receipt-1: other lines, another order, other numbers, other base64."""
    assert code_of(data) is not None


def test_limits() -> None:
    """SPEC receipt-2: 63 hashes and 65,535 bytes of extra data are read, one more is not."""
    longest = replace(RECEIPT, proof=(bytes(32),) * 63, extra=bytes(65_535), index=2**63 - 1)
    assert parse_receipt(format_receipt(longest)) == longest
    for damaged in (replace(longest, proof=(bytes(32),) * 64), replace(longest, extra=bytes(65_536))):
        with pytest.raises(ValueError, match="not a receipt"):
            format_receipt(damaged)
    line = format_base64(bytes(32)) + "\n"
    assert code_of(swap("index 5\n", "index 5\n" + line * 60)) is Code.TOO_LARGE
    assert code_of(swap("index 5\n", f"extra {format_base64(bytes(65_536))}\nindex 5\n")) is Code.TOO_LARGE
    assert code_of(DATA + bytes(600_000)) is Code.TOO_LARGE
    with pytest.raises(ValueError, match="not a receipt"):
        format_receipt(replace(RECEIPT, checkpoint_note=b"no note"))


def test_a_receipt_of_another_tree_or_without_quorum_is_refused() -> None:
    """SPEC receipt-3: its checkpoint has to meet the policy, and to be that of the proof."""
    smaller = cosigned(Checkpoint(ORIGIN, 8, TREE.root(8)))
    assert code_of(format_receipt(replace(RECEIPT, checkpoint_note=smaller))) is Code.BAD_PROOF
    uncosigned = sign_checkpoint(Checkpoint(ORIGIN, 11, TREE.root()), ORIGIN, signing_key(ORIGIN))
    assert code_of(format_receipt(replace(RECEIPT, checkpoint_note=uncosigned))) is Code.NO_QUORUM
    elsewhere = cosigned(Checkpoint("example.org/other", 11, TREE.root()))
    assert code_of(format_receipt(replace(RECEIPT, checkpoint_note=elsewhere))) is Code.BAD_CHECKPOINT
    assert code_of(format_receipt(replace(RECEIPT, index=11))) is Code.BAD_PROOF


@given(st.binary(max_size=200), st.integers(0, len(DATA)))
def test_random_bytes_are_refused_and_nothing_else(noise: bytes, at: int) -> None:
    for mutant in (noise, DATA[:at] + noise + DATA[at:], DATA[:at] + noise):
        try:
            receipt = parse_receipt(mutant)
        except Refused:
            continue
        assert format_receipt(receipt) == mutant
