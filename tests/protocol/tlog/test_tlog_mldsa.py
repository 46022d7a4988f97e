"""ML-DSA-44 cosignatures: C2SP's second kind, over the tree instead of the text, and naming the cosigner."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from hypothesis import given
from hypothesis import strategies as st

from pacekeeper.protocol import keys, mldsa
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, format_checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import cosignature_time, sign_cosignature
from pacekeeper.protocol.tlog.note import ED25519, ML_DSA_44, NoteKey, format_vkey, open_note, parse_note, parse_vkey
from pacekeeper.protocol.tlog.vkey import cosigned_tree

ORIGIN = "example.org/pacekeeper"
NAME = "norland.example/verifier"
TIME_S = 1_800_000_000
KEY = mldsa.SigningKey(bytes(range(32)))
LOG = keys.SigningKey(bytes(32))
TREE = Checkpoint(ORIGIN, 3, hashlib.sha256(b"a root").digest())
TEXT = format_checkpoint(TREE)
COSIGNER = NoteKey(NAME, ML_DSA_44, KEY.public)


def note(line: str, text: str = TEXT) -> bytes:
    return f"{text}\n{line}".encode()


def test_the_key_follows_from_its_seed() -> None:
    """It follows from the seed alone."""
    assert len(KEY.public) == mldsa.PUBLIC_BYTES
    assert mldsa.SigningKey(bytes(range(32))).public == KEY.public
    assert "public=" in repr(KEY)


def test_a_cosignature_verifies_and_bears_its_time() -> None:
    """SPEC note-16, SPEC note-22: the log's line and the cosigner's, each by its own rule."""
    line = sign_cosignature(TEXT, NAME, KEY, TIME_S)
    whole = sign_checkpoint(TREE, ORIGIN, LOG) + line.encode()
    opened, signers = open_note(whole, [NoteKey(ORIGIN, ED25519, LOG.public), COSIGNER])
    assert [signer.name for signer in signers] == [ORIGIN, NAME]
    assert cosignature_time(opened.signatures[1]) == TIME_S
    assert len(opened.signatures[1].data) == 8 + mldsa.SIGNATURE_BYTES


def test_the_signed_message_is_the_one_of_c2sp() -> None:
    """SPEC note-22: laid out by hand."""
    expected = (
        b"subtree/v1\n\x00"
        + b"\x18norland.example/verifier"
        + TIME_S.to_bytes(8, "big")
        + b"\x16example.org/pacekeeper"
        + bytes(8)
        + bytes(7)
        + b"\x03"
        + TREE.root
    )
    assert cosigned_tree(NAME, TEXT, TIME_S) == expected
    [signature] = parse_note(note(sign_cosignature(TEXT, NAME, KEY, TIME_S))).signatures
    MLDSA44PublicKey.from_public_bytes(KEY.public).verify(signature.data[8:], expected)


def test_extension_lines_are_not_signed() -> None:
    """SPEC note-22: and so nothing may rest on them."""
    line = sign_cosignature(TEXT, NAME, KEY, TIME_S)
    assert open_note(note(line, TEXT + "an extension\n"), [COSIGNER])[1] == (COSIGNER,)


@pytest.mark.parametrize(
    "other",
    [
        Checkpoint("example.org/other", 3, TREE.root),
        Checkpoint(ORIGIN, 4, TREE.root),
        Checkpoint(ORIGIN, 3, bytes(32)),
    ],
    ids=["origin", "size", "root"],
)
def test_another_tree_is_not_cosigned(other: Checkpoint) -> None:
    """SPEC note-22: origin, size and root are each signed."""
    line = sign_cosignature(format_checkpoint(other), NAME, KEY, TIME_S)
    with pytest.raises(Refused) as caught:
        open_note(note(line), [COSIGNER])
    assert caught.value.code is Code.BAD_SIGNATURE


def test_the_name_is_signed() -> None:
    """SPEC note-22: unlike an Ed25519 cosignature, it cannot be carried over to another name."""
    [signature] = parse_note(note(sign_cosignature(TEXT, NAME, KEY, TIME_S))).signatures
    other = NoteKey("sudria.example/verifier", ML_DSA_44, KEY.public)
    assert COSIGNER.verify(TEXT, signature.data)
    assert not other.verify(TEXT, signature.data)


@given(at=st.integers(0, 8 + mldsa.SIGNATURE_BYTES - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_verifies(at: int, bit: int) -> None:
    """SPEC note-16: time and signature."""
    data = bytearray(SIGNED)
    data[at] ^= 1 << bit
    assert not COSIGNER.verify(TEXT, bytes(data))


SIGNED = parse_note(note(sign_cosignature(TEXT, NAME, KEY, TIME_S))).signatures[0].data


@pytest.mark.parametrize("data", [b"", SIGNED[:-1], SIGNED + b"\0", bytes(8) + SIGNED[8:], b"\x80" + SIGNED[1:]])
def test_bad_lengths_and_times_do_not_verify(data: bytes) -> None:
    """SPEC note-16, SPEC note-17."""
    assert not COSIGNER.verify(TEXT, data)


def test_a_time_that_none_can_be_does_not_count_though_it_is_signed() -> None:
    """SPEC note-17: 0, and beyond 2^63 - 1."""
    for time_s, counts in ((0, False), (1, True), (2**63 - 1, True), (2**63, False)):
        message = cosigned_tree(NAME, TEXT, time_s)
        assert message is not None
        assert COSIGNER.verify(TEXT, time_s.to_bytes(8, "big") + KEY.sign(message)) is counts


def test_a_text_that_is_no_checkpoint_is_not_signed_nor_verified() -> None:
    """SPEC note-18."""
    with pytest.raises(Refused):
        sign_cosignature("hello\n", NAME, KEY, TIME_S)
    assert not COSIGNER.verify("hello\n", SIGNED)
    with pytest.raises(ValueError, match="255"):
        sign_cosignature(format_checkpoint(Checkpoint("o" * 256, 3, TREE.root)), NAME, KEY, TIME_S)


def test_its_vkey_reads_back() -> None:
    """SPEC note-6, SPEC note-7: 1,312 bytes of key, algorithm 6."""
    assert parse_vkey(format_vkey(COSIGNER)) == COSIGNER
    digest = hashlib.sha256(NAME.encode() + b"\n\x06" + KEY.public).digest()
    assert COSIGNER.hash == int.from_bytes(digest[:4], "big")
    with pytest.raises(Refused):
        NoteKey(NAME, ML_DSA_44, KEY.public[:-1])
    with pytest.raises(ValueError, match="255"):
        NoteKey("n" * 256, ML_DSA_44, KEY.public)
    with pytest.raises(ValueError, match="seed"):
        mldsa.SigningKey(bytes(31))
