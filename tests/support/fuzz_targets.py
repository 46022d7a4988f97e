"""Every parser that takes bytes from the network: how it is called, what it may raise, and bytes to begin from.

A parser returns or raises what it promises, whatever the bytes. Where there is one way to write a value, what was read
is written again and has to be the same bytes: nothing else may be signed, hashed or compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

from agreements import build_document, signing_key
from commitments import build_commitment
from published_log import PublishedLog
from world import World

from pacekeeper.protocol import fork_proof
from pacekeeper.protocol.documents.agreement import compile_agreement
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.documents.commitment_lint import lint_commitment
from pacekeeper.protocol.documents.lint import lint_agreement
from pacekeeper.protocol.envelope import encode, parse_entry, parse_envelope, read_entry, read_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import apply, genesis
from pacekeeper.protocol.statements import parse_statement
from pacekeeper.protocol.tlog import note, policy_file, receipt, tiles, vkey, witness
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.merkle import EMPTY_ROOT, HashTree, hash_leaves


@dataclass(frozen=True)
class Target:
    """call: hands bytes to the parser and checks what comes back. seeds: well-formed bytes to mutate."""

    call: Callable[[bytes], None]
    seeds: tuple[bytes, ...] = field(default=(b"",))


class Broken(AssertionError):
    """A parser has read bytes that are not what it would write."""


def _same(written: bytes, data: bytes) -> None:
    if written != data:
        raise Broken(f"{data!r} is read, and written as {written!r}")


def _text(data: bytes) -> str:
    """What a parser of text is given; bytes that are no text never get to one."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refused(Code.MALFORMED, "not UTF-8") from None


def _note(data: bytes) -> None:
    _same(note.format_note(note.parse_note(data)), data)


def _checkpoint(data: bytes) -> None:
    _same(format_checkpoint(parse_checkpoint(_text(data))).encode(), data)


def _receipt(data: bytes) -> None:
    _same(receipt.format_receipt(receipt.parse_receipt(data)), data)


def _vkey(data: bytes) -> None:
    _same(vkey.format_vkey(vkey.parse_vkey(_text(data))).encode(), data)


def _request(data: bytes) -> None:
    _same(witness.format_request(witness.parse_request(data)), data)


def _fork(data: bytes) -> None:
    fork_proof.check_fork_proof(fork_proof.parse_fork_proof(data))


def _bundle(data: bytes) -> None:
    width = data[0] or 256 if data else 1
    _same(tiles.encode_bundle(tiles.parse_bundle(data[1:], width)), data[1:])


def _tile(data: bytes) -> None:
    width = data[0] or 256 if data else 1
    _same(b"".join(tiles.parse_tile(data[1:], width)), data[1:])


def _path(data: bytes) -> None:
    _same(str(tiles.parse_tile_path(_text(data))).encode(), data)


def _entry(data: bytes) -> None:
    parse_statement(read_entry(data)[1])


def _envelope(data: bytes) -> None:
    envelope = parse_envelope(data)
    _same(encode(envelope), data)
    parse_statement(read_envelope(envelope))


def _agreement(data: bytes) -> None:
    lint_agreement(data)
    compile_agreement(data)


def _commitment(data: bytes) -> None:
    lint_commitment(data, _world().state.members)
    compile_commitment(data, _world().state.members)


def _replay(data: bytes) -> None:
    """The next entry of a log: the replay never raises."""
    state = genesis(_world().entries[0], verify=lambda *_: True)
    apply(state, data, verify=lambda *_: True)
    if state.size != 2:
        raise Broken("an entry that is not counted")


@cache
def _world() -> World:
    world = World(parties=4, labs=2)
    world.declare("borealis", "run-1", world.start(0) + 1_000)
    world.to(world.end(0))
    world.attest("borealis", 0, {"run-1": 100})
    return world


@cache
def targets() -> Mapping[str, Target]:
    """Every target by name."""
    world = _world()
    entries = tuple(world.entries)
    envelopes = tuple(encode(parse_entry(entry).envelope) for entry in entries)
    tree = HashTree(hash_leaves(entries))
    published = PublishedLog.__new__(PublishedLog)
    published.world, published.now_ms, published.parties = world, None, world.keys.party_ids
    signed = published.note(len(entries), tree.root())
    text = note.parse_note(signed).text
    earlier = published.note(1, tree.root(1), cosigners=())
    forked = published.note(len(entries), bytes(32), cosigners=())
    proof = fork_proof.ForkProof(world.document, published.note(len(entries), tree.root(), cosigners=()), forked)
    cosignature = sign_cosignature(text, "a.example/w", signing_key("a"), 1_800_000_000)
    shown = receipt.Receipt(1, tuple(tree.prove_inclusion(1)), signed, b"extra")
    asked = witness.AddCheckpoint(1, tuple(tree.prove_consistency(1, len(entries))), earlier)
    policy = world.agreement.policy()
    documents = (build_document()[0], world.document)
    pledged = tuple(build_commitment(kind, "one") for kind in ("pause", "slow-down", "growth"))
    return {
        "note": Target(_note, (signed, earlier)),
        "signature lines": Target(lambda data: void(note.parse_signatures(data)), (cosignature.encode(),)),
        "checkpoint": Target(_checkpoint, (text.encode(), format_checkpoint(Checkpoint("o", 0, EMPTY_ROOT)).encode())),
        "receipt": Target(_receipt, (receipt.format_receipt(shown),)),
        "verifier key": Target(_vkey, tuple(vkey.format_vkey(key).encode() for _, key in policy.witnesses)),
        "witness request": Target(_request, (witness.format_request(asked),)),
        "policy file": Target(
            lambda data: void(policy_file.parse_policy(data)),
            (policy_file.format_policy(policy, "https://log.example"),),
        ),
        "fork proof": Target(_fork, (fork_proof.format_fork_proof(proof),)),
        "bundle": Target(_bundle, (bytes([len(entries)]) + tiles.encode_bundle(entries),)),
        "tile": Target(_tile, (bytes([len(entries)]) + b"".join(hash_leaves(entries)),)),
        "tile path": Target(_path, (b"tile/0/x001/x234/067", b"tile/entries/000.p/7", b"tile/5/000")),
        "entry": Target(_entry, entries),
        "envelope": Target(_envelope, envelopes),
        "agreement": Target(_agreement, documents),
        "commitment": Target(_commitment, pledged),
        "replay": Target(_replay, entries[1:]),
    }


def void(_value: object) -> None:
    """For parsers whose value has no one way to be written."""


def attempt(target: Target, data: bytes) -> None:
    """Call a target; what its parser is allowed to raise is passed over, everything else is a defect."""
    try:
        target.call(data)
    except (Refused, DocumentError):
        return
    except ValueError:
        if target.call not in _MAY_RAISE_VALUE_ERROR:
            raise


_MAY_RAISE_VALUE_ERROR = (_vkey,)
