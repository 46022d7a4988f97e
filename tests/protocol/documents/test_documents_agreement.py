"""An agreement compiles to its terms, and each rule, when broken, is refused at the very line that breaks it."""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

import pytest
from agreements import ORIGIN, build_document, edit, verifier_name

from pacekeeper.protocol.documents.agreement import DocumentError, compile_agreement
from pacekeeper.protocol.documents.checks import MAX_PARTIES
from pacekeeper.protocol.documents.lint import lint_agreement
from pacekeeper.protocol.keys import format_public_key
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, ED25519, NoteKey, format_vkey
from pacekeeper.v1 import statements_pb2

CAPS = (
    {"id": "run", "kind": "run", "limit": "1e24 FLOP"},
    {"id": "labs", "kind": "lab", "limit": "2.5e24 FLOP", "window": "30 periods", "subjects": ["meridian"]},
    {"id": "parties", "kind": "party", "limit": "3e24 FLOP", "window": "1 period", "subjects": ["norland", "sudland"]},
)


def refusal(document: bytes) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        compile_agreement(document)
    errors = [problem for problem in lint_agreement(document) if problem.severity == "error"]
    assert errors, "what compile refuses, lint reports"
    assert (errors[0].line, errors[0].message) == (caught.value.line, caught.value.message)
    return caught.value


def test_a_valid_agreement_compiles_to_every_term() -> None:
    document, keys = build_document(caps=CAPS, epoch="2026-01-01T00:00:00Z")
    agreement = compile_agreement(document)
    assert agreement.title == "Test agreement"
    assert agreement.rules_version == 4
    assert agreement.origin == ORIGIN
    calendar, timing = agreement.calendar, agreement.timing
    assert (calendar.epoch_ms, calendar.period_ms) == (1_767_225_600_000, 86_400_000)
    assert (calendar.due_ms, calendar.fill_in_ms) == (6 * 3_600_000, 90 * 86_400_000)
    assert (timing.tick_ms, timing.tolerance_ms, timing.unwitnessed_ms) == (300_000, 10_000, 3_600_000)
    assert (agreement.quorum.verifiers, agreement.quorum.quorum, agreement.quorum.liars) == (4, 3, 1)
    assert agreement.quorum.absences == 1
    assert agreement.margins == {
        statements_pb2.METHOD_FRAMEWORK_COUNT: 50_000,
        statements_pb2.METHOD_CHIP_TIME: 600_000,
    }
    assert agreement.indeterminate_periods == 3
    assert [party.id for party in agreement.parties] == list(keys.party_ids)
    norland = agreement.parties[0]
    assert norland.key == keys.party("norland").public
    assert norland.verifier.statement_key == keys.verifier_statement("norland").public
    assert norland.verifier.cosign_key == NoteKey(
        verifier_name("norland"), COSIGNATURE_V1, keys.verifier_cosign("norland").public
    )
    assert norland.verifier.address == "127.0.0.1:7501"
    assert [(lab.id, lab.party, lab.key) for lab in agreement.labs] == [
        ("borealis", "norland", keys.lab("borealis").public),
        ("meridian", "sudland", keys.lab("meridian").public),
    ]
    assert agreement.log.key == NoteKey(ORIGIN, ED25519, keys.log_checkpoint.public)
    assert agreement.log.statement_key == keys.log_statement.public
    assert [(cap.kind, cap.limit, cap.window, cap.subjects) for cap in agreement.caps] == [
        ("run", 10**15, 0, ()),
        ("lab", 25 * 10**14, 30, ("meridian",)),
        ("party", 3 * 10**15, 1, ("norland", "sudland")),
    ]
    assert lint_agreement(document) == []


def test_the_fingerprint_is_the_hash_of_the_exact_bytes() -> None:
    """SPEC documents-14."""
    document, _ = build_document()
    assert compile_agreement(document).fingerprint == hashlib.sha256(document).digest()
    longer = document + b"\n"
    assert compile_agreement(longer).fingerprint == hashlib.sha256(longer).digest()


