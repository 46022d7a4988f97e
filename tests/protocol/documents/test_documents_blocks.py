"""A document splits into articles and term blocks; what a reader could not see is refused."""

from __future__ import annotations

import pytest

from pacekeeper.protocol.documents.blocks import DocumentError, split_document

FENCED = "# Title\n\n## Article 1. One\n\ntext\n\n```toml\n[a]\nkey = 1\n```\n\n### Detail\n\n## Article 2. Two\nend\n"


def refused_at(text: str | bytes) -> int:
    with pytest.raises(DocumentError) as caught:
        split_document(text if isinstance(text, bytes) else text.encode())
    return caught.value.line


def test_articles_and_blocks_come_with_their_lines() -> None:
    document = split_document(FENCED.encode())
    assert [(article.number, article.title, article.line) for article in document.articles] == [
        (1, "One", 3),
        (2, "Two", 14),
    ]
    (block,) = document.blocks
    assert (block.article.number, block.first_line, block.lines) == (1, 8, ("[a]", "key = 1"))


def test_what_is_not_utf8_or_too_long_is_refused_where_it_begins() -> None:
    """SPEC documents-2."""
    assert refused_at(b"one\ntwo\xff\n") == 2
    assert refused_at(b"one\ntwo\xed\xa0\x80\n") == 2  # a surrogate
    assert refused_at(b"one\n\xc0\xaf\n") == 2  # an overlong slash
    assert refused_at(b"\xef\xbb\xbfone\n") == 1
    assert refused_at(b"x" * 60_001) == 1
    assert refused_at(b"one\n" + b"x" * 60_000) == 2
    assert split_document(b"x" * 60_000).blocks == ()


@pytest.mark.parametrize(
    "character",
    [
        "\t",
        "\r",
        "\x00",
        "\x1b",
        "\x7f",
        "\x85",
        "\u00ad",
        "\u200b",
        "\u200e",
        "\u2028",
        "\u202e",
        "\u2066",
        "\ufeff",
        "\u061c",
        "\ufe0f",
        "\uffff",
        "\U000e0041",
        "\u3164",
    ],
)
def test_control_bidirectional_and_invisible_characters_are_refused_everywhere(character: str) -> None:
    """SPEC documents-3."""
    assert refused_at(FENCED.replace("text", f"te{character}xt")) == 5
    assert refused_at(FENCED.replace("key = 1", f"key = 1{character}")) == 9


def test_other_scripts_are_welcome_in_prose() -> None:
    assert split_document(
        "## Article 1. \u05d4\u05e1\u05db\u05dd \u6761\u7d04 \u0645\u06cc\u200c\u062e\u0648\n".encode()
    ).articles


def test_a_placeholder_that_was_left_is_refused() -> None:
    """SPEC documents-4."""
    assert refused_at(FENCED.replace("text", "by {{date}}")) == 5
    assert refused_at(FENCED.replace("key = 1", "{{terms}}")) == 9


@pytest.mark.parametrize(
    "hiding",
    [
        "```",
        "```text",
        "~~~",
        "~~~toml",
        " ```toml",
        "    ```toml",
        "````toml",
        "```toml ",
        "``` toml",
        "> ```toml",
        "<!-- hidden",
        "a <b> c",
        "</div>",
        "<?x",
        "[x]: http://example.org",
        "  [//]: # (hidden)",
    ],
)
def test_what_rendering_would_hide_is_refused(hiding: str) -> None:
    """SPEC documents-5: also a term block inside what a renderer does not show as one."""
    assert refused_at(FENCED.replace("text", hiding)) == 5


@pytest.mark.parametrize("underline", ["---", "===", "  -"])
def test_underlined_headings_are_refused_and_rules_are_not(underline: str) -> None:
    """SPEC documents-5."""
    assert refused_at(FENCED.replace("text", f"Annex\n{underline}")) == 6
    assert len(split_document(FENCED.replace("text", f"Annex\n\n{underline}\n").encode()).blocks) == 1


def test_a_block_stands_under_an_article_and_is_closed() -> None:
    """SPEC documents-6."""
    assert refused_at("# Title\n\n```toml\n[a]\n```\n") == 3
    assert refused_at("## Article 1. One\n```toml\n[a]\n") == 2
    assert refused_at("## Article 1. One\n```toml\n[a]\n ```\n") == 2


@pytest.mark.parametrize(
    "heading",
    [
        "## Article 1. Again",
        "## Article 3. Skipped",
        "## Article 02. Zero",
        "## Article 2 No dot",
        "## Annex",
        "##",
        " ## Article 2. Indented",
        "## Article 2.",
        "# Title again",
        "## article 2. Small",
    ],
)
def test_level_two_headings_are_articles_counted_without_holes(heading: str) -> None:
    """SPEC documents-7."""
    assert refused_at(FENCED.replace("## Article 2. Two", heading)) == 14
