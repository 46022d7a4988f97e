"""specs/errors.md and specs/limits.md are made from the code's own comments, so that neither can lag behind."""

from __future__ import annotations

import inspect
import re

from vectors import ROOT, check_file

from pacekeeper.protocol import errors, limits

_CODE = re.compile(r'^    [A-Z_]+ = "(?P<code>[a-z-]+)"  # (?P<meaning>.+)$')
_GROUP = re.compile(r"^    # (?P<group>.+)$")
_LIMIT = re.compile(r"^(?P<name>MAX_[A-Z_]+): Final = [^#]+?(?:  # (?P<reason>.+))?$")

_ERRORS = """# Refusals

What the protocol does not accept it refuses with one of these codes and a sentence. The code is for machines and never
changes its meaning; the sentence is for people, may quote hostile text, and is escaped where it is shown. An entry that
the replay refuses is void, and recorded with its code (replay-2).

This file is generated from `protocol/pacekeeper/protocol/errors.py`; `PACEKEEPER_WRITE_VECTORS=1 pytest
tests/protocol/test_spec_catalogues.py` writes it anew.
"""

_LIMITS = """# Limits

Everything that a stranger can make larger has a limit, and each limit has its reason. What is over one is refused as
`too-large`, or as `bad-field` where it is a field of a statement.

This file is generated from `protocol/pacekeeper/protocol/limits.py`; `PACEKEEPER_WRITE_VECTORS=1 pytest
tests/protocol/test_spec_catalogues.py` writes it anew.

| limit | value | why |
|---|---:|---|
"""


def errors_document() -> str:
    out = _ERRORS
    for line in inspect.getsource(errors.Code).splitlines():
        if group := _GROUP.match(line):
            out += f"\n## {group['group'].capitalize()}\n\n| code | meaning |\n|---|---|\n"
        elif code := _CODE.match(line):
            out += f"| `{code['code']}` | {code['meaning']} |\n"
    return out


def limits_document() -> str:
    out = _LIMITS
    for line in inspect.getsource(limits).splitlines():
        if limit := _LIMIT.match(line):
            name = limit["name"].removeprefix("MAX_").replace("_", " ").capitalize()
            out += f"| {name} | {getattr(limits, limit['name']):,} | {limit['reason'] or ''} |\n"
    return out


def test_the_catalogue_of_refusals_is_the_codes_own() -> None:
    document = errors_document()
    assert all(f"| `{code.value}` |" in document for code in errors.Code)
    check_file(ROOT / "specs" / "errors.md", document.encode())


def test_the_catalogue_of_limits_is_the_codes_own() -> None:
    document = limits_document()
    assert "|  |" not in document, "each limit has its reason"
    named = [name for name in vars(limits) if name.startswith("MAX_")]
    assert document.count("\n| ") == len(named) + 1
    check_file(ROOT / "specs" / "limits.md", document.encode())


def test_a_refusal_survives_another_process() -> None:
    """Front ends verify in processes of their own; what they refuse comes back as it was."""
    import pickle

    refusal = pickle.loads(pickle.dumps(errors.Refused(errors.Code.BAD_TICK, "a sentence")))
    assert (refusal.code, refusal.message, str(refusal)) == (errors.Code.BAD_TICK, "a sentence", "bad-tick: a sentence")