def test_the_policy_is_the_agreements_log_verifiers_and_quorum() -> None:
    document, keys = build_document()
    policy = compile_agreement(document).policy()
    assert (policy.origin, policy.quorum) == (ORIGIN, 3)
    assert policy.log_key.public_key == keys.log_checkpoint.public
    assert [(party, key.public_key) for party, key in policy.witnesses] == [
        (party, keys.verifier_cosign(party).public) for party in keys.party_ids
    ]


def test_periods_are_half_open_and_counted_from_the_epoch() -> None:
    agreement = compile_agreement(build_document(epoch="1970-01-01T00:01:40Z", period="10 s", due="4 s")[0])
    assert [agreement.period_of(time) for time in (99_999, 100_000, 109_999, 110_000)] == [-1, 0, 0, 1]
    assert agreement.period_start_ms(2) == 120_000
    assert agreement.period_end_ms(2) == 130_000
    assert agreement.due_ms(2) == 134_000
    assert agreement.fill_in_ms(2) == 130_000 + 900_000


def test_an_agreement_survives_pickling_and_equals_itself() -> None:
    agreement = compile_agreement(build_document(caps=CAPS)[0])
    assert pickle.loads(pickle.dumps(agreement)) == agreement
    error = DocumentError(7, "why")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "line 7: why"


