"""A document as one page for reading: the prose on the left; on the right the terms that implement it, in words first.

The page is one file that loads nothing, runs nothing and sends nothing. Every character of the document stands in it,
escaped, and no markup of the document is interpreted but headings and paragraphs: what is signed is the text, and a
reader must see all of it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Final

from pacekeeper.protocol.documents.blocks import CLOSING, OPENING, Article, Document
from pacekeeper.protocol.documents.commitment_describe import describe_tables
from pacekeeper.protocol.documents.commitment_model import Commitment
from pacekeeper.protocol.text import printable

_HEADER: Final = re.compile(r"\[\[?([a-z0-9_-]+)")
_STYLE: Final = """
:root { color-scheme: light dark; font: 1rem/1.55 Georgia, serif; }
body { margin: 0 auto; max-width: 80rem; padding: 1.5rem; }
header, article { border-bottom: 1px solid #8888; padding-bottom: 1rem; }
h1, h2, h3 { line-height: 1.25; font-family: system-ui, sans-serif; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font: .9rem/1.5 system-ui, sans-serif; }
ul { margin: 0 0 .8rem; padding-left: 1.1rem; font: .9rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
section { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem; }
p { margin: 0 0 .8rem; }
pre { margin: 0; padding: .8rem; overflow-x: auto; background: #8881; font: .85rem/1.6 ui-monospace, monospace; }
pre span { display: block; min-height: 1.6em; }
pre b { display: inline-block; width: 3em; color: #888; font-weight: normal; user-select: none; }
@media (max-width: 55rem) { section { grid-template-columns: 1fr; } }
@media print { pre { white-space: pre-wrap; } article { break-inside: avoid; } }
"""


@dataclass
class Row:
    """A stretch of prose, and the block of terms after it: lines with their numbers, and what they say in words."""

    prose: list[tuple[int, str]] = field(default_factory=list)
    terms: list[tuple[int, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def render_page(commitment: Commitment, document: Document) -> str:
    """Return the page.

    SPEC cli-20: the page MUST be self-contained and without scripts, and all text of the document be escaped in it.
    """
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    starts = [article.line for article in document.articles]
    ends = [*starts[1:], len(document.lines) + 1]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{_shown(commitment.title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
    ]
    rows = [_rows(document, article.line + 1, end) for article, end in zip(document.articles, ends, strict=True)]
    silent = _put_in_words(commitment, [row for of_article in rows for row in of_article])
    parts.extend(_head(commitment, document, starts[0] if starts else len(document.lines) + 1, silent))
    for article, of_article in zip(document.articles, rows, strict=True):
        parts.extend(_article(article, of_article))
    return "\n".join([*parts, "</body>", "</html>", ""])


def _put_in_words(commitment: Commitment, rows: list[Row]) -> list[str]:
    """Put each sentence where the table that it is about first stands; return those about tables that are left out.

    SPEC commitments-76: every term MUST be told in words, and what follows from the absence of one too.
    """
    place: dict[str, Row] = {}
    for row in rows:
        for _, line in row.terms:
            header = _HEADER.match(line)
            if header is not None:
                place.setdefault(header[1], row)
    silent: list[str] = []
    for said in describe_tables(commitment):
        (place[said.table].said if said.table in place else silent).append(said.sentence)
    return silent


def _head(commitment: Commitment, document: Document, end: int, silent: list[str]) -> Iterator[str]:
    yield "<header>"
    yield from _prose(list(enumerate(document.lines[: end - 1], start=1)))
    yield "<dl>"
    facts = {"id": commitment.id, "kind": str(commitment.kind), "SHA-256 of the document": commitment.digest.hex()}
    for name, value in facts.items():
        yield f"<dt>{escape(name)}</dt><dd>{_shown(value)}</dd>"
    yield "</dl>"
    if silent:
        yield "<p>What its terms leave out, and so say as well:</p>"
        yield from _list(silent)
    yield "</header>"


def _list(sentences: list[str]) -> Iterator[str]:
    yield "<ul>"
    yield from (f"<li>{_shown(sentence)}</li>" for sentence in sentences)
    yield "</ul>"


def _article(article: Article, rows: list[Row]) -> Iterator[str]:
    yield f'<article id="article-{article.number}">'
    yield f"<h2>Article {article.number}. {_shown(article.title)}</h2>"
    for row in rows:
        yield "<section>"
        yield "<div>"
        yield from _prose(row.prose)
        yield "</div>"
        yield "<div>"
        if row.said:
            yield from _list(row.said)
        if row.terms:
            lines = "".join(f"<span><b>{number}</b>{_shown(line)}</span>" for number, line in row.terms)
            yield f"<pre><code>{lines}</code></pre>"
        yield "</div>"
        yield "</section>"
    yield "</article>"


def _rows(document: Document, start: int, end: int) -> list[Row]:
    rows, inside = [Row()], False
    for number in range(start, end):
        line = document.lines[number - 1]
        if inside and line == CLOSING:
            inside = False
            rows.append(Row())
        elif inside:
            rows[-1].terms.append((number, line))
        elif line == OPENING:
            inside = True
        else:
            rows[-1].prose.append((number, line))
    return [row for row in rows if row.terms or any(line.strip() for _, line in row.prose)]


def _prose(lines: list[tuple[int, str]]) -> Iterator[str]:
    """Yield paragraphs and headings; a list item is a paragraph that keeps its mark."""
    paragraph: list[str] = []
    for _, line in [*lines, (0, "")]:
        level = len(line) - len(line.lstrip("#"))
        heading = 1 <= level <= 6 and line[level : level + 1] == " "
        if paragraph and (heading or not line.strip() or line.lstrip().startswith("- ")):
            yield f"<p>{' '.join(paragraph)}</p>"
            paragraph = []
        if heading:
            yield f"<h{level}>{_shown(line[level + 1 :])}</h{level}>"
        elif line.strip():
            paragraph.append(_shown(line.strip()))


def _shown(text: str) -> str:
    return escape(printable(text, len(text)), quote=True)
