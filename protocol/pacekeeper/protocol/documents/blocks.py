"""A document is one UTF-8 Markdown file: numbered articles in prose, and term blocks under them.

What a reader of the rendered text sees and what a machine compiles must be the same text. So the Markdown is a plain
one: nothing invisible, no raw HTML, no definitions that a renderer swallows, and one form of fence, which is a term
block. Line numbers count from 1, as editors do.

Example: split_document(b"## Article 1. Purpose\n```toml\n[agreement]\n```\n").blocks[0].first_line == 3
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pacekeeper.protocol import limits

OPENING: Final = "```toml"
CLOSING: Final = "```"

# Ranges are written out because Python's tables of categories change with its version, and admission may not.
_FORBIDDEN: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f"  # controls, tab and carriage return among them
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0"  # invisible fillers
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"  # zero width, line separators, bidirectional
    "\ufe00-\ufe0f\ufeff\ufff0-\uffff\U000e0000-\U000e0fff]"  # variation selectors, BOM, specials, tags
)
_ARTICLE: Final = re.compile(r"## Article ([1-9][0-9]{0,2})\. (\S.*)")
_HIGH_HEADING: Final = re.compile(r" {0,3}#{1,2}(?: |$)")
_TITLE: Final = re.compile(r"# \S.*")
_UNDERLINE: Final = re.compile(r" {0,3}(?:=+|-+) *")
_HTML: Final = re.compile(r"<[A-Za-z/!?]")
_DEFINITION: Final = re.compile(r" {0,3}\[[^\]]*\]:")


class DocumentError(ValueError):
    """A document that is refused: the line (from 1) and a sentence without full stop.

    SPEC documents-1: a refusal MUST name the line that it is about. The sentence may quote hostile text.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.message = message

    def __reduce__(self) -> tuple[type[DocumentError], tuple[int, str]]:
        return (DocumentError, (self.line, self.message))


@dataclass(frozen=True)
class Article:
    """One numbered article: `## Article N. Title` at this line."""

    number: int
    title: str
    line: int


@dataclass(frozen=True)
class Block:
    """One term block: the lines between its fences, the first of which is at first_line."""

    article: Article
    first_line: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A document's lines, articles and term blocks, in order."""

    lines: tuple[str, ...]
    articles: tuple[Article, ...]
    blocks: tuple[Block, ...]


def split_document(data: bytes) -> Document:
    """Split exact bytes into articles and term blocks; what the blocks say is not looked at here.

    Raises DocumentError at the first fault.
    """
    lines = _decode(data)
    for number, line in enumerate(lines, start=1):
        _check_characters(number, line)
    splitter = _Splitter()
    for number, line in enumerate(lines, start=1):
        splitter.take(number, line)
    return splitter.finish(lines)


def _decode(data: bytes) -> tuple[str, ...]:
    # SPEC documents-2: a document MUST be strict UTF-8 without byte order mark and have at most 60,000 bytes.
    if len(data) > limits.MAX_DOCUMENT_BYTES:
        line = data.count(b"\n", 0, limits.MAX_DOCUMENT_BYTES) + 1
        raise DocumentError(line, f"document has {len(data)} bytes, at most {limits.MAX_DOCUMENT_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(data.count(b"\n", 0, error.start) + 1, "not UTF-8") from None
    if text.startswith("\ufeff"):
        raise DocumentError(1, "starts with a byte order mark")
    return tuple(text.split("\n"))


def _check_characters(number: int, line: str) -> None:
    # SPEC documents-3: control (except newline), bidirectional and invisible characters MUST NOT occur.
    found = _FORBIDDEN.search(line)
    if found is not None:
        raise DocumentError(number, f"character U+{ord(found[0]):04X} at column {found.start() + 1} is not allowed")
    if "{{" in line:
        # SPEC documents-4: a document MUST NOT contain a template's placeholder.
        raise DocumentError(number, "a template's placeholder was left in")


class _Splitter:
    """Goes through the lines once; knows the last article and whether it stands inside a block."""

    def __init__(self) -> None:
        self._articles: list[Article] = []
        self._blocks: list[Block] = []
        self._open: list[str] | None = None
        self._opened_at = 0
        self._after_text = False

    def take(self, number: int, line: str) -> None:
        if self._open is not None:
            self._inside(line)
        elif line == OPENING:
            self._start(number)
        else:
            self._prose(number, line)
            self._after_text = line.strip(" ") != ""

    def _inside(self, line: str) -> None:
        assert self._open is not None
        if line != CLOSING:
            self._open.append(line)
            return
        self._blocks.append(Block(self._articles[-1], self._opened_at + 1, tuple(self._open)))
        self._open = None
        self._after_text = False

    def _start(self, number: int) -> None:
        # SPEC documents-6: a term block MUST stand under a numbered article.
        if not self._articles:
            raise DocumentError(number, "a term block stands under a numbered article, and none precedes this one")
        self._open, self._opened_at = [], number

    def _prose(self, number: int, line: str) -> None:
        # SPEC documents-5: what rendering hides or alters MUST NOT occur: other fences, raw HTML, link definitions.
        if "```" in line or "~~~" in line:
            raise DocumentError(number, f'the only fences are "{OPENING}" and "{CLOSING}", alone at the line\'s start')
        if _HTML.search(line):
            raise DocumentError(number, "raw HTML is not allowed, since what it hides would still be signed")
        if _DEFINITION.match(line):
            raise DocumentError(number, "link definitions are not allowed, since rendering hides them")
        if self._after_text and _UNDERLINE.fullmatch(line):
            raise DocumentError(number, "a heading is written with #, not underlined")
        if _HIGH_HEADING.match(line):
            self._heading(number, line)

    def _heading(self, number: int, line: str) -> None:
        # SPEC documents-7: level-2 headings MUST be "## Article N. Title", N counting from 1.
        if _TITLE.fullmatch(line) and not self._articles:
            return
        match = _ARTICLE.fullmatch(line)
        if match is None:
            raise DocumentError(number, 'a heading here is "## Article N. Title"; smaller ones start with ###')
        expected = len(self._articles) + 1
        if int(match[1]) != expected:
            raise DocumentError(number, f"article {match[1]} where article {expected} is due")
        self._articles.append(Article(expected, match[2], number))

    def finish(self, lines: tuple[str, ...]) -> Document:
        if self._open is not None:
            raise DocumentError(self._opened_at, "the term block that opens here is not closed")
        return Document(lines, tuple(self._articles), tuple(self._blocks))