# (rule, what is replaced, by what, which occurrence): the refusal must be at the line of the replacement.
BROKEN_LINES = [
    ("documents-8", 'period = "1 d"', "period = '1 d'", 1),
    ("documents-8", 'period = "1 d"', 'period = "1\\u0020d"', 1),
    ("documents-8", "quorum = 3", "quorum = 0x3", 1),
    ("documents-8", "quorum = 3", "quorum = 3.0", 1),
    ("documents-8", "liars = 1", "liars = true", 1),
    ("documents-8", 'due = "6 h"', "due = [[[[", 1),
    ("documents-8", 'name = "Norland"', 'name = "Nor\u200cland"', 1),
    ("documents-8", "[timing]", "[timing.more.still]", 1),
    ("documents-8", 'due = "6 h"', 'period = "6 h"', 1),
    ("documents-8", "[resolution]", "[margins]", 1),
    ("documents-9", "[timing]", "[resolution.part]", 1),
    ("documents-10", "[timing]", "[timings]\n[timing]", 1),
    ("documents-10", "[timing]", "[[timings]]\n[timing]", 1),
    ("documents-10", 'id = "borealis"', 'idd = "borealis"\nid = "borealis"', 1),
    ("documents-10", 'framework-count = "5 %"', 'gut-feeling = "5 %"', 1),
    ("documents-12", 'period = "1 d"', 'period = "86400"', 1),
    ("documents-12", 'period = "1 d"', 'period = "1 week"', 1),
    ("documents-12", 'period = "1 d"', "period = 86400", 1),
    ("documents-12", 'period = "1 d"', 'period = "١ d"', 1),
    ("documents-12", 'fill_in = "90 d"', 'fill_in = "36526 d"', 1),
    ("documents-12", 'tolerance = "10 s"', 'tolerance = "0 s"', 1),
    ("documents-12", 'epoch = "2026-01-01T00:00:00Z"', 'epoch = "1969-12-31T23:59:59Z"', 1),
    ("documents-12", 'epoch = "2026-01-01T00:00:00Z"', 'epoch = "2026-01-01"', 1),
    ("documents-12", 'framework-count = "5 %"', 'framework-count = "0.05"', 1),
    ("documents-12", 'chip-time = "60 %"', 'chip-time = "101 %"', 1),
    ("documents-12", 'limit = "1e24 FLOP"', 'limit = "1e24"', 1),
    ("documents-12", 'limit = "1e24 FLOP"', 'limit = "0 FLOP"', 1),
    ("documents-12", 'limit = "1e24 FLOP"', 'limit = "1234567890123456789.0000000001e9 FLOP"', 1),
    ("documents-12", 'limit = "1e24 FLOP"', 'limit = "1 FLOP"', 1),
    ("documents-12", 'limit = "1e24 FLOP"', 'limit = "1e99 FLOP"', 1),
    ("documents-12", 'window = "30 periods"', 'window = "30 d"', 1),
    ("documents-12", 'window = "30 periods"', 'window = "1001 periods"', 1),
    ("documents-12", "indeterminate_periods = 3", "indeterminate_periods = 0", 1),
    ("documents-12", "quorum = 3", 'quorum = "3"', 1),
    ("documents-13", 'key = "ed25519:', 'key = "', 1),
    ("documents-13", 'key = "ed25519:', 'key = "ed25519:A', 1),
    ("documents-13", 'tls_spki = "sha256:', 'tls_spki = "', 1),
    ("documents-13", 'tls_spki = "sha256:', 'tls_spki = "sha256:A', 1),
    ("documents-13", 'cosign_key = "norland', 'cosign_key = "other', 1),
    ("documents-13", 'id = "norland"', 'id = "Norland"', 1),
    ("documents-13", 'id = "norland"', 'id = "-norland"', 1),
    ("documents-13", 'id = "norland"', f'id = "{"n" * 65}"', 1),
    ("documents-13", 'name = "Norland"', 'name = ""', 1),
    ("documents-13", 'name = "Norland"', f'name = "{"n" * 401}"', 1),
    ("documents-13", 'origin = "example.org/pacekeeper"', 'origin = "https://example.org/"', 1),
    ("documents-13", 'address = "127.0.0.1:7501"', 'address = "127.0.0.1"', 1),
    ("documents-13", 'address = "127.0.0.1:7501"', 'address = "127.0.0.1:0"', 1),
    ("documents-13", 'address = "127.0.0.1:7501"', 'address = "127.0.0.1:65536"', 1),
    ("documents-13", 'address = "127.0.0.1:7501"', 'address = "999.0.0.1:7501"', 1),
    ("documents-13", 'address = "127.0.0.1:7501"', 'address = "[::1::]:7501"', 1),
    ("documents-13", 'url = "http://127.0.0.1:7402"', 'url = "http://127.0.0.1:7402/"', 1),
    ("documents-13", 'url = "http://127.0.0.1:7402"', 'url = "file:///etc/passwd"', 1),
    ("documents-13", 'url = "http://127.0.0.1:7402"', 'url = "http://user@127.0.0.1"', 1),
    ("documents-15", "rules = 4", "rules = 5", 1),
    ("documents-15", 'unit = "gigaFLOP"', 'unit = "FLOP"', 1),
    ("documents-16", 'period = "1 d"', 'period = "999 ms"', 1),
    ("documents-16", 'fill_in = "90 d"', 'fill_in = "6 h"', 1),
    ("documents-16", 'tick = "5 min"', 'tick = "181 min"', 1),
    ("documents-17", "quorum = 3", "quorum = 2", 1),
    ("documents-17", "quorum = 3", "quorum = 4", 1),
    ("documents-18", 'id = "sudland"', 'id = "norland"', 1),
    ("documents-18", 'id = "meridian"', 'id = "borealis"', 1),
    ("documents-18", 'id = "borealis"', 'id = "norland"', 1),
    ("documents-18", 'id = "borealis"', 'id = "log"', 1),
    ("documents-18", 'id = "labs"', 'id = "run"', 1),
    ("documents-19", 'party = "norland"', 'party = "nowhere"', 1),
    ("documents-19", 'party = "norland"', 'party = "borealis"', 1),
    ("documents-19", 'subjects = ["meridian"]', 'subjects = ["nowhere"]', 1),
    ("documents-19", 'subjects = ["meridian"]', 'subjects = ["norland"]', 1),
    ("documents-19", 'subjects = ["norland", "sudland"]', 'subjects = ["borealis"]', 1),
    ("documents-19", 'subjects = ["norland", "sudland"]', 'subjects = ["norland", "norland"]', 1),
    ("documents-19", 'subjects = ["meridian"]', "subjects = []", 1),
    ("documents-21", 'kind = "run"', 'kind = "continent"', 1),
    ("documents-21", 'limit = "1e24 FLOP"', 'limit = "1e24 FLOP"\nwindow = "3 periods"', 1),
]
FAULT_BELOW = {("documents-10", 'id = "borealis"'): 0, ("documents-21", 'limit = "1e24 FLOP"'): 1}


