"""Ed25519 under one rule: the signatures and keys on which libraries differ, made with slow integers."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

import edwards
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors import VECTORS, check_json

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import (
    SigningKey,
    check_public_key,
    format_public_key,
    key_id,
    parse_public_key,
    verify,
)

SEED: Final = bytes(range(32))
MESSAGE: Final = b"pacekeeper"
SIGNER: Final = SigningKey(SEED)
SCALAR: Final = edwards.secret_scalar(SEED)


def le32(number: int) -> bytes:
    return number.to_bytes(32, "little")


def signature_with(r: bytes, r_scalar: int, key: bytes = SIGNER.public, message: bytes = MESSAGE) -> bytes:
    """A signature whose equation holds for that encoding of R = r_scalar * B, whatever checks it breaks."""
    return r + le32((r_scalar + edwards.challenge(r, key, message) * SCALAR) % edwards.L)


def registrable(key: bytes) -> bool:
    try:
        return check_public_key(key) == key
    except Refused:
        return False


def small_order_keys() -> list[tuple[str, bytes]]:
    found = [
        (f"small order {order}, canonical", edwards.encode(point))
        for order, point in zip((1, 8, 4, 8, 2, 8, 4, 8), edwards.torsion(), strict=True)
    ]
    found += [(f"small order 4, y = p, sign bit {sign}", edwards.encode_y(edwards.P, sign)) for sign in (0, 1)]
    found += [(f"the identity, y = p + 1, sign bit {sign}", edwards.encode_y(edwards.P + 1, sign)) for sign in (0, 1)]
    found.append(("the identity with the sign bit of a zero x", edwards.encode_y(1, 1)))
    found.append(("small order 2 with the sign bit of a zero x", edwards.encode_y(edwards.P - 1, 1)))
    return found


def non_canonical_keys() -> list[tuple[str, bytes]]:
    """y and y + p are one point; only 19 values of y leave room for the second spelling."""
    return [
        (f"y = p + {y}, not reduced", edwards.encode_y(edwards.P + y, 0))
        for y in range(2, 19)
        if edwards.recover_x(y, 0) is not None
    ]


def mixed_order_vector(index: int, torsion: edwards.Point) -> dict[str, Any]:
    """A key with a part of small order and a signature under it that its holder can make by trying messages."""
    key = edwards.encode(edwards.add(edwards.multiply(SCALAR, edwards.BASE), torsion))
    r = edwards.encode(edwards.multiply(7, edwards.BASE))
    message = next(m for m in (b"attempt %d" % n for n in range(1000)) if edwards.challenge(r, key, m) % 8 == 0)
    return vector(
        f"mixed order: a key of the large group plus small-order point {index}; signatures under it can be made by "
        "trying, and verifiers that multiply by the cofactor disagree about others, so it is refused when registered",
        key,
        message,
        signature_with(r, 7, key, message),
    )


def vector(why: str, key: bytes, message: bytes, signature: bytes) -> dict[str, Any]:
    return {
        "why": why,
        "key": key,
        "message": message,
        "signature": signature,
        "registered": registrable(key),
        "verifies": verify(key, message, signature),
    }


def key_vectors() -> list[dict[str, Any]]:
    # R is the identity's neighbour B and S = 1 + 0: under a key of order 1 that is a signature of every message.
    base = edwards.encode(edwards.BASE)
    found = [vector(why, key, MESSAGE, base + le32(1)) for why, key in small_order_keys()]
    found += [vector(why, key, MESSAGE, SIGNER.sign(MESSAGE)) for why, key in non_canonical_keys()]
    found += [mixed_order_vector(i, point) for i, point in enumerate(edwards.torsion()) if i]
    found.append(vector("no point has this y", edwards.encode_y(2, 0), MESSAGE, SIGNER.sign(MESSAGE)))
    found.append(vector("31 bytes", SIGNER.public[:31], MESSAGE, SIGNER.sign(MESSAGE)))
    return found


def signature_vectors() -> list[dict[str, Any]]:
    good = SIGNER.sign(MESSAGE)
    key = SIGNER.public
    s = int.from_bytes(good[32:], "little")
    cases = [
        ("an honest signature", MESSAGE, good),
        ("another message", MESSAGE + b"!", good),
        ("S + L: the same equation, another spelling", MESSAGE, good[:32] + le32(s + edwards.L)),
        ("S = L where S = 0 is meant", MESSAGE, good[:32] + le32(edwards.L)),
        ("the top bit of S", MESSAGE, good[:63] + bytes([good[63] | 0x80])),
        ("63 bytes", MESSAGE, good[:63]),
        ("65 bytes", MESSAGE, good + b"\x00"),
    ]
    for order, point in zip((1, 8, 4, 8, 2, 8, 4, 8), edwards.torsion(), strict=True):
        why = f"R of small order {order}" + ("; the equation holds" if order == 1 else "; holds times the cofactor")
        cases.append((why, MESSAGE, signature_with(edwards.encode(point), 0)))
    for sign in (0, 1):
        r = edwards.encode_y(edwards.P + 1, sign)
        cases.append((f"R the identity as y = p + 1, sign bit {sign}", MESSAGE, signature_with(r, 0)))
    cases.append(("R the identity with the sign bit of zero", MESSAGE, signature_with(edwards.encode_y(1, 1), 0)))
    for why, r in non_canonical_keys()[:2]:
        cases.append((f"R with {why}", MESSAGE, signature_with(r, 0)))
    return [vector(why, key, message, signature) for why, message, signature in cases]


def test_the_slow_curve_is_the_fast_one() -> None:
    assert edwards.encode(edwards.multiply(SCALAR, edwards.BASE)) == SIGNER.public
    r = edwards.encode(edwards.multiply(12345, edwards.BASE))
    assert verify(SIGNER.public, MESSAGE, signature_with(r, 12345)), "so that refusals are due to the checks alone"


def test_no_key_of_small_order_is_registered_or_verifies_anything() -> None:
    """SPEC keys-1, SPEC keys-2: all eight points, in every spelling."""
    keys = small_order_keys()
    assert len({key for _, key in keys}) == 14
    for why, key in keys:
        assert not registrable(key), why
        for signature in (edwards.encode(edwards.BASE) + le32(1), edwards.encode(edwards.IDENTITY) + le32(0)):
            assert not verify(key, MESSAGE, signature), why


def test_no_key_outside_the_canonical_prime_order_group_is_registered() -> None:
    """SPEC keys-1."""
    assert registrable(SIGNER.public)
    for found in key_vectors():
        with pytest.raises(Refused) as caught:
            check_public_key(found["key"])
        assert caught.value.code is Code.BAD_KEY, found["why"]
    assert len(non_canonical_keys()) >= 5


def test_a_mixed_order_key_would_verify_and_is_stopped_at_registration() -> None:
    """SPEC keys-1: this is why registration asks for prime order and not only for large order."""
    mixed = [found for found in key_vectors() if found["why"].startswith("mixed")]
    assert len(mixed) == 7
    assert all(found["verifies"] and not found["registered"] for found in mixed)


def test_only_the_honest_signature_verifies() -> None:
    """SPEC keys-2: S >= L, R of small order, R non-canonical."""
    verdicts = {found["why"]: found["verifies"] for found in signature_vectors()}
    assert [why for why, verifies in verdicts.items() if verifies] == ["an honest signature"]


def test_key_vectors_are_as_the_code_says() -> None:
    check_json(VECTORS / "keys" / "public-keys.json", key_vectors())
    check_json(VECTORS / "keys" / "signatures.json", signature_vectors())


@settings(max_examples=100)
@given(st.binary(max_size=40), st.binary(max_size=70), st.binary(max_size=20))
def test_verify_never_raises_and_never_accepts_noise(key: bytes, signature: bytes, message: bytes) -> None:
    assert not verify(key, message, signature)
    assert not verify(SIGNER.public, message, signature)


@settings(max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 511))
def test_one_flipped_bit_ends_a_signature(message: bytes, bit: int) -> None:
    signature = bytearray(SIGNER.sign(message))
    assert verify(SIGNER.public, message, bytes(signature))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(SIGNER.public, message, bytes(signature))


def test_key_ids_are_tagged_hashes() -> None:
    """SPEC keys-3."""
    assert key_id(SIGNER.public) == hashlib.sha256(b"pacekeeper/key/v1\n" + SIGNER.public).digest() == SIGNER.key_id


def test_keys_have_one_text_form() -> None:
    """SPEC keys-4."""
    text = format_public_key(SIGNER.public)
    assert parse_public_key(text) == SIGNER.public
    stray = "ed25519:" + base64.b64encode(SIGNER.public).decode()[:-2] + "h="
    assert base64.b64decode(stray[8:]) != b"", "a lenient reader takes it"
    for bad in ("", text[8:], "Ed25519:" + text[8:], text + " ", text + "\n", text[:-1], stray, text.replace("=", "")):
        with pytest.raises(ValueError, match="expected a key"):
            parse_public_key(bad)
    with pytest.raises(Refused) as caught:
        parse_public_key(format_public_key(edwards.encode(edwards.IDENTITY)))
    assert caught.value.code is Code.BAD_KEY


def test_a_signing_key_does_not_print_its_secret() -> None:
    shown = repr(SIGNER)
    assert SIGNER.key_id.hex()[:16] in shown
    assert SEED.hex() not in shown
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey(SEED[:31])
