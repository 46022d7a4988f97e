"""The witness's decision, case by case; nothing here has a disk, a clock or a socket."""

from __future__ import annotations

from dataclasses import replace

import pytest
from agreements import signing_key

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT
from pacekeeper.protocol.tlog.note import COSIGNATURE_V1, ED25519, NoteKey
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.verifier.witness import FRESH, Cosign, OwnTree, Terms, WitnessState, judge

ORIGIN = "example.org/pacekeeper"
LOG = signing_key("witness-test/log")
COUNTRY = signing_key("witness-test/country")
NOW_MS = 1_800_000_000_000
TERMS = Terms(
    CosignaturePolicy(
        ORIGIN,
        NoteKey(ORIGIN, ED25519, LOG.public),
        (("norland", NoteKey("norland.example/verifier", COSIGNATURE_V1, COUNTRY.public)),),
        1,
    ),
    tolerance_ms=2_000,
)
ROOT = bytes(range(32))
OTHER = bytes(32)
OWN = OwnTree(size=7, root=ROOT, head_ms=NOW_MS, ran_back_at=None)
FIVE = WitnessState(5, OTHER, NOW_MS - 500, NOW_MS - 400, b"the note of size 5")


def note(
    size: int = 7, root: bytes = ROOT, origin: str = ORIGIN, name: str = ORIGIN, extension: tuple[str, ...] = ()
) -> bytes:
    return sign_checkpoint(Checkpoint(origin, size, root, extension), name, LOG)


def refusal(before: WitnessState, own: OwnTree, data: bytes, now_ms: int = NOW_MS) -> Refused:
    with pytest.raises(Refused) as refused:
        judge(before, own, data, now_ms, TERMS)
    return refused.value


@pytest.mark.parametrize("before", [FRESH, FIVE], ids=["first", "grown"])
def test_the_own_tree_signed_by_the_log_is_cosigned(before: WitnessState) -> None:
    """SPEC verifier-4, SPEC verifier-5: the entries stored and replayed are those that the checkpoint covers."""
    decision = judge(before, OWN, note(), NOW_MS, TERMS)
    assert decision == Cosign(
        text=f"{ORIGIN}\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        witness=WitnessState(7, ROOT, NOW_MS, NOW_MS, note()),
        time_ms=NOW_MS,
        repeated=False,
    )


@pytest.mark.parametrize(
    ("before", "own", "data", "code", "says"),
    [
        # SPEC verifier-1
        (FRESH, OWN, b"", Code.BAD_NOTE, "no blank line"),
        (FRESH, OWN, note()[:-1], Code.BAD_NOTE, "newline"),
        (FRESH, OWN, note().replace(b"\n7\n", b"\n07\n"), Code.BAD_CHECKPOINT, "decimal"),
        (FRESH, OWN, note().replace(b"\n7\n", b"\n\n"), Code.BAD_CHECKPOINT, ""),
        (FRESH, OWN, note().replace(b"\n7\n", b"\n8\n"), Code.BAD_SIGNATURE, "does not verify"),
        (FRESH, OWN, note(origin="example.org/other"), Code.BAD_CHECKPOINT, "example.org/other"),
        (FRESH, OWN, note(name="example.org/other"), Code.BAD_SIGNATURE, "not signed by any known key"),
        (FRESH, OWN, note(0, EMPTY_ROOT), Code.BAD_CHECKPOINT, "no entry"),
        (FRESH, OwnTree(0, EMPTY_ROOT, 0, None), note(0, EMPTY_ROOT), Code.BAD_CHECKPOINT, "no entry"),
        (FRESH, OWN, note(extension=("vouch for me",)), Code.BAD_CHECKPOINT, "extension"),
        # SPEC verifier-2
        (FIVE, OWN, note(4, OTHER), Code.ROLLED_BACK, "covers 4 entries, and 5 are cosigned"),
        # SPEC verifier-3
        (FIVE, replace(OWN, size=5), note(5), Code.WRONG_ROOT, "another tree of 5"),
        # SPEC verifier-4
        (FIVE, OWN, note(6), Code.BAD_CHECKPOINT, "covers 6 entries, but 7"),
        (FIVE, OWN, note(8), Code.BAD_CHECKPOINT, "covers 8 entries, but 7"),
        # SPEC verifier-5
        (FIVE, OWN, note(root=OTHER), Code.WRONG_ROOT, "root of the checkpoint is not"),
        # SPEC verifier-6
        (FIVE, replace(OWN, ran_back_at=6), note(), Code.TIME_RUNS_BACK, "at entry 6"),
        # SPEC verifier-7
        (FIVE, replace(OWN, head_ms=NOW_MS + 2_001), note(), Code.CLOCK_DISAGREES, "2001 ms ahead"),
        # SPEC verifier-8
        (FIVE, replace(OWN, head_ms=NOW_MS - 2_001), note(), Code.CLOCK_DISAGREES, "2001 ms behind"),
    ],
)
def test_what_is_refused_and_why(before: WitnessState, own: OwnTree, data: bytes, code: Code, says: str) -> None:
    refused = refusal(before, own, data)
    assert refused.code == code
    assert says in refused.message


@pytest.mark.parametrize("offset_ms", [-2_000, 2_000])
def test_a_head_at_the_edge_of_tolerance_is_cosigned(offset_ms: int) -> None:
    """SPEC verifier-7, SPEC verifier-8: tolerance itself is within tolerance."""
    assert not judge(FIVE, replace(OWN, head_ms=NOW_MS + offset_ms), note(), NOW_MS, TERMS).repeated


def test_the_same_tree_is_cosigned_again_whatever_the_clock_says() -> None:
    """SPEC verifier-3: it was judged once, and the answer may have been lost."""
    for now_ms in (NOW_MS, NOW_MS + 3_600_000, NOW_MS - 3_600_000):
        decision = judge(FIVE, OWN, note(5, OTHER), now_ms, TERMS)
        assert decision.repeated
        assert decision.witness == FIVE


def test_cosignature_time_never_runs_back() -> None:
    """SPEC verifier-10: also when the verifier's own clock does."""
    earlier = NOW_MS - 1_000
    before = replace(FIVE, cosigned_at_ms=NOW_MS)
    assert judge(before, replace(OWN, head_ms=earlier), note(), earlier, TERMS).time_ms == NOW_MS
    assert judge(before, OWN, note(5, OTHER), earlier, TERMS).time_ms == NOW_MS


def test_cosignatures_that_came_along_do_not_matter_but_false_ones_do() -> None:
    """SPEC verifier-1: the log's signature decides, and a forged line by a known key condemns the note."""
    text = note().decode().split("\n\n")[0] + "\n"
    good = sign_cosignature(text, "norland.example/verifier", COUNTRY, 1_800_000_000).encode()
    forged = sign_cosignature(text.replace("7", "8", 1), "norland.example/verifier", COUNTRY, 1_800_000_000).encode()
    assert not judge(FIVE, OWN, note() + good, NOW_MS, TERMS).repeated
    assert refusal(FIVE, OWN, note() + forged).code == Code.BAD_SIGNATURE
    only_cosigned = text.encode() + b"\n" + good
    assert refusal(FIVE, OWN, only_cosigned).code == Code.BAD_SIGNATURE
