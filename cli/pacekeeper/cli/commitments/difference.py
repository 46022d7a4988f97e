"""Two drafts compared, article by article: the prose by sentences, the terms by what they say.

A term that is written otherwise and says the same ("24 h" for "1 d", a list in another order) is no difference; nor is
prose that is broken into lines otherwise. Articles are told by their titles, so that one that was moved or inserted
does not make all that follow differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Final

from pacekeeper.protocol.documents import values
from pacekeeper.protocol.documents.blocks import Article, Document, split_document
from pacekeeper.protocol.documents.tables import Table, parse_tables

_SENTENCE_END: Final = re.compile(r"(?<=[.;:?!]) +")
_QUOTED: Final = re.compile(r'"[^"]*"')
_NAMES: Final = ("id", "party", "holder")  # the keys that tell apart tables of one name
_WORDS: Final = frozenset({"title", "name", "id"})  # text for people, whatever it looks like
_QUANTITIES: Final[tuple[Callable[[object], object], ...]] = (
    values.as_flop,
    values.as_rate,
    values.as_percent,
    values.as_span,
    values.as_time,
    values.as_window,
)


@dataclass(frozen=True)
class Term:
    """One term: where it is said, as it is written, and what it says."""

    article: int
    written: str
    said: object


@dataclass
class Draft:
    """A document as the comparison takes it: articles with their sentences, and terms by their names."""

    articles: tuple[Article, ...]
    sentences: list[list[str]]
    preamble: list[str]
    terms: dict[str, Term]


@dataclass
class Change:
    """What differs in one article: sentences as ("-" or "+", sentence), terms as (name, before, after)."""

    heading: str
    prose: list[tuple[str, str]] = field(default_factory=list)
    terms: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.prose or self.terms)


def read_draft(data: bytes) -> Draft:
    """Split a document. It need not compile, but its articles and tables must read: DocumentError otherwise."""
    document = split_document(data)
    starts = [article.line for article in document.articles]
    ends = [*starts[1:], len(document.lines) + 1]
    return Draft(
        articles=document.articles,
        sentences=[_sentences(document, start + 1, end) for start, end in zip(starts, ends, strict=True)],
        preamble=_sentences(document, 1, starts[0] if starts else len(document.lines) + 1),
        terms=dict(_terms(document, parse_tables(document))),
    )


def compare(before: Draft, after: Draft) -> list[Change]:
    """Return what differs, in the order of the later document; what is gone comes where it was.

    SPEC cli-21: terms MUST be compared by what they say, and every difference of prose or terms be told.
    """
    pairs = list(_pair(before, after))
    changes = [Change("Preamble", list(_prose(before.preamble, after.preamble)))]
    places: list[tuple[int | None, int | None, Change]] = []
    for old, new in pairs:
        change = Change(_heading(before, after, old, new))
        if old is None or new is None or before.articles[old].title != after.articles[new].title:
            change.prose.extend(
                (sign, f"## {draft.articles[at].title}")
                for sign, draft, at in (("-", before, old), ("+", after, new))
                if at is not None
            )
        change.prose += _prose(
            before.sentences[old] if old is not None else [], after.sentences[new] if new is not None else []
        )
        places.append((old, new, change))
        changes.append(change)
    for name in dict.fromkeys([*before.terms, *after.terms]):
        was, now = before.terms.get(name), after.terms.get(name)
        change = next(
            change
            for old, new, change in places
            if (now is not None and new == now.article) or (now is None and was is not None and old == was.article)
        )
        if was is None or now is None or was.said != now.said:
            change.terms.append((name, _written_or_none(was), _written_or_none(now)))
        elif (was.article, now.article) not in pairs:
            change.terms.append((name, f"in article {was.article + 1}", f"in article {now.article + 1}"))
    return [change for change in changes if change]


def _pair(before: Draft, after: Draft) -> Iterator[tuple[int | None, int | None]]:
    """Pair articles by title, and those between two pairs by their order."""
    old_titles = [article.title for article in before.articles]
    new_titles = [article.title for article in after.articles]
    for _, old, old_end, new, new_end in SequenceMatcher(None, old_titles, new_titles, autojunk=False).get_opcodes():
        for offset in range(max(old_end - old, new_end - new)):
            yield (
                old + offset if old + offset < old_end else None,
                new + offset if new + offset < new_end else None,
            )


def _heading(before: Draft, after: Draft, old: int | None, new: int | None) -> str:
    if new is None:
        assert old is not None
        return f"Article {old + 1}. {before.articles[old].title} (gone)"
    title = f"Article {new + 1}. {after.articles[new].title}"
    if old is None:
        return f"{title} (new)"
    return title if old == new else f"{title} (was article {old + 1})"


def _sentences(document: Document, start: int, end: int) -> list[str]:
    """The sentences of some lines, and the comments in their blocks: those are signed too."""
    inside = {
        number
        for block in document.blocks
        for number in range(block.first_line - 1, block.first_line + len(block.lines) + 1)
    }
    found: list[str] = []
    paragraph: list[str] = []
    for number in range(start, end + 1):
        line = "" if number == end else document.lines[number - 1].strip()
        if line and number not in inside:
            paragraph.append(line)
            continue
        if paragraph:
            found += _SENTENCE_END.split(" ".join(paragraph))
            paragraph = []
        comment = _QUOTED.sub("", line).partition("#")
        if comment[1]:
            found.append(f"#{comment[2]}")
    return found


def _prose(old: list[str], new: list[str]) -> Iterator[tuple[str, str]]:
    for kind, start, end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            yield from (("-", sentence) for sentence in old[start:end])
            yield from (("+", sentence) for sentence in new[new_start:new_end])


def _terms(document: Document, tables: list[Table]) -> Iterator[tuple[str, Term]]:
    counts: dict[str, int] = {}
    for table in tables:
        number = counts[table.name] = counts.get(table.name, 0) + 1
        label = f"[{table.name}]"
        if table.repeated:
            name = next((table.values[key] for key in _NAMES if key in table.values), number)
            label = f"[[{table.name}]] {name}"
        for path, part in ((label, table), *((f"{label}.{name}", part) for name, part in table.parts.items())):
            article = max(place for place, each in enumerate(document.articles) if each.line < part.line)
            yield path, Term(article, "there", True)
            for key in part.lines:
                value = part.values[key]
                yield f"{path} {key}", Term(article, _written(value), _said(table.name, key, value))


def _written_or_none(term: Term | None) -> str | None:
    return None if term is None else term.written


def _written(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _said(table: str, key: str, value: object) -> object:
    """What a term says: a quantity in its smallest unit, a list as a set, text as it is."""
    if isinstance(value, list):
        return frozenset(map(str, value))
    if not isinstance(value, str) or key in _WORDS:
        return value
    for read in (values.as_level,) if table == "indicator" and key in ("on", "off") else _QUANTITIES:
        try:
            return read.__name__, read(value)
        except ValueError:
            continue
    return value
