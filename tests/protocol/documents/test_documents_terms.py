"""Term blocks are one TOML file in one way of writing; tables know the line of each key."""

from __future__ import annotations

import tomllib

import pytest
from agreements import build_document

from pacekeeper.protocol.documents.blocks import DocumentError, split_document
from pacekeeper.protocol.documents.tables import parse_tables
from pacekeeper.protocol.documents.terms import TableReader
from pacekeeper.protocol.documents.values import as_address, as_url


def tables_of(*blocks: str) -> bytes:
    return ("## Article 1. One\n" + "".join(f"```toml\n{block}\n```\n" for block in blocks)).encode()


def refused_at(*blocks: str) -> int:
    with pytest.raises(DocumentError) as caught:
        parse_tables(split_document(tables_of(*blocks)))
    return caught.value.line


def test_tables_know_their_values_and_the_lines_of_keys() -> None:
    document = tables_of(
        '[a]  # one\n\nx = "é # no comment" # comment\n', '[[b]]\ny=1\n[b.c]\nz = [ "p" , "q" ]\n[[b]]'
    )
    a, b, last = parse_tables(split_document(document))
    assert (a.name, a.line, a.repeated, dict(a.values), a.lines) == ("a", 3, False, {"x": "é # no comment"}, {"x": 5})
    assert (b.line, b.lines, b.parts["c"].line, b.parts["c"].values, b.parts["c"].lines) == (
        9,
        {"y": 10},
        11,
        {"z": ["p", "q"]},
        {"z": 12},
    )
    assert (last.line, last.repeated, dict(last.values)) == (13, True, {})
    assert (a.line_of("x"), a.line_of("absent")) == (5, 3)


def test_the_tables_are_what_any_toml_reader_finds() -> None:
    """SPEC documents-8: the subset is TOML."""
    document = build_document()[0]
    split = split_document(document)
    whole = tomllib.loads("\n".join("\n".join(block.lines) for block in split.blocks))
    tables = parse_tables(split)
    for name, value in whole.items():
        found = [dict(table.values) for table in tables if table.name == name]
        assert found == (value if isinstance(value, list) else [value])
    for table in tables:
        for key, line in table.lines.items():
            assert split.lines[line - 1].startswith(f"{key} =")


@pytest.mark.parametrize(
    "line",
    [
        "x = 'a'",
        'x = """a"""',
        'x = "a\\n"',
        "x = -1",
        "x = 01",
        "x = 1_0",
        "x = 1.5",
        "x = 2026-01-01",
        "x = true",
        "x = {}",
        'x = {y = "z"}',
        "x = [1]",
        'x = ["a",]',
        'x = ["a"',
        "x.y = 1",
        '"x" = 1',
        "X = 1",
        "x = ",
        "x = 9999999999999999999",
        "[a.b.c]",
        "[ a ]",
        "[A]",
        "x",
        'x = "a" y = "b"',
        "x = [" * 500,
    ],
)
def test_other_ways_of_writing_are_refused_at_their_line(line: str) -> None:
    """SPEC documents-8."""
    assert refused_at(f"[a]\n{line}\nlast = 1") == 4


@pytest.mark.parametrize(
    ("blocks", "line"),
    [
        (["[a]\nx = 1\nx = 2"], 5),
        (["[a]\n[a]"], 4),
        (["[a]", "[a]"], 6),
        (["[[a]]\n[a]"], 4),
        (["[a]\n[[a]]"], 4),
        (["[[a]]\n[a.b]\n[a.b]"], 5),
        (["[[a]]\nb = 1\n[a.b]"], 5),
        (["[a]\n[a.b]\n[[c]]\n[a.b]"], 6),
    ],
)
def test_what_is_written_twice_is_refused_at_the_second_place(blocks: list[str], line: int) -> None:
    """SPEC documents-8."""
    assert refused_at(*blocks) == line


def test_a_key_needs_a_header_and_a_part_its_table_in_the_same_block() -> None:
    """SPEC documents-9: a block never continues what a distant one began."""
    assert refused_at("x = 1") == 3
    assert refused_at("[a]", "x = 1") == 6
    assert refused_at("[[a]]", "[a.b]") == 6
    assert refused_at("[a.b]") == 3
    assert refused_at("[[a]]\n[c]\n[a.b]") == 5


def test_a_reader_notes_unknown_keys_and_parts_once_it_is_closed() -> None:
    """SPEC documents-10."""
    (table,) = parse_tables(split_document(tables_of('[[a]]\nx = 1\ny = 2\n[a.b]\nz = "t"')))
    faults: list[DocumentError] = []
    reader = TableReader(table, faults)
    assert reader.count("x", 0, 9) == 1
    assert faults == []
    reader.close()
    assert [fault.line for fault in faults] == [5, 6]


@pytest.mark.parametrize("address", ["log.example.org:7401", "127.0.0.1:1", "localhost:65535", "[::1]:443", "a-b.c:80"])
def test_addresses_are_accepted_in_their_one_form(address: str) -> None:
    """SPEC documents-13."""
    assert as_address(address) == address
    assert as_url(f"https://{address}/tiles") == f"https://{address}/tiles"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        "host:",
        ":80",
        "host:080",
        "host:70000",
        "Host:80",
        "-a:80",
        "a-:80",
        "a..b:80",
        "1.2.3:80",
        "::1:80",
        "[::g]:80",
        "[1.2.3.4:80",
        "a b:80",
        "a:80/x",
        "a:80\n",
        f"{'a.' * 130}b:80",
        "http://a:80",
        "256.1.1.1:80",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    """SPEC documents-13."""
    with pytest.raises(ValueError, match="expected"):
        as_address(address)
