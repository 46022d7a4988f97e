"""Test vectors of the tree, tiles, notes, checkpoints and receipts, for every implementation to share.

They are made here, from keys that anyone can derive, and compared with tests/vectors/tlog/*.json, so that neither the
code nor the files can change unnoticed. To write them anew, after a change that is meant:

    PACEKEEPER_WRITE_VECTORS=1 pytest tests/protocol/tlog/test_tlog_vectors.py

A test key's seed is SHA-256 of "pacekeeper test key " and its name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.follow import resources
from pacekeeper.protocol.tlog.merkle import HashTree, check_consistency, check_inclusion, hash_leaves
from pacekeeper.protocol.tlog.note import NoteKey, NoteSignature, format_vkey, open_note, parse_vkey, sign_note
from pacekeeper.protocol.tlog.policy import CosignaturePolicy, check_checkpoint
from pacekeeper.protocol.tlog.receipt import Receipt, check_receipt, format_receipt, parse_receipt
from pacekeeper.protocol.tlog.tiles import TilePath, parse_bundle, parse_tile_path, tiles_for
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, ED25519, cosigned_message

ROOT = Path(__file__).parents[3]
VECTORS = ROOT / "tests" / "vectors" / "tlog"

ORIGIN = "example.org/pacekeeper"
WITNESSES = (("norland", "norland.example/verifier"), ("sudria", "sudria.example/verifier"))
TIME_S = 1_790_000_000
ENTRIES = [b"first", b"second", b"third"]

Vectors = dict[str, Any]


def signing_key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(b"pacekeeper test key " + name.encode()).digest())


LOG_KEY = NoteKey(ORIGIN, ED25519, signing_key(ORIGIN).public)
POLICY = CosignaturePolicy(
    ORIGIN,
    LOG_KEY,
    tuple((party, NoteKey(name, COSIGNATURE_V1, signing_key(name).public)) for party, name in WITNESSES),
    quorum=2,
)
TREE = HashTree(hash_leaves(ENTRIES))
CHECKPOINT = Checkpoint(ORIGIN, TREE.size, TREE.root())


def cosignature(name: str, checkpoint: Checkpoint, time_s: int) -> str:
    return sign_cosignature(format_checkpoint(checkpoint), name, signing_key(name), time_s)


def cosigned(checkpoint: Checkpoint) -> str:
    lines = [cosignature(name, checkpoint, TIME_S + at) for at, (_, name) in enumerate(WITNESSES)]
    return sign_checkpoint(checkpoint, checkpoint.origin, signing_key(checkpoint.origin)).decode() + "".join(lines)


NOTE = cosigned(CHECKPOINT)
RECEIPT = Receipt(1, tuple(TREE.prove_inclusion(1)), NOTE.encode())


def outcome(check: Callable[[], object]) -> str:
    """Return "ok", or the code with which the check refuses."""
    try:
        check()
    except Refused as refusal:
        return refusal.code.value
    return "ok"


def tree_vectors() -> Vectors:
    entries = [hashlib.sha256(b"%d" % at).digest()[: at % 5] for at in range(20)]
    tree = HashTree(hash_leaves(entries))
    inclusion, consistency = [], []
    for size in (1, 2, 3, 7, 8, 13, 20):
        for index in sorted({0, size // 2, size - 1}):
            good = tree.prove_inclusion(index, size)
            for proof in (good, [*good, bytes(32)], good[1:], good[::-1]):
                leaf, root = hash_leaves([entries[index]])[0], tree.root(size)
                result = outcome(lambda: check_inclusion(leaf, index, size, proof, root))  # noqa: B023
                inclusion.append({"index": index, "size": size, "proof": hexes(proof), "outcome": result})
        for old in sorted({0, 1, size // 2, size}):
            good = tree.prove_consistency(old, size)
            for proof in (good, [*good, bytes(32)], good[1:]):
                roots = tree.root(old), tree.root(size)
                result = outcome(lambda: check_consistency(old, roots[0], size, roots[1], proof))  # noqa: B023
                consistency.append({"old": old, "new": size, "proof": hexes(proof), "outcome": result})
    return {
        "why": "RFC 6962 hashes, and proofs that are right, too long, too short and reordered (specs/tree.md)",
        "entries": hexes(entries),
        "roots": [tree.root(size).hex() for size in range(len(entries) + 1)],
        "inclusion": inclusion,
        "consistency": consistency,
    }


def tiles_vectors() -> Vectors:
    paths = [
        TilePath(0, 0),
        TilePath(0, 1234067),
        TilePath("entries", 1234, 5),
        TilePath(1, 999, 255),
        TilePath(7, 0, 127),
        TilePath(0, 2**55 - 1, 255),
    ]
    refused = ["tile/0/0", "tile/0/x000/001", "tile/00/000", "tile/0/000.p/256", "tile/0/000.p/0", "tile/8/000.p/1"]
    bundles = [("0001610000" + "00026263", 3), ("0001610000" + "00026263", 2), ("000161", 2), ("000261", 1), ("", 1)]
    return {
        "why": "paths, the files of a tree in reading order, and entry bundles (specs/tiles.md)",
        "paths": [{"level": p.level, "index": p.index, "width": p.width, "path": str(p)} for p in paths],
        "refused_paths": [
            {"path": path, "outcome": outcome(lambda: parse_tile_path(path))}  # noqa: B023
            for path in refused
        ],
        "trees": [
            {
                "size": size,
                "tiles": [str(path) for path in tiles_for(size)],
                "reading_order": [str(path) for path in resources(0, size)],
            }
            for size in (0, 1, 256, 257, 1000)
        ],
        "bundles": [
            {"bundle": data, "width": width, "outcome": outcome(lambda: parse_bundle(bytes.fromhex(data), width))}  # noqa: B023
            for data, width in bundles
        ],
    }


def notes_vectors() -> Vectors:
    text, name = "a text\n\nof several lines\n", "example.org/signer"
    key = NoteKey(name, ED25519, signing_key(name).public)
    line = sign_note(text, name, signing_key(name))
    bad = NoteSignature(name, key.hash, bytes(64)).line()
    unknown = NoteSignature("example.org/unknown", key.hash, b"x").line()
    notes = {
        "signed": f"{text}\n{line}",
        "signed twice": f"{text}\n{line}{line}",
        "with an unknown signer": f"{text}\n{unknown}{line}",
        "with another key of the name": f"{text}\n{NoteSignature(name, key.hash ^ 1, b'x').line()}{line}",
        "only an unknown signer": f"{text}\n{unknown}",
        "with a bad signature beside the good": f"{text}\n{line}{bad}",
        "other text": f"{text.replace('several', 'Several')}\n{line}",
        "no blank line": f"a text\n{line}",
        "no signature": f"{text}\n",
        "no last newline": f"{text}\n{line[:-1]}",
        "carriage return": f"{text}\n{line}".replace("\n", "\r\n"),
        "NUL": f"{text}\0\n{line}",
        "name with a plus sign": f"{text}\n{line}— a+b AAAAAAA=\n",
        "name with a no-break space": f"{text}\n{line}— a\u00a0b AAAAAAA=\n",
        "padding bits": f"{text}\n{line}— name AAAAAAB=\n",
        "no signature bytes": f"{text}\n{line}— name AAAAAA==\n",
        "64 signatures": f"{text}\n{line}{unknown * 63}",
        "65 signatures": f"{text}\n{line}{unknown * 64}",
    }
    return {
        "why": "C2SP signed notes: the one form, unknown signers ignored, bad known ones fatal (specs/notes.md)",
        "seed": hashlib.sha256(b"pacekeeper test key " + name.encode()).hexdigest(),
        "vkey": format_vkey(key),
        "notes": [
            {"name": title, "note": note, "outcome": outcome(lambda: open_note(note.encode(), [key]))}  # noqa: B023
            for title, note in notes.items()
        ],
    }


def checkpoints_vectors() -> Vectors:
    log_line = sign_checkpoint(CHECKPOINT, ORIGIN, signing_key(ORIGIN)).decode()
    first, second = WITNESSES[0][1], WITNESSES[1][1]
    zero = signing_key(second).sign(cosigned_message(format_checkpoint(CHECKPOINT), 0))
    timeless = NoteSignature(second, POLICY.witnesses[1][1].hash, bytes(8) + zero).line()
    bigger = Checkpoint(ORIGIN, 4, CHECKPOINT.root)
    notes = {
        "a quorum": NOTE,
        "one cosignature": log_line + cosignature(first, CHECKPOINT, TIME_S),
        "one cosigner twice": log_line + "".join(cosignature(first, CHECKPOINT, TIME_S + at) for at in range(2)),
        "no signature of the log": NOTE.replace(log_line.rpartition("— ")[2], "example.org/x AAAAAAA=\n"),
        "cosignature of another size": NOTE + cosignature(second, bigger, TIME_S),
        "cosignature of time 0": log_line + cosignature(first, CHECKPOINT, TIME_S) + timeless,
        "another origin": cosigned(Checkpoint("example.org/other", 3, CHECKPOINT.root)),
        "size with a leading zero": NOTE.replace("\n3\n", "\n03\n"),
        "empty extension line": NOTE.replace("\n3\n", "\n3\n\n"),
        "extension line": cosigned(Checkpoint(ORIGIN, 3, CHECKPOINT.root, ("anything",))),
    }
    return {
        "why": "checkpoints and Ed25519 cosignatures under a quorum of two (specs/notes.md)",
        "origin": ORIGIN,
        "log_vkey": format_vkey(LOG_KEY),
        "witness_vkeys": [format_vkey(key) for _, key in POLICY.witnesses],
        "quorum": POLICY.quorum,
        "text": format_checkpoint(CHECKPOINT),
        "cosigned_message": cosigned_message(format_checkpoint(CHECKPOINT), TIME_S).decode(),
        "notes": [
            {"name": title, "note": note, "outcome": outcome(lambda: check_checkpoint(note.encode(), POLICY))}  # noqa: B023
            for title, note in notes.items()
        ],
    }


def receipts_vectors() -> Vectors:
    good = format_receipt(RECEIPT).decode()
    cases = {
        "entry 1 of 3": (good, ENTRIES[1]),
        "with extra data": (good.replace("index", "extra AAAA\nindex"), ENTRIES[1]),
        "of another entry": (good, ENTRIES[0]),
        "another index": (good.replace("index 1", "index 0"), ENTRIES[1]),
        "index with a leading zero": (good.replace("index 1", "index 01"), ENTRIES[1]),
        "empty extra data": (good.replace("index", "extra \nindex"), ENTRIES[1]),
        "a hash too many": (good.replace("\n\n", "\n" + "A" * 43 + "=\n\n", 1), ENTRIES[1]),
        "64 hashes": (good.replace("\n\n", "\n" + ("A" * 43 + "=\n") * 62 + "\n", 1), ENTRIES[1]),
        "another version": (good.replace("@v1", "@v2"), ENTRIES[1]),
        "without quorum": (good[: good.rindex("— ")], ENTRIES[1]),
    }
    return {
        "why": "C2SP tlog-proof receipts under the keys of checkpoints.json (specs/receipts.md)",
        "receipts": [
            {
                "name": title,
                "entry": entry.hex(),
                "receipt": text,
                "outcome": outcome(lambda: check_receipt(parse_receipt(text.encode()), entry, POLICY)),  # noqa: B023
            }
            for title, (text, entry) in cases.items()
        ],
    }


def hexes(values: list[bytes]) -> list[str]:
    return [value.hex() for value in values]


MAKERS: dict[str, Callable[[], Vectors]] = {
    "tree": tree_vectors,
    "tiles": tiles_vectors,
    "notes": notes_vectors,
    "checkpoints": checkpoints_vectors,
    "receipts": receipts_vectors,
}


@pytest.mark.parametrize("name", MAKERS)
def test_vectors_have_not_drifted(name: str) -> None:
    text = json.dumps(MAKERS[name](), indent=1, ensure_ascii=True) + "\n"
    file = VECTORS / f"{name}.json"
    if os.environ.get("PACEKEEPER_WRITE_VECTORS") == "1":
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


def test_vectors_hold_refusals_and_successes() -> None:
    """Vectors that all say "ok", or all refuse, would show nothing."""
    for name, part in (("tree", "inclusion"), ("tree", "consistency"), ("tiles", "bundles"), ("notes", "notes")):
        outcomes = [case["outcome"] for case in MAKERS[name]()[part]]
        assert 0 < outcomes.count("ok") < len(outcomes)
    expected = {
        "a quorum": "ok",
        "one cosignature": "no-quorum",
        "one cosigner twice": "no-quorum",
        "no signature of the log": "bad-signature",
        "cosignature of another size": "bad-signature",
        "cosignature of time 0": "bad-signature",
        "another origin": "bad-checkpoint",
        "size with a leading zero": "bad-checkpoint",
        "empty extension line": "bad-checkpoint",
        "extension line": "ok",
    }
    assert {case["name"]: case["outcome"] for case in checkpoints_vectors()["notes"]} == expected
    receipts = {case["name"]: case["outcome"] for case in receipts_vectors()["receipts"]}
    assert [name for name, result in receipts.items() if result == "ok"] == ["entry 1 of 3", "with extra data"]
    assert receipts["without quorum"] == "no-quorum"
    assert receipts["64 hashes"] == "too-large"


def example(document: str, kind: str) -> str:
    """Return the fenced example of that kind in specs/<document>.md."""
    text = (ROOT / "specs" / f"{document}.md").read_text(encoding="utf-8")
    return text.partition(f"```{kind}\n")[2].partition("```")[0]


def test_the_examples_in_the_specs_are_true() -> None:
    """SPEC note-13, SPEC note-21, SPEC receipt-3: the documents' bytes check under the documents' keys."""
    assert example("notes", "checkpoint") == NOTE
    keys = [parse_vkey(line) for line in example("notes", "vkeys").splitlines()]
    policy = CosignaturePolicy(ORIGIN, keys[0], (("norland", keys[1]), ("sudria", keys[2])), 2)
    receipt = parse_receipt(example("receipts", "receipt").encode())
    checked = check_receipt(receipt, b"second", policy)
    assert checked.checkpoint == parse_checkpoint(NOTE.partition("\n\n")[0] + "\n")
    assert checked.cosigners == {"norland": TIME_S, "sudria": TIME_S + 1}
