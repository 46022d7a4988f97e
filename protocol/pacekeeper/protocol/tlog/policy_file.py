"""Policy files: whose signatures make a checkpoint valid, as text that other tools read too (C2SP tlog-policy).

    log example.org/pacekeeper+f6ea3373+AUD1...
    witness norland norland.example/verifier+0a52afbe+BLMk...
    witness sudria sudria.example/verifier+ad72f540+BDbG...
    group verifiers 2 norland sudria
    quorum verifiers

A checkpoint is valid if one of the logs has signed it and the quorum's group has witnessed it: enough of its members,
each a witness that has cosigned, or a group again. Names mean nothing outside of the file and are opaque bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.note import parse_note, verify_signatures
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, ED25519, ML_DSA_44, NoteKey, format_vkey, parse_vkey

MAX_BYTES: Final = 1_048_576  # ML-DSA-44 keys are long
MAX_LINES: Final = 4_096
NONE: Final = b"none"
_ALLOWED: Final = re.compile(rb"[\t\n\x20-\x7e\x80-\xff]*")
_NUMBER: Final = re.compile(rb"[1-9][0-9]{0,5}")


@dataclass(frozen=True)
class Group:
    """At least `least` of the members, names of witnesses and groups, must have witnessed."""

    least: int
    members: tuple[bytes, ...]


@dataclass(frozen=True)
class PolicyFile:
    """Keys of the logs; keys of the witnesses by name; groups by name; and the name that must have witnessed."""

    logs: tuple[NoteKey, ...]
    witnesses: Mapping[bytes, NoteKey]
    groups: Mapping[bytes, Group]
    quorum: bytes

    def is_met(self, cosigned: Iterable[bytes]) -> bool:
        """Whether the quorum has witnessed what these witnesses have cosigned.

        SPEC policy-5: a group MUST count as a witness exactly if enough of its members have witnessed.
        """
        witnessed = set(cosigned)
        for name, group in self.groups.items():  # each refers to those before it only
            if sum(member in witnessed for member in group.members) >= group.least:
                witnessed.add(name)
        return self.quorum == NONE or self.quorum in witnessed


@dataclass
class _Draft:
    logs: list[NoteKey] = field(default_factory=list)
    witnesses: dict[bytes, NoteKey] = field(default_factory=dict)
    groups: dict[bytes, Group] = field(default_factory=dict)
    members: set[bytes] = field(default_factory=set)
    quorum: bytes = b""


def parse_policy(data: bytes) -> PolicyFile:
    """Read a policy file; Refused(bad-policy) naming the line, or too-large.

    SPEC policy-1: a file MUST have exactly one quorum line, and names MUST be defined once, before they are used.
    """
    if len(data) > MAX_BYTES:
        raise Refused(Code.TOO_LARGE, f"a policy of {len(data)} bytes, at most {MAX_BYTES}")
    # SPEC policy-2: control characters but tab and newline MUST be refused; what is not ASCII is opaque.
    if not _ALLOWED.fullmatch(data):
        raise Refused(Code.BAD_POLICY, "a policy has no control characters but tab and newline")
    lines = data.split(b"\n")
    if lines.pop() != b"":
        raise Refused(Code.BAD_POLICY, "a policy's last line ends in a newline")
    if len(lines) > MAX_LINES:
        raise Refused(Code.TOO_LARGE, f"a policy of {len(lines)} lines, at most {MAX_LINES}")
    draft = _Draft()
    for number, line in enumerate(lines, start=1):
        words = re.split(rb"[ \t]+", line.strip(b" \t"))
        if words == [b""] or words[0].startswith(b"#"):
            continue
        try:
            _read_line(draft, words)
        except ValueError as error:
            raise Refused(Code.BAD_POLICY, f"line {number}: {error}") from None
    if not draft.quorum:
        raise Refused(Code.BAD_POLICY, "a policy has a quorum line")
    return PolicyFile(tuple(draft.logs), draft.witnesses, draft.groups, draft.quorum)


def _read_line(draft: _Draft, words: list[bytes]) -> None:
    match words:
        case [b"log", vkey, *url] if len(url) <= 1:
            draft.logs.append(_key(vkey, {ED25519}, draft.logs))
        case [b"witness", name, vkey, *url] if len(url) <= 1:
            _check_new(draft, name)
            draft.witnesses[name] = _key(vkey, {COSIGNATURE_V1, ML_DSA_44}, draft.witnesses.values())
        case [b"group", name, least, *members] if members:
            _check_new(draft, name)
            draft.groups[name] = _group(draft, least, members)
        case [b"quorum", name]:
            if draft.quorum:
                raise ValueError("a second quorum line")
            if name != NONE:
                _check_known(draft, name)
            draft.quorum = name
        case _:
            raise ValueError("not a log, witness, group or quorum line")


def _key(text: bytes, algorithms: set[int], others: Iterable[NoteKey]) -> NoteKey:
    try:
        key = parse_vkey(text.decode())
    except UnicodeDecodeError:
        raise ValueError("a key that is not UTF-8") from None
    except Refused as refused:
        raise ValueError(refused.message) from None
    if key.algorithm not in algorithms:
        raise ValueError(f"a key of algorithm {key.algorithm} cannot be used there")
    # SPEC policy-3: one public key MUST NOT stand for two logs or two witnesses, whatever its names.
    if any(key.public_key == other.public_key for other in others):
        raise ValueError("the public key is there twice")
    return key


def _group(draft: _Draft, least: bytes, members: list[bytes]) -> Group:
    for member in members:
        _check_known(draft, member)
        # SPEC policy-4: a name MUST be a member at most once in the whole file.
        if member in draft.members:
            raise ValueError("a name is a member for the second time")
        draft.members.add(member)
    if least in {b"all", b"any"}:
        count = len(members) if least == b"all" else 1
    elif _NUMBER.fullmatch(least) and int(least) <= len(members):
        count = int(least)
    else:
        raise ValueError('a group needs "all", "any", or a number from 1 to that of its members')
    return Group(count, tuple(members))


def _check_new(draft: _Draft, name: bytes) -> None:
    if name == NONE or name in draft.witnesses or name in draft.groups:
        raise ValueError("the name is taken")


def _check_known(draft: _Draft, name: bytes) -> None:
    if name not in draft.witnesses and name not in draft.groups:
        raise ValueError("a name that no line above defines")


def format_policy(policy: CosignaturePolicy, log_url: str = "") -> bytes:
    """Write an agreement's quorum as a policy file. ValueError if a party signs with two keys: see policy-6.

    SPEC policy-6: an exported policy MUST be met by exactly the sets of parties that meet the agreement's quorum.
    """
    parties = [party for party, _ in policy.witnesses]
    if len(set(parties)) != len(parties):
        raise ValueError("a party with two cosigning keys cannot be written as one witness")
    url = f" {log_url}" if log_url else ""
    lines = [f"log {format_vkey(policy.log_key)}{url}"]
    lines += [f"witness {party} {format_vkey(key)}" for party, key in policy.witnesses]
    group = "verifiers"
    while group in parties:
        group += "-"
    lines += [f"group {group} {policy.quorum} {' '.join(parties)}", f"quorum {group}"]
    return ("\n".join(lines) + "\n").encode()


def check_under(note_bytes: bytes, policy: PolicyFile) -> tuple[Checkpoint, tuple[bytes, ...]]:
    """Return a checkpoint that is valid under a policy, and the names of the witnesses that cosigned it.

    Refused: bad-note, bad-checkpoint, bad-signature (not of a listed log, or a known key's does not verify), no-quorum.
    """
    note = parse_note(note_bytes)
    checkpoint = parse_checkpoint(note.text)
    signed = {key for key, _ in verify_signatures(note, (*policy.logs, *policy.witnesses.values()))}
    # SPEC policy-7: a log's key name MUST be the checkpoint's origin.
    if not any(key in signed and key.name == checkpoint.origin for key in policy.logs):
        raise Refused(Code.BAD_SIGNATURE, "no log of the policy has signed it under its origin")
    cosigned = tuple([name for name, key in policy.witnesses.items() if key in signed])
    if not policy.is_met(cosigned):
        raise Refused(Code.NO_QUORUM, f"{len(cosigned)} witnesses have cosigned, which is no quorum of the policy")
    return checkpoint, cosigned
