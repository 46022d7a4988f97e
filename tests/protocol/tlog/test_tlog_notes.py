"""Signed notes: the one form that is read, who is known, and every way of damaging them."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.encoding import format_base64, parse_base64, parse_decimal
from pacekeeper.protocol.tlog.note import (
    COSIGNATURE_V1,
    ED25519,
    Note,
    NoteKey,
    NoteSignature,
    add_signatures,
    format_note,
    format_vkey,
    open_note,
    parse_note,
    parse_signatures,
    parse_vkey,
    sign_note,
    verify_signatures,
)

# The example of C2SP signed-note.
C2SP_EXAMPLE = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)

# The key pair and note with which golang.org/x/mod/sumdb/note tests and documents itself.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)

NAME = "example.org/signer"
TEXT = "a text\n\nof several lines\n"


def signing_key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(b"pacekeeper test key " + name.encode()).digest())


KEY = signing_key(NAME)
KNOWN = NoteKey(NAME, ED25519, KEY.public)
LINE = sign_note(TEXT, NAME, KEY)
NOTE = (TEXT + "\n" + LINE).encode()


def code_of(data: bytes, known: tuple[NoteKey, ...] = (KNOWN,)) -> Code | None:
    try:
        open_note(data, known)
    except Refused as refusal:
        return refusal.code
    return None


def with_line(line: str) -> bytes:
    """The good note with one more line, so that only that line can be at fault."""
    return NOTE + line.encode()


def test_the_example_of_c2sp_is_read() -> None:
    """SPEC note-2, SPEC note-4: text up to the last blank line, empty lines and accents included."""
    note = parse_note(C2SP_EXAMPLE.encode())
    assert note.text.endswith("ed è subito sera.\n")
    assert note.text.count("\n") == 4
    (signature,) = note.signatures
    assert (signature.name, f"{signature.key_hash:08x}", len(signature.data)) == (
        "quasimodo.example/salvatore",
        "367ba04b",
        64,
    )
    assert format_note(note) == C2SP_EXAMPLE.encode()


def test_gos_note_is_reproduced_byte_for_byte() -> None:
    """SPEC note-5, SPEC note-6, SPEC note-7: key hash, vkey and signature of another implementation."""
    key = parse_vkey(GO_VKEY)
    assert (key.name, key.algorithm, f"{key.hash:08x}") == ("PeterNeumann", ED25519, "c74f20a3")
    assert format_vkey(key) == GO_VKEY
    assert SigningKey(GO_SEED).public == key.public_key
    assert sign_note(GO_TEXT, "PeterNeumann", SigningKey(GO_SEED)) == GO_LINE
    note, signers = open_note(f"{GO_TEXT}\n{GO_LINE}".encode(), [key])
    assert (note.text, signers) == (GO_TEXT, (key,))


def test_a_signed_note_opens() -> None:
    note, signers = open_note(NOTE, [KNOWN, NoteKey("other", ED25519, signing_key("other").public)])
    assert (note.text, signers) == (TEXT, (KNOWN,))
    assert format_note(note) == NOTE


def test_every_flipped_bit_is_refused() -> None:
    """SPEC note-11, SPEC note-12: a changed bit makes no note, an unknown signer or a bad signature."""
    for bit in range(len(NOTE) * 8):
        damaged = bytearray(NOTE)
        damaged[bit // 8] ^= 1 << bit % 8
        assert code_of(bytes(damaged)) in {Code.BAD_NOTE, Code.BAD_SIGNATURE}


def test_every_cut_and_every_added_byte_is_refused() -> None:
    for at in range(len(NOTE)):
        assert code_of(NOTE[:at]) is not None
        assert code_of(NOTE[at:]) is not None or at == 0
    for byte in range(256):
        assert code_of(NOTE + bytes([byte])) is Code.BAD_NOTE
        assert code_of(bytes([byte]) + NOTE) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        b"text\n" + LINE.encode(),
        TEXT.encode() + LINE.encode() + b"\n",
        NOTE + b"\n",
        NOTE[:-1],
        NOTE.replace(b"\n", b"\r\n"),
        NOTE.replace(b"a text", b"a\rtext"),
        NOTE.replace(b"a text", b"a\0text"),
        NOTE.replace(b"a text", b"a\ttext"),
        NOTE.replace(b"a text", b"a\x1ftext"),
        NOTE.replace(b"a text", b"a\xfftext"),
        NOTE.replace(b"a text", b"a\xed\xa0\x80text"),
        NOTE.replace(b"a text", b"a\xc0\x80text"),
        b"\xef\xbb\xbf" + NOTE[:3],
    ],
)
def test_what_is_not_a_note_is_refused(data: bytes) -> None:
    """SPEC note-1, SPEC note-2: UTF-8, no control characters, a blank line, and whole signature lines after it."""
    assert code_of(data) is Code.BAD_NOTE


@pytest.mark.parametrize(
    "name",
    [
        "",
        "two words",
        "a+b",
        "a\u00a0b",
        "a\u0085b",
        "a\u2003b",
        "a\u2028b",
        "a\u3000b",
        "\u1680",
    ],
)
def test_names_with_spaces_or_plus_are_refused(name: str) -> None:
    """SPEC note-3: in a signature line, in a vkey and when signing."""
    assert code_of(with_line(f"— {name} {format_base64(bytes(68))}\n")) is Code.BAD_NOTE
    with pytest.raises(ValueError, match="key name"):
        NoteKey(name, ED25519, KEY.public)
    with pytest.raises(ValueError, match="key name"):
        sign_note(TEXT, name, KEY)


@pytest.mark.parametrize(
    "line",
    [
        "— name AAAAAAA=\n\n",
        "\n",
        "—\n",
        "— \n",
        "— name\n",
        "— name \n",
        "—name AAAAAAA=\n",
        "—  name AAAAAAA=\n",
        "— name  AAAAAAA=\n",
        "— name AAAAAAA= \n",
        "— name AAAAAAA= AAAAAAA=\n",
        " — name AAAAAAA=\n",
        "- name AAAAAAA=\n",
        "– name AAAAAAA=\n",
        "—\u00a0name AAAAAAA=\n",
        "— name AAAAAA==\n",  # four bytes: a key hash and no signature
        "— name AAAAAAB=\n",  # padding bits set
        "— name AAAAAAA\n",
        "— name AAAAAAA==\n",
        "— name AAAAAAA=====\n",
        "— name =AAAAAAA\n",
        "— name AAAA-AA=\n",
        "— name AAAA_AA=\n",
        "— name AAAA!AAA\n",
        "— name AAAAＡAA=\n",
    ],
)
def test_malformed_signature_lines_condemn_the_note(line: str) -> None:
    """SPEC note-4: em dash, name, canonical base64, one space between each."""
    assert code_of(with_line(line)) is Code.BAD_NOTE


def test_the_shortest_signature_is_one_byte_and_ignored_when_unknown() -> None:
    """SPEC note-4, SPEC note-9: what is well formed and unknown does no harm."""
    assert code_of(with_line("— name AAAAAAA=\n")) is None


def test_unknown_signers_are_ignored_unless_both_name_and_hash_match() -> None:
    """SPEC note-9: same name or same hash alone is another key."""
    same_hash = NoteSignature("example.org/other", KNOWN.hash, bytes(64)).line()
    same_name = NoteSignature(NAME, KNOWN.hash ^ 1, bytes(64)).line()
    assert code_of(with_line(same_hash + same_name)) is None
    assert code_of((TEXT + "\n" + same_hash + same_name).encode()) is Code.BAD_SIGNATURE


def test_a_bad_signature_by_a_known_key_condemns_the_note() -> None:
    """SPEC note-11: even beside a good one by the same key, before or after it."""
    bad = NoteSignature(NAME, KNOWN.hash, bytes(64)).line()
    assert code_of(with_line(bad)) is Code.BAD_SIGNATURE
    assert code_of((TEXT + "\n" + bad + LINE).encode()) is Code.BAD_SIGNATURE
    short = NoteSignature(NAME, KNOWN.hash, b"\0").line()
    assert code_of(with_line(short)) is Code.BAD_SIGNATURE


def test_a_note_without_a_known_key_is_refused() -> None:
    """SPEC note-12: nobody known, or none of those known."""
    assert code_of(NOTE, ()) is Code.BAD_SIGNATURE
    assert code_of(NOTE, (NoteKey(NAME, COSIGNATURE_V1, KEY.public),)) is Code.BAD_SIGNATURE


def test_a_key_that_signs_twice_is_one_signer() -> None:
    note, signers = open_note(with_line(LINE), [KNOWN])
    assert (len(note.signatures), signers) == (2, (KNOWN,))
    assert len(verify_signatures(note, [KNOWN, KNOWN])) == 2


def test_signers_come_in_the_order_of_their_lines() -> None:
    others = [signing_key(f"other {number}") for number in range(3)]
    known = [NoteKey(f"other-{number}", ED25519, key.public) for number, key in enumerate(others)]
    lines = [sign_note(TEXT, key.name, signer) for key, signer in zip(known, others, strict=True)]
    data = f"{TEXT}\n{lines[2]}{lines[0]}{lines[1]}".encode()
    assert open_note(data, known)[1] == (known[2], known[0], known[1])


def test_two_known_keys_under_one_id_are_the_callers_mistake() -> None:
    class Collision(NoteKey):
        hash = KNOWN.hash  # finding a true collision of 32 bits takes minutes

    with pytest.raises(ValueError, match="share the key hash"):
        verify_signatures(parse_note(NOTE), [KNOWN, Collision(NAME, ED25519, signing_key("x").public)])


def test_limits_of_signatures_and_bytes() -> None:
    """SPEC note-8: 64 signatures are read and 65 are not, 262,144 bytes are and one more is not."""
    unknown = "— name AAAAAAA=\n"
    assert code_of(NOTE + unknown.encode() * 63) is None
    assert code_of(NOTE + unknown.encode() * 64) is Code.TOO_LARGE
    assert parse_signatures(unknown.encode() * 64)
    with pytest.raises(Refused, match="too-large"):
        parse_signatures(unknown.encode() * 65)
    long_text = "x" * (limits.MAX_NOTE_BYTES - len(LINE.encode()) - 3) + "\n"
    line = sign_note(long_text + "x\n", NAME, KEY)
    assert code_of((long_text + "x\n\n" + line).encode()) is Code.TOO_LARGE
    longest = f"{long_text}\n{sign_note(long_text, NAME, KEY)}".encode()
    assert len(longest) == limits.MAX_NOTE_BYTES - 1
    assert code_of(longest) is None
    with pytest.raises(Refused, match="too-large"):
        parse_signatures(bytes(limits.MAX_NOTE_BYTES + 1))


def test_signatures_alone_are_read_like_those_of_a_note() -> None:
    assert parse_signatures(LINE.encode() * 2) == parse_note(with_line(LINE)).signatures
    for data in (b"", b"\n", LINE.encode()[:-1], b"\n" + LINE.encode(), b"\xff\n"):
        with pytest.raises(Refused, match="bad-note"):
            parse_signatures(data)


def test_adding_signatures_keeps_the_note_and_repeats_none() -> None:
    other = sign_note(TEXT, "other", signing_key("other"))
    added = add_signatures(NOTE, parse_signatures((other + LINE + other).encode()))
    assert added == with_line(other)
    with pytest.raises(ValueError, match="not a note"):
        add_signatures(NOTE, [NoteSignature("other", number, b"x") for number in range(64)])


@pytest.mark.parametrize(
    "note",
    [
        Note("no newline", (NoteSignature("n", 1, b"x"),)),
        Note("", (NoteSignature("n", 1, b"x"),)),
        Note("t\n", ()),
        Note("t\r\n", (NoteSignature("n", 1, b"x"),)),
        Note("t\n", (NoteSignature("two words", 1, b"x"),)),
        Note("t\n", (NoteSignature("n", 1, b""),)),
        Note("t\n", (NoteSignature("n\n\n— m", 1, b"x"),)),
    ],
)
def test_what_would_not_be_read_is_not_written(note: Note) -> None:
    with pytest.raises(ValueError, match="not a note"):
        format_note(note)


@pytest.mark.parametrize("text", ["", "no newline", "a\0b\n", "a\r\n"])
def test_what_is_no_text_is_not_signed(text: str) -> None:
    """SPEC note-1: the signer obeys it too."""
    with pytest.raises(ValueError, match="newline"):
        sign_note(text, NAME, KEY)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    for mutant in (data, b"text\n\n" + data, TEXT.encode() + b"\n" + LINE.encode() + data):
        try:
            note = parse_note(mutant)
        except Refused:
            continue
        assert format_note(note) == mutant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "++",
        GO_VKEY + "\n",
        " " + GO_VKEY,
        GO_VKEY[1:],
        GO_VKEY[:-1],
        GO_VKEY.replace("c74f20a3", "C74F20A3"),
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("c74f20a3", "0c74f20a3"),
        GO_VKEY.replace("c74f20a3", "c74f20a"),
        GO_VKEY.replace("PeterNeumann", "PeterNeuman"),
        GO_VKEY.replace("PeterNeumann", "Peter Neumann"),
        GO_VKEY.replace("PeterNeumann", "Peter\ud800Neumann"),
        GO_VKEY.replace("+AR", "+BR"),  # algorithm 5
        GO_VKEY.replace("+AR", "+Ah"),  # algorithm 2
        "PeterNeumann+c74f20a3+" + format_base64(bytes(32)),
    ],
)
def test_malformed_vkeys(text: str) -> None:
    """SPEC note-7: any other spelling, hash or algorithm."""
    with pytest.raises(ValueError):
        parse_vkey(text)


def test_every_changed_character_of_a_vkey_is_refused() -> None:
    """SPEC note-7: the key hash guards name and key."""
    for at in range(len(GO_VKEY)):
        changed = GO_VKEY[:at] + chr(ord(GO_VKEY[at]) + 1) + GO_VKEY[at + 1 :]
        with pytest.raises((ValueError, Refused)):
            parse_vkey(changed)


def test_both_algorithms_have_vkeys_and_other_hashes() -> None:
    """SPEC note-6, SPEC note-7: one key under two algorithms is two note keys; its own rule for keys still holds."""
    cosigner = NoteKey(NAME, COSIGNATURE_V1, KEY.public)
    assert parse_vkey(format_vkey(cosigner)) == cosigner
    assert cosigner.hash != KNOWN.hash
    digest = hashlib.sha256(NAME.encode() + b"\n\x04" + KEY.public).digest()
    assert cosigner.hash == int.from_bytes(digest[:4], "big")
    with pytest.raises(Refused, match="bad-key"):
        NoteKey(NAME, ED25519, bytes(32))
    with pytest.raises(ValueError, match="algorithm 5"):
        NoteKey(NAME, 5, KEY.public)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("7", 7),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("", None),
        ("00", None),
        ("01", None),
        ("+1", None),
        ("-1", None),
        ("-0", None),
        ("1_000", None),
        (" 1", None),
        ("1\n", None),
        ("1e3", None),
        ("0x1", None),
        ("٣", None),
        ("²", None),
        ("9" * 19, None),
        ("9" * 5000, None),
    ],
)
def test_decimals_have_one_form(text: str, value: int | None) -> None:
    """SPEC note-10: ASCII digits, no sign, no leading zero, at most 2^63 - 1."""
    assert parse_decimal(text) == value


def test_base64_has_one_form() -> None:
    """SPEC note-4: of the 64 last characters before one padding sign, 16 have zero padding bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    assert sum(parse_base64(f"AA{character}=") is not None for character in alphabet) == 16
    assert sum(parse_base64(f"A{character}==") is not None for character in alphabet) == 4
    assert parse_base64("") == b""
