"""Whatever the bytes, compile_agreement returns an agreement or raises DocumentError, and lint agrees with it."""

from __future__ import annotations

from typing import Final

import pytest
from agreements import build_document
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pacekeeper.protocol.documents.agreement import Agreement, DocumentError, compile_agreement
from pacekeeper.protocol.documents.describe import describe_agreement
from pacekeeper.protocol.documents.lint import lint_agreement
from pacekeeper.protocol.text import is_plain

DOCUMENT: Final = build_document(
    caps=[
        {"id": "run", "kind": "run", "limit": "1e24 FLOP"},
        {"id": "lab", "kind": "lab", "limit": "1e24 FLOP", "window": "3 periods", "subjects": ["borealis"]},
    ]
)[0]
LINES: Final = DOCUMENT.split(b"\n")
TERMS: Final = [i for i, line in enumerate(LINES) if b" = " in line or line.startswith(b"[")]


def judge(document: bytes) -> Agreement | None:
    errors = [problem for problem in lint_agreement(document) if problem.severity == "error"]
    if errors:
        with pytest.raises(DocumentError) as caught:
            compile_agreement(document)
        assert 1 <= caught.value.line <= document.count(b"\n") + 1
        assert (errors[0].line, errors[0].message) == (caught.value.line, caught.value.message)
        return None
    agreement = compile_agreement(document)
    assert describe_agreement(agreement)
    assert all(is_plain(sentence, len(sentence)) for sentence in describe_agreement(agreement))
    return agreement


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, len(DOCUMENT) - 1), cut=st.integers(0, 40), insert=st.binary(max_size=40))
def test_bytes_replaced_anywhere_are_judged(position: int, cut: int, insert: bytes) -> None:
    judge(DOCUMENT[:position] + insert + DOCUMENT[position + cut :])


@settings(max_examples=200, deadline=None)
@given(
    place=st.sampled_from(TERMS),
    value=st.one_of(
        st.integers().map(str),
        st.text(max_size=30).map(lambda text: f'"{text}"'),
        st.lists(st.text(max_size=5)).map(str),
        st.from_regex(r'"[0-9٠-٩]{1,25}(\.[0-9]{1,14})?(e[0-9]{1,3})? (FLOP|d|h|ms|%|periods)"', fullmatch=True),
        st.sampled_from(["[" * 5_000, "{" * 5_000, "1" * 5_000, '"' + "\\" * 99 + '"', "inf", "nan", '"0 %"', "0"]),
    ),
)
@example(place=TERMS[1], value="[" * 40_000)
@example(place=TERMS[1], value="9" * 40_000)
def test_terms_with_other_values_are_judged(place: int, value: str) -> None:
    line = LINES[place]
    if b" = " in line:
        line = line[: line.index(b" = ") + 3]
    document = b"\n".join([*LINES[:place], line + value.encode("utf-8", "surrogatepass"), *LINES[place + 1 :]])
    judge(document)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(TERMS), st.sampled_from(TERMS)), min_size=1, max_size=3))
def test_lines_exchanged_or_repeated_are_judged(pairs: list[tuple[int, int]]) -> None:
    lines = list(LINES)
    for target, source in pairs:
        lines[target] = LINES[source]
    judge(b"\n".join(lines))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_judged(data: bytes) -> None:
    assert judge(data) is None


def test_what_was_mutated_from_is_accepted() -> None:
    assert judge(DOCUMENT) is not None
