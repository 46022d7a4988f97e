"""Whatever the bytes, compile_commitment returns a commitment or raises DocumentError, and lint agrees with it."""

from __future__ import annotations

from typing import Final

import pytest
from commitment_templates import NAMES, fill
from commitments import MEMBERS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pacekeeper.protocol.documents.commitment import Commitment, DocumentError, compile_commitment
from pacekeeper.protocol.documents.commitment_lint import lint_commitment

DOCUMENTS: Final = [fill(name) for name in NAMES]
PAUSE: Final = DOCUMENTS[0]
WHICH = st.sampled_from(DOCUMENTS)
PROSE: Final = (
    "3 \u017ftates",
    "\u017fix months",
    "five \u212aFLOP",
    "1e999 FLOP",
    "99999999999999999999e999 FLOP",
    "9 x 10^99 FLOP/s",
    "30 February 2026",
    "0 Parties",
    "0 percent",
    "1.5 years",
    "one Party",
    "10^24 FLOP per second",
)


def judge(document: bytes) -> Commitment | None:
    errors = [problem for problem in lint_commitment(document, MEMBERS) if problem.severity == "error"]
    if errors:
        with pytest.raises(DocumentError) as caught:
            compile_commitment(document, MEMBERS)
        assert 1 <= caught.value.line <= document.count(b"\n") + 1
        assert errors[0].line == caught.value.line
        return None
    return compile_commitment(document, MEMBERS)


@settings(max_examples=150, deadline=None)
@given(document=WHICH, position=st.integers(0, 4_000), cut=st.integers(0, 40), insert=st.binary(max_size=40))
def test_bytes_replaced_anywhere_are_judged(document: bytes, position: int, cut: int, insert: bytes) -> None:
    judge(document[:position] + insert + document[position + cut :])


@settings(max_examples=300, deadline=None)
@given(
    document=WHICH,
    place=st.integers(0, 200),
    value=st.one_of(
        st.integers().map(str),
        st.text(max_size=30).map(lambda text: f'"{text}"'),
        st.lists(st.text(max_size=5)).map(str),
        st.from_regex(r'"[0-9]{1,25}(\.[0-9]{1,14})?(e[0-9]{1,3})? (FLOP|FLOP/s|d|h|ms|%|periods)"', fullmatch=True),
        st.sampled_from(['["norland"]', '["nowhere"]', '"borealis"', '"cap"', '"amendment"', '"keys"', '"0 s"', "0"]),
    ),
)
@example(document=PAUSE, place=0, value="9" * 40_000)
def test_terms_with_other_values_are_judged(document: bytes, place: int, value: str) -> None:
    lines = document.split(b"\n")
    terms = [number for number, line in enumerate(lines) if b" = " in line]
    number = terms[place % len(terms)]
    line = lines[number]
    lines[number] = line[: line.index(b" = ") + 3] + value.encode("utf-8", "surrogatepass")
    judge(b"\n".join(lines))


@settings(max_examples=150, deadline=None)
@given(document=WHICH, other=WHICH, pairs=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=3))
def test_lines_exchanged_between_documents_are_judged(
    document: bytes, other: bytes, pairs: list[tuple[int, int]]
) -> None:
    lines, source = document.split(b"\n"), other.split(b"\n")
    for target, place in pairs:
        lines[target % len(lines)] = source[place % len(source)]
    judge(b"\n".join(lines))


@pytest.mark.parametrize("prose", PROSE)
def test_any_quantity_in_prose_is_judged(prose: str) -> None:
    """SPEC commitments-15: letters that fold to others are no units, and no number is too large to be looked at."""
    for document in DOCUMENTS:
        judge(document.replace(b"## Article 2.", f"{prose}\n\n## Article 2.".encode(), 1))
        judge(document.replace(b"\n\n```toml", f" {prose}\n\n```toml".encode()))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_prose_is_judged(text: str) -> None:
    judge(PAUSE.replace(b"\n\n```toml", f" {text}\n\n```toml".encode("utf-8", "surrogatepass")))


def test_what_was_mutated_from_is_accepted() -> None:
    assert all(judge(document) is not None for document in DOCUMENTS)
