"""Checkpoints, cosignatures and the quorum that makes a checkpoint believable."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey, verify
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import cosignature_time, sign_cosignature
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT
from pacekeeper.protocol.tlog.note import NoteKey, NoteSignature, open_note, parse_note, parse_signatures
from pacekeeper.protocol.tlog.policy import CheckedCheckpoint, CosignaturePolicy, check_checkpoint
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, ED25519, cosigned_message

# The example of C2SP tlog-cosignature.
C2SP_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
C2SP_EXAMPLE = (
    f"{C2SP_TEXT}\n— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)

ORIGIN = "example.org/pacekeeper"
CHECKPOINT = Checkpoint(ORIGIN, 3, hashlib.sha256(b"root").digest())
TEXT = format_checkpoint(CHECKPOINT)
PARTIES = ("norland", "sudria", "ostmark", "westria")


def signing_key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(b"pacekeeper test key " + name.encode()).digest())


def verifier(party: str) -> str:
    return f"{party}.example/verifier"


def cosigner(party: str) -> NoteKey:
    return NoteKey(verifier(party), COSIGNATURE_V1, signing_key(verifier(party)).public)


LOG_KEY = NoteKey(ORIGIN, ED25519, signing_key(ORIGIN).public)
POLICY = CosignaturePolicy(ORIGIN, LOG_KEY, tuple((party, cosigner(party)) for party in PARTIES), 3)
SIGNED = sign_checkpoint(CHECKPOINT, ORIGIN, signing_key(ORIGIN))


def cosignature(party: str, time_s: int, text: str = TEXT) -> bytes:
    return sign_cosignature(text, verifier(party), signing_key(verifier(party)), time_s).encode()


def raw_cosignature(party: str, time_s: int, message_time: int) -> bytes:
    """A cosignature with any time, signed over any time."""
    signature = signing_key(verifier(party)).sign(cosigned_message(TEXT, message_time))
    return NoteSignature(verifier(party), cosigner(party).hash, time_s.to_bytes(8, "big") + signature).line().encode()


QUORUM = SIGNED + b"".join(cosignature(party, 1_000 + number) for number, party in enumerate(PARTIES[:3]))


def refusal(data: bytes, policy: CosignaturePolicy = POLICY) -> Refused:
    with pytest.raises(Refused) as caught:
        check_checkpoint(data, policy)
    return caught.value


def test_the_example_of_c2sp_is_read() -> None:
    """SPEC note-13, SPEC note-16: the example's checkpoint and its cosignature's time."""
    note = parse_note(C2SP_EXAMPLE.encode())
    checkpoint = parse_checkpoint(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root.hex().startswith("0ac5186a")
    assert format_checkpoint(checkpoint) == note.text == C2SP_TEXT
    assert cosignature_time(note.signatures[1]) == 1679315147
    with pytest.raises(ValueError, match="not a cosignature"):
        cosignature_time(note.signatures[0])


def test_the_cosigned_message_is_the_one_of_c2sp() -> None:
    """SPEC note-15: header, time, whole text."""
    assert cosigned_message(C2SP_TEXT, 1679315147) == f"cosignature/v1\ntime 1679315147\n{C2SP_TEXT}".encode()
    (signature,) = parse_signatures(cosignature("norland", 77))
    assert signature.key_hash == cosigner("norland").hash
    assert signature.data[:8] == bytes(7) + b"M"
    message = b"cosignature/v1\ntime 77\n" + TEXT.encode()
    assert verify(signing_key(verifier("norland")).public, message, signature.data[8:])


def test_extension_lines_are_kept() -> None:
    """SPEC note-13: and a signature covers them."""
    extended = replace(CHECKPOINT, extension=("one", "two words"))
    data = sign_checkpoint(extended, ORIGIN, signing_key(ORIGIN))
    assert check_checkpoint(data, POLICY, require_quorum=False).checkpoint == extended
    assert refusal(data.replace(b"two words", b"two wordz")).code is Code.BAD_SIGNATURE


ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "o\n3\n",
        f"o\n3\n{ROOT}",
        f"o\n3\n{ROOT}\n\n",
        f"o\n3\n{ROOT}\n\next\n",
        f"\n3\n{ROOT}\n",
        f"o\n\n{ROOT}\n",
        "o\n3\n\n",
        f"o\n03\n{ROOT}\n",
        f"o\n+3\n{ROOT}\n",
        f"o\n-3\n{ROOT}\n",
        f"o\n3 \n{ROOT}\n",
        f"o\n٣\n{ROOT}\n",
        f"o\n9223372036854775808\n{ROOT}\n",
        f"o\n{'9' * 400}\n{ROOT}\n",
        f"o\n3\n{ROOT[:-1]}\n",
        f"o\n3\n{ROOT[:-2]}J=\n",
        f"o\n3\n{ROOT} \n",
        "o\n3\nAAAA\n",
        f"o\n3\n{ROOT[:-1]}\n=\n",
        f"o\r\n3\r\n{ROOT}\r\n",
        f"o\n0\n{ROOT}\n",
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    """SPEC note-10, SPEC note-13, SPEC note-14: lines, decimal size, base64 root, and the empty tree's own root."""
    with pytest.raises(Refused) as caught:
        parse_checkpoint(text)
    assert caught.value.code is Code.BAD_CHECKPOINT


