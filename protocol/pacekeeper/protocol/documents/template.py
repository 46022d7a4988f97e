"""Writing a document: a template's placeholders filled in, and tables written as compile_agreement reads them.

A template is a document with `{{name}}` where terms go. Filling is plain substitution and misses nothing: each
placeholder has a value and each value its placeholder.

Example: fill_template('due = "{{due}}"', {"due": "6 h"}) == 'due = "6 h"'
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from pacekeeper.protocol import keys
from pacekeeper.protocol.documents.describe import exact_flop
from pacekeeper.protocol.documents.model import Cap, Lab, LogTerms, Party
from pacekeeper.protocol.documents.values import format_pin
from pacekeeper.protocol.tlog.vkey import format_vkey

_PLACEHOLDER: Final = re.compile(r"\{\{([a-z][a-z0-9_]*)\}\}")
_UNWRITABLE: Final = re.compile(r'["\\\x00-\x1f\x7f]')


def placeholders(template: str) -> frozenset[str]:
    """Return the names of a template's placeholders."""
    return frozenset(_PLACEHOLDER.findall(template))


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Return the template with every placeholder replaced; what is put in is not looked at again.

    Raises ValueError that names the placeholders without value or the values without placeholder.
    """
    missing, unused = placeholders(template) - values.keys(), values.keys() - placeholders(template)
    if missing or unused:
        raise ValueError(f"template: no value for {sorted(missing)}, no place for {sorted(unused)}")
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def format_log(log: LogTerms) -> str:
    """Write the [log] table, without newline at its end."""
    return _table(
        "[log]",
        key=format_vkey(log.key),
        statement_key=keys.format_public_key(log.statement_key),
        tls_spki=format_pin(log.tls_spki),
        address=log.address,
        url=log.url,
    )


def format_party(party: Party) -> str:
    """Write a [[party]] table and its [party.verifier]."""
    verifier = party.verifier
    head = _table("[[party]]", id=party.id, name=party.name, key=keys.format_public_key(party.key))
    part = _table(
        "[party.verifier]",
        name=verifier.name,
        statement_key=keys.format_public_key(verifier.statement_key),
        cosign_key=format_vkey(verifier.cosign_key),
        tls_spki=format_pin(verifier.tls_spki),
        address=verifier.address,
    )
    return f"{head}\n{part}"


def format_lab(lab: Lab) -> str:
    """Write a [[lab]] table."""
    return _table(
        "[[lab]]",
        id=lab.id,
        name=lab.name,
        party=lab.party,
        key=keys.format_public_key(lab.key),
        tls_spki=format_pin(lab.tls_spki),
    )


def format_cap(cap: Cap) -> str:
    """Write a [[cap]] table, its limit exactly."""
    terms = {"id": cap.id, "kind": cap.kind, "limit": exact_flop(cap.limit)}
    if cap.kind != "run":
        terms["window"] = "1 period" if cap.window == 1 else f"{cap.window} periods"
    written = _table("[[cap]]", **terms)
    if cap.subjects:
        written += f"\nsubjects = [{', '.join(_quoted(subject) for subject in cap.subjects)}]"
    return written


def join_tables(tables: Iterable[str]) -> str:
    """Put written tables into one block, a blank line between them."""
    return "\n\n".join(tables)


def _table(header: str, **terms: str) -> str:
    return "\n".join([header, *(f"{key} = {_quoted(value)}" for key, value in terms.items())])


def _quoted(value: str) -> str:
    if _UNWRITABLE.search(value):
        raise ValueError("text with quotes, backslashes or control characters cannot stand in a term")
    return f'"{value}"'
