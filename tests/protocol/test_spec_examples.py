"""The examples in specs/, computed: each block "example NAME" holds exactly what the code says.

PACEKEEPER_WRITE_VECTORS=1 writes them anew.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from vectors import ROOT, check_file

from pacekeeper.protocol.commitments.pledges import Alternatives, Condition, Roll, bound_set, collapse_sets
from pacekeeper.protocol.compute.bounds import Bounds, interval
from pacekeeper.protocol.compute.calendar import Silence, shift_by_silence
from pacekeeper.protocol.compute.lineage import Lineage, Record, Run
from pacekeeper.protocol.envelope import encode, encode_entry, identity, pae
from pacekeeper.protocol.keys import SigningKey, format_public_key
from pacekeeper.protocol.statements import parse_statement, payload_type, seal
from pacekeeper.v1 import statements_pb2 as pb

DOCUMENTS = ("envelope", "keys", "statements", "chain", "replay", "compute", "lineage", "evidence", "pledges")
KEY = SigningKey(bytes(range(32)))
FINGERPRINT = bytes(range(32))
_BLOCK = re.compile(r"^```example ([a-z-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def hexadecimal(data: bytes) -> str:
    return "\n".join(textwrap.wrap(data.hex(), 96))


def tick() -> dict[str, str]:
    envelope = seal(pb.Tick(agreement=FINGERPRINT, index=7), [KEY])
    message = pae(envelope.payload_type, envelope.payload)
    return {
        "tick-payload": hexadecimal(envelope.payload),
        "tick-pae": hexadecimal(message),
        "tick-identity": hexadecimal(identity(message)),
        "tick-envelope": hexadecimal(encode(envelope)),
        "tick-entry": hexadecimal(encode_entry(1_767_225_600_000, envelope)),
        "key-text": format_public_key(KEY.public),
        "key-id": hexadecimal(KEY.key_id),
    }


def attestation() -> dict[str, str]:
    estimate = pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=800, margin_ppm=50_000)
    statement = pb.ComputeAttestation(
        agreement=FINGERPRINT,
        lab="borealis",
        link=pb.Link(sequence=1, as_of=5),
        account=pb.PeriodAccount(
            period=3,
            figures=[pb.RunFigure(run="run-1", steps=2, chip_ms=10, estimates=[estimate])],
            time=[
                pb.CategoryTime(category=pb.CATEGORY_TRAINING, chip_ms=10),
                pb.CategoryTime(category=pb.CATEGORY_IDLE, chip_ms=990),
            ],
            pools=[pb.AcceleratorPool(model="chip-a", count=1, peak_gflop_per_s=100_000)],
        ),
    )
    envelope = seal(statement, [KEY])
    assert parse_statement(envelope) == statement
    return {
        "attestation-payload": hexadecimal(envelope.payload),
        "attestation-identity": hexadecimal(identity(pae(payload_type(type(statement)), envelope.payload))),
    }


def silence() -> str:
    moved = ((due, shift_by_silence(due, Silence(100, 160))) for due in (100, 101, 130, 160, 161, 219, 220, 300))
    return "\n".join(f"{before} -> {after}" for before, after in moved)


def bounds() -> str:
    cases = ((1000, 0), (1000, 50_000), (3, 1), (0, 1_000_000), (7, 600_000))
    return "\n".join(
        f"{amount} within {ppm} ppm: {low} to {high}" for amount, ppm in cases for low, high in [interval(amount, ppm)]
    )


def merge() -> str:
    """A root at 300, forked into left (200) and right (250), and merged."""
    lineage = Lineage()
    lines = []
    runs: list[tuple[str, tuple[int, ...], int]] = [
        ("root", (), 300),
        ("left", (1,), 200),
        ("right", (1,), 250),
        ("merged", (3, 5), 100),
    ]
    for index, (name, parents, own) in enumerate(runs):
        run = Run(f"lab/{name}", "lab", 2 * index, "", 1, name.encode(), tuple(parents))
        lineage.declare(run)
        record = Record(2 * index + 1, run.name, f"{name}'s end".encode(), 0, 1, Bounds(own, own))
        lineage.add_record(record)
        inherited = lineage.inherited(run).high
        sources = " + ".join(f"{r.run.removeprefix('lab/')} {r.own.high}" for r in lineage.ancestors(run)) or "nothing"
        lines.append(f"{name}: inherits {sources} = {inherited}, own {own}, together {inherited + own}")
    return "\n".join(lines)


def pledges() -> str:
    """Four parties and a lab, one pledge after the other; then who could end it."""
    roll = Roll({"arda": 4, "belan": 3, "corin": 2, "doran": 1}, {"borealis": "arda"})
    steps: list[tuple[str, Alternatives, str]] = [
        ("arda", (Condition(parties=3),), "with three parties"),
        ("belan", (Condition(named=frozenset({"arda"}), weight_ppm=600_000),), "with arda and 60 % of the weight"),
        ("borealis", (Condition(labs=2), Condition(named=frozenset({"arda"}))), "with two labs, or with arda"),
        ("corin", (Condition(named=frozenset({"borealis"})),), "with borealis"),
        ("doran", (), "in any case"),
    ]
    taken: dict[str, Alternatives] = {}
    lines = []
    for name, pledge, words in steps:
        taken[name] = pledge
        bound = ", ".join(sorted(bound_set(roll, taken))) or "nobody"
        lines.append(f"{name}, {words}: bound are {bound}")
    for rule in (Condition(parties=3), Condition(parties=1)):
        sets = "; ".join(" and ".join(sorted(each)) for each in collapse_sets(roll, taken, rule).sets)
        lines.append(f"whose exit leaves fewer than {rule.parties}: {sets}")
    return "\n".join(lines)


def computed() -> dict[str, str]:
    void = pb.Evidence(void_entry=pb.VoidEntryEvidence(index=4, code="bad-tick"))
    return {
        **tick(),
        **attestation(),
        "silence": silence(),
        "bounds": bounds(),
        "merge": merge(),
        "pledges": pledges(),
        "void-entry": hexadecimal(void.SerializeToString(deterministic=True)),
    }


def path_of(document: str) -> Path:
    return ROOT / "specs" / f"{document}.md"


def test_the_examples_in_the_specs_are_what_the_code_says() -> None:
    """SPEC envelope-1, SPEC envelope-2, SPEC keys-3, SPEC keys-4, SPEC compute-1, SPEC lineage-6, SPEC replay-4,
    SPEC pledges-4."""
    examples = computed()
    found = []
    for document in DOCUMENTS:
        text = path_of(document).read_text(encoding="utf-8")
        found += [match[1] for match in _BLOCK.finditer(text)]
        written = _BLOCK.sub(lambda match: f"```example {match[1]}\n{examples[match[1]]}\n```", text)
        check_file(path_of(document), written.encode())
    assert sorted(found) == sorted(examples), "each example is shown once"


def test_each_rule_has_one_place_and_one_number() -> None:
    """Numbers of a document run without holes; so none was dropped silently, and none is free to be used again."""
    rules: dict[str, list[int]] = {}
    for document in DOCUMENTS:
        for name, number in re.findall(r"^- \*\*([a-z]+)-([0-9]+)\*\* ", path_of(document).read_text(), re.MULTILINE):
            rules.setdefault(name, []).append(int(number))
    assert set(rules) == set(DOCUMENTS)
    for name, numbers in rules.items():
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), name