def test_the_empty_tree_has_a_checkpoint() -> None:
    """SPEC note-14: with its own root only."""
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert parse_checkpoint(format_checkpoint(empty)) == empty
    assert parse_checkpoint(f"o\n9223372036854775807\n{ROOT}\n").size == 2**63 - 1


@pytest.mark.parametrize(
    ("origin", "size", "root", "extension"),
    [
        ("", 3, bytes(32), ()),
        ("two\nlines", 3, bytes(32), ()),
        ("tab\t", 3, bytes(32), ()),
        ("o", -1, bytes(32), ()),
        ("o", 2**63, bytes(32), ()),
        ("o", 3, bytes(31), ()),
        ("o", 0, bytes(32), ()),
        ("o", 3, bytes(32), ("",)),
    ],
)
def test_a_checkpoint_that_exists_is_legal(origin: str, size: int, root: bytes, extension: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        Checkpoint(origin, size, root, extension)


def test_nobody_cosigns_what_is_no_checkpoint() -> None:
    """SPEC note-18: nor at an impossible time."""
    with pytest.raises(Refused) as caught:
        sign_cosignature("a text\n", verifier("norland"), signing_key("x"), 5)
    assert caught.value.code is Code.BAD_CHECKPOINT
    for time_s in (0, -1, 2**63):
        with pytest.raises(ValueError, match="time"):
            sign_cosignature(TEXT, verifier("norland"), signing_key("x"), time_s)


def test_a_quorum_is_believed_and_the_absent_are_named() -> None:
    """SPEC note-20, SPEC note-21: three of four."""
    checked = check_checkpoint(QUORUM, POLICY)
    assert checked == CheckedCheckpoint(
        CHECKPOINT, {"norland": 1000, "sudria": 1001, "ostmark": 1002}, ("westria",), parse_note(QUORUM)
    )
    assert open_note(QUORUM, [LOG_KEY])[1] == (LOG_KEY,)


def test_fewer_than_the_quorum_are_refused_unless_allowed() -> None:
    """SPEC note-21: two of the three that are needed."""
    two = SIGNED + cosignature("norland", 1000) + cosignature("westria", 1001)
    refused = refusal(two)
    assert refused.code is Code.NO_QUORUM
    assert refused.message.endswith("has 2 cosignatures of 3 needed; absent: sudria, ostmark")
    assert list(check_checkpoint(two, POLICY, require_quorum=False).cosigners) == ["norland", "westria"]
    assert check_checkpoint(SIGNED, POLICY, require_quorum=False).absent == PARTIES


def test_one_party_counts_once() -> None:
    """SPEC note-21: with many lines, and with two keys; its latest time counts."""
    often = SIGNED + b"".join(cosignature("norland", time_s) for time_s in (50, 90, 70, 50))
    assert refusal(often).code is Code.NO_QUORUM
    assert check_checkpoint(often, POLICY, require_quorum=False).cosigners == {"norland": 90}
    second = NoteKey("norland.example/new", COSIGNATURE_V1, signing_key("new").public)
    rotated = replace(POLICY, witnesses=(*POLICY.witnesses, ("norland", second)))
    line = sign_cosignature(TEXT, second.name, signing_key("new"), 95).encode()
    data = SIGNED + cosignature("norland", 50) + line + cosignature("sudria", 60)
    assert refusal(data, rotated).code is Code.NO_QUORUM
    assert check_checkpoint(data, rotated, require_quorum=False).cosigners == {"norland": 95, "sudria": 60}


def test_cosignatures_of_another_checkpoint_do_not_count() -> None:
    """SPEC note-11, SPEC note-15: another origin, size, root or time is another message."""
    others = [
        replace(CHECKPOINT, origin="example.org/other"),
        replace(CHECKPOINT, size=4),
        replace(CHECKPOINT, root=bytes(32)),
        replace(CHECKPOINT, extension=("more",)),
    ]
    for other in others:
        line = cosignature("westria", 1000, format_checkpoint(other))
        assert refusal(QUORUM + line).code is Code.BAD_SIGNATURE
    assert refusal(QUORUM + raw_cosignature("westria", 1000, 1001)).code is Code.BAD_SIGNATURE


@pytest.mark.parametrize("time_s", [0, 2**63, 2**64 - 1])
def test_impossible_times_do_not_count(time_s: int) -> None:
    """SPEC note-17: even when the signature is over that very time."""
    assert refusal(QUORUM + raw_cosignature("westria", time_s, time_s)).code is Code.BAD_SIGNATURE
    last = check_checkpoint(QUORUM + raw_cosignature("westria", 2**63 - 1, 2**63 - 1), POLICY)
    assert last.cosigners["westria"] == 2**63 - 1


def test_a_plain_signature_is_no_cosignature() -> None:
    """SPEC note-16: 64 bytes under a cosigner's key hash, or 72 under the log's."""
    key = signing_key(verifier("westria"))
    plain = NoteSignature(verifier("westria"), cosigner("westria").hash, key.sign(TEXT.encode())).line()
    assert refusal(QUORUM + plain.encode()).code is Code.BAD_SIGNATURE
    timed = bytes(7) + b"\1" + signing_key(ORIGIN).sign(cosigned_message(TEXT, 1))
    data = QUORUM + NoteSignature(ORIGIN, LOG_KEY.hash, timed).line().encode()
    assert refusal(data).code is Code.BAD_SIGNATURE


def test_another_origin_is_refused() -> None:
    """SPEC note-19: whoever signed it."""
    other = replace(CHECKPOINT, origin="example.org/other")
    data = sign_checkpoint(other, ORIGIN, signing_key(ORIGIN))
    assert refusal(data).code is Code.BAD_CHECKPOINT


def test_the_logs_signature_is_needed() -> None:
    """SPEC note-20: a quorum alone does not do."""
    unsigned = TEXT.encode() + b"\n" + b"".join(cosignature(party, 1000) for party in PARTIES)
    assert refusal(unsigned).code is Code.BAD_SIGNATURE
    assert refusal(b"a text\n\n" + SIGNED.partition(b"\n\n")[2]).code is Code.BAD_CHECKPOINT
    assert refusal(b"a text").code is Code.BAD_NOTE


def test_every_flipped_bit_of_a_needed_line_is_refused() -> None:
    """SPEC note-11, SPEC note-20, SPEC note-21: nothing of a checkpoint with just its quorum can change."""
    for bit in range(len(QUORUM) * 8):
        damaged = bytearray(QUORUM)
        damaged[bit // 8] ^= 1 << bit % 8
        code = refusal(bytes(damaged)).code
        assert code in {Code.BAD_NOTE, Code.BAD_CHECKPOINT, Code.BAD_SIGNATURE, Code.NO_QUORUM}


def test_policies_that_cannot_be() -> None:
    """SPEC note-21: a key counted twice, a quorum of nobody or of more than there are, a wrong algorithm."""
    twice = ("sudria", NoteKey("sudria.example/verifier", COSIGNATURE_V1, cosigner("norland").public_key))
    for change in (
        {"witnesses": (POLICY.witnesses[0], twice), "quorum": 2},
        {"witnesses": (("norland", NoteKey("w", COSIGNATURE_V1, LOG_KEY.public_key)),), "quorum": 1},
        {"quorum": 0},
        {"quorum": 5},
        {"witnesses": (("norland", cosigner("norland")), ("norland", cosigner("sudria"))), "quorum": 2},
        {"log_key": NoteKey(ORIGIN, COSIGNATURE_V1, LOG_KEY.public_key)},
        {"witnesses": (("norland", NoteKey("w", ED25519, cosigner("norland").public_key)),), "quorum": 1},
    ):
        with pytest.raises(ValueError, match=r"algorithm|key|quorum"):
            replace(POLICY, **change)
