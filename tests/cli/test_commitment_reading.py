"""Reading drafts: the page that shows all of a document and runs nothing, and the comparison of two."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from commitment_templates import NAMES, fill

from pacekeeper.cli.commitments.difference import compare, read_draft

Run = Callable[..., Any]
Must = Callable[..., str]


class Page(HTMLParser):
    """The page's elements, its attributes and its text, as a browser would take them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def words(text: str) -> list[str]:
    return re.sub(r"[#`]+|toml\b", " ", text).split()


@pytest.mark.parametrize("name", NAMES)
def test_all_of_a_document_stands_in_its_page(must: Must, tmp_path: Path, name: str) -> None:
    """SPEC cli-20."""
    document, out = tmp_path / "c.md", tmp_path / "c.html"
    document.write_bytes(fill(name))
    assert must("commitment", "render", document, "--out", out) == f"wrote {out}\n"
    page = Page(out.read_text())
    shown = words(re.sub(r"(?<=\n)\d+|^\d+", " ", page.text))
    joined = "".join(shown)
    for line in document.read_text().split("\n"):
        assert "".join(words(line)) in joined, line
    assert page.tags.count("article") == document.read_text().count("\n## Article ")
    assert hashlib.sha256(document.read_bytes()).hexdigest() in page.text


def test_the_page_runs_and_loads_nothing(must: Must, tmp_path: Path) -> None:
    """SPEC cli-20: text that looks like markup is text."""
    document, out = tmp_path / "c.md", tmp_path / "c.html"
    hostile = "Whoever signs \"&lt;1 & 2 < 3 > 2 [x](javascript:alert(1)) ![y](http://example.org/z.png) 'quoted'."
    document.write_text(
        fill("pause", title="A <1> & 'pause'").decode().replace("## Article 2.", f"{hostile}\n\n## Article 2.")
    )
    must("commitment", "render", document, "--out", out)
    html = out.read_text()
    page = Page(html)
    assert hostile in page.text
    assert set(page.tags) <= {
        "html", "head", "meta", "title", "style", "body", "header", "dl", "dt", "dd", "article", "section", "div",
        "h1", "h2", "h3", "p", "pre", "code", "span", "b", "ul", "li",
    }  # fmt: skip
    assert page.attributes.keys() <= {"lang", "charset", "http-equiv", "content", "name", "id"}
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    [policy] = [content for content in page.attributes["content"] if "default-src" in content]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_render_refuses_what_does_not_compile_and_overwrites_nothing(pacekeeper: Run, tmp_path: Path) -> None:
    """SPEC cli-4, SPEC cli-5."""
    document, out = tmp_path / "c.md", tmp_path / "c.html"
    document.write_bytes(fill("pause").replace(b'"6 h"', b'"6"'))
    outcome = pacekeeper("commitment", "render", document, "--out", out)
    assert outcome.status == 2
    assert "c.md: line " in outcome.err
    assert not out.exists()
    document.write_bytes(fill("pause"))
    out.write_text("mine")
    assert pacekeeper("commitment", "render", document, "--out", out).status == 2
    assert out.read_text() == "mine"


def changed(
    before: bytes, after: bytes
) -> dict[str, tuple[list[tuple[str, str]], list[tuple[str, str | None, str | None]]]]:
    return {change.heading: (change.prose, change.terms) for change in compare(read_draft(before), read_draft(after))}


def edited(name: str, *changes: tuple[str, str]) -> bytes:
    text = fill(name).decode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text.encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_draft_is_the_same_as_itself(must: Must, tmp_path: Path, name: str) -> None:
    path = tmp_path / "c.md"
    path.write_bytes(fill(name))
    assert must("commitment", "diff", path, path) == "the drafts are the same\n"


def test_what_is_written_otherwise_and_says_the_same_is_no_difference(must: Must, tmp_path: Path) -> None:
    """SPEC cli-21."""
    before, after = tmp_path / "a.md", tmp_path / "b.md"
    before.write_bytes(fill("bilateral"))
    after.write_bytes(
        edited(
            "bilateral",
            ('delay = "30 d"', 'delay = "720 h"'),
            ('above = "1e24 FLOP"', 'above = "10e23 FLOP"'),
            ('parties = ["norland", "sudland"]', 'parties = ["sudland", "norland"]'),
            ("each because the other does", "each\nbecause the other does"),
        )
    )
    assert must("commitment", "diff", before, after) == "the drafts say the same, written otherwise\n"


def test_terms_and_prose_are_told_in_their_articles() -> None:
    """SPEC cli-21."""
    after = edited(
        "pause",
        ("None of them suspends alone:", "Each of them suspends alone:"),
        ('wind_down = "6 h"', 'wind_down = "7 h"'),
        ("# to save, and to stop", "# to save"),
        ("clean_periods = 3", "# clean"),
        ('budget = "5e22 FLOP"', 'budget = "6e22 FLOP"'),
        ("times = 1", "times = 2"),
    )
    found = changed(fill("pause"), after)
    [gone, new] = found["Article 1. Object"][0]
    assert gone == ("-", new[1].replace("Each", "None"))
    assert found["Article 2. What is suspended"] == (
        [("-", "# to save, and to stop"), ("+", "# to save")],
        [("[pause] wind_down", '"6 h"', '"7 h"')],
    )
    assert found["Article 3. What goes on"][1] == [("[[exemption]] inference budget", '"5e22 FLOP"', '"6e22 FLOP"')]
    assert found["Article 4. Entry into force"][1] == [("[entry] clean_periods", "3", None)]
    assert found["Article 5. Term and lifting"][1] == [("[term].extension times", "1", "2")]
    assert len(found) == 5


