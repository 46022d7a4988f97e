"""What a log is sent that it should not be, and statements that race: each with its refusal code or its effect.

PACEKEEPER_WRITE_VECTORS=1 writes the file anew; without it it must be as the code says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from commitments import Play, build_commitment, pledge_if
from vectors import VECTORS, check_json

PAUSE: Final = build_commitment()


def opened() -> Play:
    return Play(PAUSE).at("1 d")


def in_force(document: bytes = PAUSE) -> Play:
    return Play(document).at("1 d").pledge("norland", "sudland").at("11 d")


def racing(offset_ms: int) -> Play:
    """A withdrawal a moment before the entry into force, or at it."""
    play = Play(build_commitment(withdrawal={"cut_off": "0 s"})).at("1 d").pledge("norland", "sudland")
    play.now_ms += 10 * 86_400_000 + offset_ms
    return play.withdraw("sudland")


def second_document() -> Play:
    play = opened()
    play.propose(build_commitment(pause={"above": "1e20 FLOP", "wind_down": "6 h"}))
    return play


# (why, story, codes of what is refused, phase afterwards)
STORIES: Final[list[tuple[str, Callable[[], Play], list[str], str]]] = [
    ("a pledge to nothing", lambda: opened().pledge("norland", to="other"), ["unknown-commitment"], "open"),
    (
        "a pledge to what has failed",
        lambda: opened().at("60 d").pledge("norland", "sudland"),
        ["pledge-too-late", "pledge-too-late"],
        "failed",
    ),
    ("a pledge twice", lambda: opened().pledge("norland", "norland"), ["pledge-exists"], "open"),
    ("a pledge by a stranger", lambda: opened().pledge("nobody"), ["unknown-participant"], "open"),
    (
        "a pledge by one to whom it is closed",
        lambda: Play(build_commitment(scope={"parties": ["norland", "sudland"]})).pledge("westmere"),
        ["not-in-scope"],
        "open",
    ),
    (
        "a pledge conditional on a stranger",
        lambda: opened().pledge("norland", when=pledge_if(named={"nobody"})),
        ["bad-condition"],
        "open",
    ),
    (
        "a pledge on what can never be",
        lambda: opened().pledge("norland", when=pledge_if(parties=5)),
        ["bad-condition"],
        "open",
    ),
    (
        "conditions in a circle that nobody closes",
        lambda: opened().pledge("norland", when=pledge_if(named={"sudland"})).pledge("westmere"),
        [],
        "open",
    ),
    (
        "conditions in a circle that close",
        lambda: (
            opened()
            .pledge("norland", when=pledge_if(named={"sudland"}))
            .pledge("sudland", when=pledge_if(named={"norland"}))
        ),
        [],
        "pending",
    ),
    (
        "a late pledge that would wait",
        lambda: in_force().at("60 d").pledge("westmere", when=pledge_if(parties=4)),
        ["condition-not-met"],
        "in-force",
    ),
    ("a withdrawal of what was never pledged", lambda: opened().withdraw("norland"), ["not-pledged"], "open"),
    ("a withdrawal twice", lambda: in_force().withdraw("norland", "norland"), ["notice-given"], "in-force"),
    ("a withdrawal after the end", lambda: in_force().at("400 d").withdraw("norland"), ["not-pledged"], "ended"),
    ("a withdrawal just before the entry", lambda: racing(-1), [], "failed"),
    ("a withdrawal at the very time of the entry takes its notice", lambda: racing(0), [], "in-force"),
    (
        "a withdrawal after the cut-off takes its notice",
        lambda: opened().pledge("norland", "sudland").at("10 d").withdraw("sudland").at("12 d"),
        [],
        "in-force",
    ),
    ("a lift by too few", lambda: in_force().lift("norland"), [], "in-force"),
    ("a lift by the same twice", lambda: in_force().lift("norland", "norland"), ["vote-exists"], "in-force"),
    ("a lift by one who is not bound", lambda: in_force().lift("westmere", "norland"), ["not-bound"], "in-force"),
    ("a lift of what is not in force", lambda: opened().lift("norland"), ["absent-transition"], "open"),
    (
        "a lift replayed after the end",
        lambda: in_force().lift("norland", "sudland", "norland"),
        ["absent-transition"],
        "ended",
    ),
    ("an extension of what has none", lambda: in_force().extend("norland"), ["not-liftable"], "in-force"),
    ("a second document under the same name", second_document, ["commitment-exists"], "open"),
]


def outcomes() -> list[dict[str, Any]]:
    found = []
    for why, story, _, _ in STORIES:
        play = story()
        found.append({"why": why, "refused": play.codes, "timeline": play.story(bound=True), "phase": play.phase})
    return found


def test_vectors_of_bad_input_are_as_the_code_says() -> None:
    check_json(VECTORS / "commitments" / "bad-input.json", outcomes())


@pytest.mark.parametrize(
    ("why", "story", "codes", "phase"), STORIES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_bad_input_has_its_code_or_its_documented_effect(
    why: str, story: Callable[[], Play], codes: list[str], phase: str
) -> None:
    """SPEC commitments-32, SPEC commitments-34: what comes first on the log decides."""
    play = story()
    assert (play.codes, play.phase) == (codes, phase), why