@pytest.mark.parametrize(("rule", "old", "new", "occurrence"), BROKEN_LINES)
def test_a_broken_line_is_refused_at_its_number(rule: str, old: str, new: str, occurrence: int) -> None:
    """Each at the line of the term at fault.

    SPEC documents-1, SPEC documents-8, SPEC documents-9, SPEC documents-10, SPEC documents-12, SPEC documents-13,
    SPEC documents-15, SPEC documents-16, SPEC documents-17, SPEC documents-18, SPEC documents-19, SPEC documents-21.
    """
    document, _ = build_document(caps=CAPS)
    compile_agreement(document)
    broken, line = edit(document, old, new, occurrence)
    assert refusal(broken).line == line + FAULT_BELOW.get((rule, old), 0)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        *(("[agreement]", key) for key in ("title", "rules", "origin", "unit")),
        *(("[calendar]", key) for key in ("epoch", "period", "due", "fill_in")),
        *(("[timing]", key) for key in ("tick", "tolerance", "unwitnessed")),
        *(("[quorum]", key) for key in ("quorum", "liars")),
        ("[resolution]", "indeterminate_periods"),
        *(("[log]", key) for key in ("key", "statement_key", "tls_spki", "address", "url")),
        *(("[[party]]", key) for key in ("id", "name", "key")),
        *(("[party.verifier]", key) for key in ("name", "statement_key", "cosign_key", "tls_spki", "address")),
        *(("[[lab]]", key) for key in ("id", "name", "party", "key", "tls_spki")),
        *(("[[cap]]", key) for key in ("id", "kind", "limit")),
    ],
)
def test_a_missing_key_is_refused_at_its_tables_line(table: str, key: str) -> None:
    """SPEC documents-11."""
    document, _ = build_document()
    lines = document.decode().split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(table))
    place = next(i for i in range(start, len(lines)) if lines[i].startswith(f"{key} = "))
    lines[place] = ""
    error = refusal("\n".join(lines).encode())
    assert error.line == start + 1
    assert key in error.message


@pytest.mark.parametrize("table", ["agreement", "calendar", "timing", "quorum", "margins", "resolution", "log"])
def test_a_missing_table_is_refused_by_name(table: str) -> None:
    """SPEC documents-11."""
    lines = build_document()[0].decode().split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(f"[{table}]"))
    while lines[start] and not lines[start].startswith("```"):
        del lines[start]
    error = refusal("\n".join(lines).encode())
    assert (error.line, error.message) == (len(lines), f"the document has no table [{table}]")


def test_a_party_without_verifier_is_refused_once_at_the_party() -> None:
    """SPEC documents-11."""
    lines = build_document()[0].decode().split("\n")
    party = next(i for i, line in enumerate(lines) if line == "[[party]]")
    start = lines.index("[party.verifier]")
    del lines[start : start + 6]
    problems = lint_agreement("\n".join(lines).encode())
    assert [(problem.line, problem.severity) for problem in problems] == [(party + 1, "error")]


def test_a_window_cap_without_window_is_refused_at_the_cap() -> None:
    """SPEC documents-21."""
    document, _ = build_document(caps=[{"id": "labs", "kind": "lab", "limit": "1e24 FLOP"}])
    error = refusal(document)
    assert error.line == edit(document, "[[cap]]", "")[1]
    assert "window" in error.message


@pytest.mark.parametrize(("argument", "table"), [("labs", "lab"), ("caps", "cap")])
def test_no_lab_and_no_cap_are_refused(argument: str, table: str) -> None:
    """SPEC documents-23."""
    document, _ = build_document(labs=0) if argument == "labs" else build_document(caps=[])
    assert f"the document has no table [[{table}]]" in [problem.message for problem in lint_agreement(document)]


def test_no_party_is_refused() -> None:
    """SPEC documents-23."""
    document, _ = build_document(parties=("gone",))
    lines = document.decode().split("\n")
    start = lines.index("[[party]]")
    del lines[start : lines.index("```", start)]
    assert refusal("\n".join(lines).encode()).message == "the document has no table [[party]]"