def test_a_table_that_is_new_or_gone_is_told(must: Must) -> None:
    """SPEC cli-21."""
    lease = '[lease]\nlease = "1 h"\non_lease_end = "hold"\n'
    found = changed(fill("pause"), edited("pause", (lease, "")))
    [(name, terms)] = [(heading, terms) for heading, (_, terms) in found.items() if terms]
    assert name == "Article 8. Out of reach of the Log"
    assert terms == [
        ("[lease]", "there", None),
        ("[lease] lease", '"1 h"', None),
        ("[lease] on_lease_end", '"hold"', None),
    ]
    back = changed(edited("pause", (lease, "")), fill("pause"))
    assert back[name][1] == [(term, now, was) for term, was, now in terms]


@pytest.mark.parametrize("name", NAMES)
def test_every_term_that_is_taken_away_is_told(name: str) -> None:
    """SPEC cli-21: line by line."""
    lines = fill(name).decode().split("\n")
    written = [number for number, line in enumerate(lines) if re.match(r"[a-z_-]+ = ", line)]
    assert len(written) >= 10
    for number in written:
        key = lines[number].partition(" ")[0]
        if key in ("id", "party", "holder"):
            continue  # tables are told apart by these: without, another table is gone and come
        found = changed("\n".join(lines).encode(), "\n".join(lines[:number] + lines[number + 1 :]).encode())
        assert [(term.rpartition(" ")[2], after) for _, told in found.values() for term, _, after in told] == [
            (key, None)
        ]


def test_an_inserted_article_does_not_make_all_others_differ() -> None:
    """SPEC cli-21."""
    text = fill("exit").decode()
    text = text.replace("## Article 3.", "## Article 4.").replace(
        "## Article 4.", "## Article 3. Farewell\n\nNobody is sad.\n\n## Article 4."
    )
    found = changed(fill("exit"), text.encode())
    assert list(found) == ["Article 3. Farewell (new)"]
    assert found["Article 3. Farewell (new)"][0] == [("+", "## Farewell"), ("+", "Nobody is sad.")]
    assert list(changed(text.encode(), fill("exit"))) == ["Article 3. Farewell (gone)"]


def test_a_term_that_moves_to_another_article_is_told() -> None:
    """SPEC cli-21."""
    breach = '[breach]\nresponse = "release-others"\n'
    after = edited("pause", (breach, ""), ("[lease]\n", f"{breach}\n[lease]\n"))
    assert changed(fill("pause"), after)["Article 8. Out of reach of the Log"][1] == [
        ("[breach]", "in article 7", "in article 8"),
        ("[breach] response", "in article 7", "in article 8"),
    ]


@pytest.mark.parametrize("unit", ["h", "min"])
def test_an_indicators_level_is_no_duration(unit: str) -> None:
    """SPEC cli-21: 12 h of task horizon are not 720 min, since a report must be in the unit of the terms."""
    after = edited("triggered-pause", ('on = "12 h"', f'on = "720 {unit}"'))
    assert changed(fill("triggered-pause"), after)


def test_diff_as_json(must: Must, tmp_path: Path) -> None:
    """SPEC cli-8."""
    before, after = tmp_path / "a.md", tmp_path / "b.md"
    before.write_bytes(fill("pause"))
    after.write_bytes(edited("pause", ('wind_down = "6 h"', 'wind_down = "7 h"')))
    [change] = json.loads(must("commitment", "diff", before, after, "--json"))
    assert change["terms"] == [{"term": "[pause] wind_down", "before": '"6 h"', "after": '"7 h"'}]
    assert change["prose"] == []


def test_a_draft_that_cannot_be_read_is_named(pacekeeper: Run, tmp_path: Path) -> None:
    """SPEC cli-5."""
    before, after = tmp_path / "a.md", tmp_path / "b.md"
    before.write_bytes(fill("pause"))
    after.write_text("# Title\n\n## Article 2. Wrong\n")
    outcome = pacekeeper("commitment", "diff", before, after)
    assert (outcome.status, outcome.out) == (2, "")
    assert "b.md: line 3: article 2 where article 1 is due" in outcome.err


@pytest.mark.parametrize("name", NAMES)
def test_show_and_lint_say_in_words_what_the_page_has_beside_the_terms(must: Must, tmp_path: Path, name: str) -> None:
    """SPEC commitments-76: each sentence once in the right column, above its terms, or among what is left out."""
    document, out = tmp_path / "c.md", tmp_path / "c.html"
    document.write_bytes(fill(name, title="A < 1 & 'pause'"))
    said = must("commitment", "show", document).splitlines()
    assert len(said) >= 7
    assert said[0].startswith(f"\"A < 1 & 'pause'\" ({name}) is a")
    assert must("commitment", "lint", document).splitlines()[-len(said) - 1 : -1] == said
    exported = json.loads(must("commitment", "show", document, "--json"))
    assert [one["sentence"] for one in exported["sentences"]] == said
    assert exported["digest"] == hashlib.sha256(document.read_bytes()).hexdigest()
    must("commitment", "render", document, "--out", out)
    page = out.read_text()
    for sentence in said:
        assert page.count(f"<li>{escape(sentence)}</li>") == 1
    for one in exported["sentences"]:
        at, header = page.index(f"<li>{escape(one['sentence'])}</li>"), f"[{one['table']}]"
        before = "</header>" if header not in page else "</section>"
        assert page.index(before, at) > at
        if header in page:
            assert page.rindex("<section>", 0, at) < at < page.index(header), "above the terms that say so"
            assert "</section>" not in page[at : page.index(header)], "in their own row"
