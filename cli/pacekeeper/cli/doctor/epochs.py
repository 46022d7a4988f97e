"""Which key is in force, by the log: a configured key may have been rotated or replaced since the founding."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from pacekeeper.audit.verify import audit
from pacekeeper.cli.commitments.acting import read_head
from pacekeeper.cli.commitments.caller import connect
from pacekeeper.cli.console import Sentence
from pacekeeper.cli.doctor.check import Check, fail, ok, warn
from pacekeeper.cli.doctor.subject import Subject
from pacekeeper.client.errors import ConfigError, TemporaryFailure
from pacekeeper.client.fetch import CHECKPOINT, DirectorySource
from pacekeeper.client.keyfiles import load_key
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.keys import key_id
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.replay.key_life import RULES_WITH_SUCCESSORS, present

READ_S: Final = 30.0  # for reading the log; some 100,000 entries
_NAMES: Final = {"lab": "key", "verifier": "statement_key", "log": "statement_key"}  # which others can follow


def may_be_followed(subject: Subject, name: str) -> bool:
    """Whether a key of a configuration may rightly be another than the one that the agreement names."""
    bundle = subject.bundle
    rules = 1 if bundle is None else bundle.agreement.rules_version
    return rules >= RULES_WITH_SUCCESSORS and _NAMES.get(subject.role) == name


def check_epochs(subject: Subject) -> Iterator[Check]:
    """Compare the key with the one that the log has in force.

    SPEC cli-24: a key that is retired, or not the one in force, MUST be found out, with its number and the entry.
    """
    name = _NAMES.get(subject.role)
    if name is None or not may_be_followed(subject, name):
        return
    try:
        state = _own_state(subject) if subject.role == "log" else _log_state(subject)
    except (TemporaryFailure, TimeoutError, Refused, ConfigError, Sentence) as problem:
        why = problem.message if isinstance(problem, TemporaryFailure | Refused | Sentence) else str(problem)
        said = why or f"the log is too long to be read in {READ_S:.0f} s"
        yield warn("key_in_force", f"which key is in force was not found out: {said}", "mend what is said above first")
        return
    yield judge_key(subject, name, state)


def _log_state(subject: Subject) -> State:
    """The state at the log's head, read over the role's own connection."""
    return asyncio.run(asyncio.wait_for(read_head(connect(subject)), READ_S))


def _own_state(subject: Subject) -> State:
    """A log's state, from its own public files, verified as an audit does."""
    assert subject.bundle is not None
    public = subject.state / "public"
    if not (public / CHECKPOINT).exists():
        raise ConfigError(f"{public} has no checkpoint yet")
    result = audit(DirectorySource(public), subject.bundle.agreement.fingerprint)
    if result.state is None or result.faults:
        raise ConfigError(f"{public} does not verify: {result.faults[0].message}")
    return result.state


def judge_key(subject: Subject, name: str, state: State) -> Check:
    """Say how a role's key files stand to the key in force."""
    holding = present(state, subject.role, subject.holder)
    if holding is None:
        sentence = f"the log has no {subject.role} {subject.holder} any more"
        return fail("key_in_force", sentence, "nothing that it signs is taken", unsafe=True)
    path, following = subject.keys[name], subject.next_keys.get(name)
    found = {}
    for place in (path, following):
        try:
            if place is not None and place.exists():
                found[place] = load_key(place).public
        except Refused:
            continue  # said where the files are looked at
    number = f"number {holding.epoch}"
    if found.get(path) == holding.key:
        return ok("key_in_force", f"{path} is the key in force, {number}")
    if following is not None and found.get(following) == holding.key:
        sentence = f"the key in force, {number}, is {following}, and {path} is retired"
        advice = f"`pacekeeper {subject.role} rotate-key {subject.config_path}` puts the files in order"
        return warn("key_in_force", sentence, advice)
    retired = state.retired.get(key_id(found[path])) if path in found else None
    if retired is None:
        sentence = f"no key file holds the key in force, {number}"
    else:
        how = "the parties replaced" if retired.replaced else "its holder rotated"
        sentence = f"{path} is key {retired.epoch}, which {how} with entry {retired.index}; in force is {number}"
    where = following or path
    return fail(
        "key_in_force", sentence, f"put the key in force at {where}, or have the parties replace it", unsafe=True
    )