def test_as_many_parties_as_can_sign_compile_and_one_more_is_refused_at_its_line() -> None:
    """SPEC documents-23."""
    assert len(compile_agreement(build_document(parties=MAX_PARTIES)[0]).parties) == MAX_PARTIES == 32
    document, _ = build_document(parties=MAX_PARTIES + 1, liars=1, quorum=20)
    error = refusal(document)
    assert error.line == edit(document, "[[party]]", "", MAX_PARTIES + 1)[1]


def test_as_many_caps_as_allowed_compile_and_one_more_is_refused_at_its_line() -> None:
    """SPEC documents-23."""
    caps = [{"id": f"cap-{i}", "kind": "run", "limit": "1e24 FLOP"} for i in range(65)]
    assert len(compile_agreement(build_document(caps=caps[:64])[0]).caps) == 64
    document, _ = build_document(caps=caps)
    assert refusal(document).line == edit(document, 'id = "cap-64"', "")[1] - 1


@pytest.mark.parametrize(
    ("n", "q", "f", "holds"),
    [
        (1, 1, 0, True),
        (1, 1, 1, False),
        (2, 1, 0, False),
        (2, 2, 0, True),
        (3, 2, 0, True),
        (3, 2, 1, False),
        (3, 3, 1, False),
        (4, 3, 1, True),
        (4, 3, 0, True),
        (4, 4, 0, True),
        (4, 3, 2, False),
        (4, 4, 1, False),
        (7, 5, 2, True),
        (7, 4, 1, False),
        (7, 6, 2, False),
        (10, 7, 3, True),
        (10, 6, 3, False),
    ],
)
def test_quorum_arithmetic(n: int, q: int, f: int, holds: bool) -> None:
    """SPEC documents-17: 2q - n > f and q <= n - f, and nothing else."""
    document, _ = build_document(parties=n, quorum=q, liars=f)
    if holds:
        assert compile_agreement(document).quorum.absences == n - q
    else:
        assert refusal(document).line == edit(document, f"quorum = {q}", "")[1]


def test_the_keys_names_must_be_origin_and_verifiers_name() -> None:
    """SPEC documents-20."""
    document, keys = build_document()
    stray = format_vkey(NoteKey("example.org/other", ED25519, keys.log_checkpoint.public))
    own = format_vkey(NoteKey(ORIGIN, ED25519, keys.log_checkpoint.public))
    broken, line = edit(document, own, stray)
    assert refusal(broken).line == line

    name = verifier_name("sudland")
    own = format_vkey(NoteKey(name, COSIGNATURE_V1, keys.verifier_cosign("sudland").public))
    stray = format_vkey(NoteKey("stray.example/v", COSIGNATURE_V1, keys.verifier_cosign("sudland").public))
    broken, line = edit(document, own, stray)
    assert refusal(broken).line == line


def test_two_verifiers_of_one_name_are_refused_at_the_second() -> None:
    """SPEC documents-20."""
    document, keys = build_document()
    own, twin = verifier_name("sudland"), verifier_name("norland")
    key = keys.verifier_cosign("sudland").public
    old = format_vkey(NoteKey(own, COSIGNATURE_V1, key))
    document, _ = edit(document, old, format_vkey(NoteKey(twin, COSIGNATURE_V1, key)))
    document, line = edit(document, f'name = "{own}"', f'name = "{twin}"')
    assert refusal(document).line == line


@pytest.mark.parametrize("swap", ["log", "verifier"])
def test_a_verifier_key_of_the_wrong_type_is_refused(swap: str) -> None:
    """SPEC documents-13: the log's key is of type 1, a cosigning key of type 4."""
    document, keys = build_document()
    if swap == "log":
        name, own, other, key = ORIGIN, ED25519, COSIGNATURE_V1, keys.log_checkpoint
    else:
        name, own, other, key = verifier_name("norland"), COSIGNATURE_V1, ED25519, keys.verifier_cosign("norland")
    old, new = (format_vkey(NoteKey(name, algorithm, key.public)) for algorithm in (own, other))
    broken, line = edit(document, old, new)
    assert refusal(broken).line == line


def test_no_key_serves_two_jobs_in_any_pair_of_places() -> None:
    """SPEC documents-22: every pair of Ed25519 keys is tried, and refused at the later line."""
    document, keys = build_document(parties=2, labs=2)
    norland, sudland = (verifier_name(party) for party in ("norland", "sudland"))
    cosign = {
        "cosign": (norland, COSIGNATURE_V1, keys.verifier_cosign("norland").public),
        "cosign-2": (sudland, COSIGNATURE_V1, keys.verifier_cosign("sudland").public),
        "log": (ORIGIN, ED25519, keys.log_checkpoint.public),
    }
    plain = {
        "party": keys.party("norland").public,
        "party-2": keys.party("sudland").public,
        "statement": keys.verifier_statement("norland").public,
        "lab": keys.lab("borealis").public,
        "lab-2": keys.lab("meridian").public,
        "log-statement": keys.log_statement.public,
    }
    places = {name: format_public_key(key) for name, key in plain.items()} | {
        name: format_vkey(NoteKey(*terms)) for name, terms in cosign.items()
    }
    raw = plain | {name: terms[2] for name, terms in cosign.items()}
    lines = {name: edit(document, text, "")[1] for name, text in places.items()}
    for target, old in places.items():
        for source, public in raw.items():
            if source == target:
                continue
            new = (
                format_public_key(public)
                if target in plain
                else format_vkey(NoteKey(cosign[target][0], cosign[target][1], public))
            )
            broken, _ = edit(document, old, new)
            assert refusal(broken).line == max(lines[target], lines[source])


def test_tls_pins_are_distinct_over_all_servers_and_labs() -> None:
    """SPEC documents-22."""
    pin = bytes(range(32))
    for first, second in [("log", "verifier/norland"), ("verifier/norland", "lab/borealis"), ("log", "lab/meridian")]:
        document, _ = build_document(pins={first: pin, second: pin})
        error = refusal(document)
        assert document.decode().split("\n")[error.line - 1].startswith("tls_spki")
        assert "TLS key" in error.message


def test_lint_lists_faults_of_several_tables_at_once_in_the_order_of_lines() -> None:
    """SPEC documents-1."""
    document, _ = build_document()
    document, first = edit(document, 'period = "1 d"', 'period = "1"')
    document, second = edit(document, 'id = "meridian"', 'id = "Meridian"')
    document, third = edit(document, 'limit = "1e24 FLOP"', 'limit = "lots"')
    problems = lint_agreement(document)
    assert [problem.line for problem in problems] == [first, second, third]
    assert {problem.severity for problem in problems} == {"error"}


def test_lint_lists_several_broken_rules_at_once() -> None:
    document, _ = build_document(quorum=2, tick="4 h")
    document, unknown = edit(document, 'party = "norland"', 'party = "nowhere"')
    lines = [problem.line for problem in lint_agreement(document)]
    assert lines == sorted(lines)
    assert {edit(document, "quorum = 2", "")[1], edit(document, 'tick = "4 h"', "")[1], unknown} <= set(lines)


@pytest.mark.parametrize(
    ("overrides", "at", "says"),
    [
        ({"quorum": 4, "liars": 0}, "quorum = 4", "no absence"),
        ({"quorum": 3, "liars": 0}, "liars = 0", "no liar"),
        ({"unwitnessed": "1 min"}, 'unwitnessed = "1 min"', "shorter than tick"),
        ({"tolerance": "2 d"}, 'tolerance = "2 d"', "longer than a period"),
        ({"framework_count_margin": "100 %", "chip_time_margin": "100 %"}, "[margins]", "100 %"),
        (
            {"caps": [{"id": "c", "kind": "run", "limit": "1e24 FLOP", "subjects": ["borealis"]}]},
            'id = "meridian"',
            "no cap applies",
        ),
        ({"addresses": {"log": "127.0.0.1:1", "norland": "127.0.0.1:1"}}, 'address = "127.0.0.1:1"', "is the address"),
    ],
)
def test_lint_warns_of_what_compiles_but_may_not_be_meant(overrides: dict[str, Any], at: str, says: str) -> None:
    document, _ = build_document(**overrides)
    compile_agreement(document)
    warnings = {problem.line: problem.message for problem in lint_agreement(document) if problem.severity == "warning"}
    lines = document.decode().split("\n")
    candidates = [i for i, line in enumerate(lines, start=1) if line.startswith(at)]
    assert any(says in warnings.get(line, "") for line in candidates)
