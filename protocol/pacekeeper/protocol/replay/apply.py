"""The fold: one entry after the other, each applied or void.

`apply` is total: any bytes give Applied or Void, and Void has no effect but its record (and that time went on). `admit`
is the same decision for an entry that is not on the log yet: it raises Refused and then nothing has changed. Each
statement's function checks first and changes after, so that a refusal cannot leave half an effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from google.protobuf.message import Message

from pacekeeper.protocol import keys
from pacekeeper.protocol.documents.agreement import compile_agreement
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.envelope import Signed, identity, pae, read_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.readings import AttestationReading
from pacekeeper.protocol.replay import chain, commitments, declarations, key_life
from pacekeeper.protocol.replay.deadlines import advance
from pacekeeper.protocol.replay.facts import Violation
from pacekeeper.protocol.replay.state import FindingEntry, State, Verify
from pacekeeper.protocol.statements import STATEMENTS, parse_statement, read_statement
from pacekeeper.v1 import statements_pb2 as pb


@dataclass(slots=True)
class Applied:
    """An entry that took effect.

    index, id: its leaf index and its statement's identity. violations: those that it brought out. slot: the lab and the
    sequence number that it takes in the lab's chain; None if it is not part of one.
    """

    index: int
    id: bytes
    signed: Signed
    violations: list[Violation]
    slot: tuple[str, int] | None

    @property
    def statement(self) -> Message:
        """The statement. It is parsed anew at each look, without a check since it was admitted: most never look."""
        return STATEMENTS[self.signed.payload_type].FromString(self.signed.payload)


@dataclass(slots=True)
class Void:
    """An entry without effect: its leaf index, and why."""

    index: int
    code: Code
    message: str
    violations: list[Violation]


def genesis(entry_bytes: bytes, *, verify: Verify = keys.verify) -> State:
    """Build the state from entry 0, the founding agreement. Raises Refused when it is not one.

    SPEC replay-1: entry 0 MUST be an Agreement that compiles, signed by the party key of every party and nobody else.
    """
    founded_ms, signed = read_entry(entry_bytes)
    statement = parse_statement(signed)
    if not isinstance(statement, pb.Agreement):
        raise Refused(Code.NOT_FIRST, "entry 0 is not an agreement")
    try:
        agreement = compile_agreement(statement.document)
    except DocumentError as error:
        raise Refused(Code.BAD_DOCUMENT, str(error)) from None
    state = State(agreement, founded_ms)
    present = {key_id for key_id, _ in signed.signatures}
    wanted = {keys.key_id(party.key): party for party in agreement.parties}
    for key_id, party in wanted.items():
        if key_id not in present:
            raise Refused(Code.MISSING_SIGNATURE, f"party {party.id} has not signed the agreement")
    for key_id, signature in signed.signatures:
        signer = wanted.get(key_id)
        if signer is None:
            raise Refused(Code.UNKNOWN_SIGNER, "the agreement is signed by a key that is not a party's")
        if not verify(signer.key, signed.message, signature):
            raise Refused(Code.BAD_SIGNATURE, f"signature of party {signer.id} does not verify")
    state.size = 1
    return state


def apply(state: State, entry_bytes: bytes, *, verify: Verify = keys.verify) -> Applied | Void:
    """Apply the next entry of the log to the state. Total: bytes that are refused become Void, and nothing is raised.

    SPEC replay-2: a refused entry MUST be recorded as void with its code and have no other effect than its time.
    """
    try:
        time_ms, signed = read_entry(entry_bytes)
    except Refused as refusal:
        return _void(state, refusal, [])
    return apply_read(state, time_ms, signed, verify=verify)


def apply_read(state: State, time_ms: int, signed: Signed, *, verify: Verify = keys.verify) -> Applied | Void:
    """As apply, for one who has read the entry (envelope.read_entry) already: its log time, and what was signed."""
    found: list[Violation] = []
    try:
        if time_ms < state.last_time_ms:
            raise Refused(Code.TIME_RUNS_BACK, "log time is before that of the entry before")
        advance(state, time_ms, state.size, found)
        outcome = _apply_statement(state, signed, verify, found)
    except Refused as refusal:
        return _void(state, refusal, found)
    if found:
        state.convict(found)
    state.size += 1
    return outcome


def _void(state: State, refusal: Refused, found: list[Violation]) -> Void:
    index = state.size
    state.record_void(index, refusal.code, refusal.message)
    state.convict(found)
    state.size += 1
    return Void(index, refusal.code, refusal.message, found)


def admit(state: State, signed: Signed, sequenced_at_ms: int, *, verify: Verify = keys.verify) -> Applied:
    """Apply what a parsed envelope holds as the next entry, or raise Refused with the state untouched.

    SPEC replay-11: what is admitted MUST be what apply would apply, and a refusal MUST have no effect.
    SPEC replay-13: a statement that was applied MUST be refused when it comes again.
    Legal only while no deadline is due at sequenced_at_ms and the log is not silent: a Tick comes first otherwise,
    since deadlines are facts of the log and not of a submission (ValueError).
    """
    due = state.next_deadline_ms()
    is_tick = signed.payload_type == _TICK
    if not is_tick and (
        (due is not None and due <= sequenced_at_ms)
        or sequenced_at_ms - state.last_time_ms > state.agreement.timing.tick_ms
    ):
        raise ValueError("a tick must be sequenced first")
    if sequenced_at_ms < state.last_time_ms:
        raise ValueError("log time cannot run back")
    found: list[Violation] = []
    if is_tick:
        # All that a tick can be refused for comes before the deadlines that it lets fall due.
        tick = parse_statement(signed)
        _authorise(state, signed, tick, verify)
        _check_tick(state, cast(pb.Tick, tick))
        advance(state, sequenced_at_ms, state.size, found)
    before = state.last_time_ms
    # Statements read the entry's time as the state's; it is put back if the statement is refused.
    state.last_time_ms = sequenced_at_ms
    try:
        outcome = _apply_statement(state, signed, verify, found)
    except Refused:
        state.last_time_ms = before
        raise
    state.convict(found)
    state.size += 1
    return outcome


def _apply_statement(state: State, signed: Signed, verify: Verify, found: list[Violation]) -> Applied:
    if signed.payload_type == _ATTESTATION:
        said = _read_alike(state, signed)
        if said is not None:
            _check_signer(state, signed, _ATTESTED, said.lab, verify)
            chain.apply_attestation(state, None, signed.id, found, said)
            return Applied(state.size, signed.id, signed, found, (said.lab, said.link.sequence))
    statement, reading = read_statement(signed.payload_type, signed.payload)
    effect = _authorise(state, signed, statement, verify)
    effect(state, statement, signed.id, found, reading)
    if isinstance(reading, AttestationReading):
        state.labs[reading.lab].learn(signed.payload, reading)
    slot = (statement.lab, statement.link.sequence) if isinstance(statement, chain.CHAINED) else None
    return Applied(state.size, signed.id, signed, found, slot)


def _read_alike(state: State, signed: Signed) -> AttestationReading | None:
    """Read an attestation by the layout of an earlier one of the lab that has this key; None if that does not fit.

    One that fits names its agreement and its lab as the earlier one did.
    """
    authority = state.keyring.get(signed.signatures[0][0])
    lab = state.labs.get(authority.owner) if authority is not None else None
    layout = lab.layouts.get(len(signed.payload)) if lab is not None else None
    if layout is None or layout.agreement != state.agreement.fingerprint:
        return None
    return layout.read(signed.payload)


def _authorise(state: State, signed: Signed, statement: Message, verify: Verify) -> Effect:
    """Check who signed; return what the statement does.

    SPEC replay-6: a statement MUST name this agreement and be signed once, by the key of whom it speaks for.
    """
    rule = _RULES[state.agreement.rules_version].get(type(statement))
    if rule is None:
        if isinstance(statement, pb.Agreement):
            raise Refused(Code.NOT_FIRST, "an agreement founds a log and cannot follow another entry")
        version = state.agreement.rules_version
        raise Refused(Code.UNKNOWN_PAYLOAD_TYPE, f"rules version {version} has no {statement.DESCRIPTOR.name}")
    if statement.agreement != state.agreement.fingerprint:  # type: ignore[attr-defined]
        raise Refused(Code.WRONG_AGREEMENT, "the statement names another agreement")
    if isinstance(statement, pb.KeyRotation):
        key_life.authorise_rotation(state, signed, statement, verify)
        return rule.effect
    owner = getattr(statement, rule.owner_field) if rule.owner_field else rule.role
    _check_signer(state, signed, rule, owner, verify)
    return rule.effect


def _check_signer(state: State, signed: Signed, rule: Rule, owner: str, verify: Verify) -> None:
    signatures = signed.signatures
    key_id, signature = signatures[0]
    authority = state.keyring.get(key_id) or key_life.outgoing(state, key_id)
    if authority is None:
        raise key_life.not_in_force(state, key_id)
    if len(signatures) != 1:
        raise Refused(Code.WRONG_ROLE, "this statement takes exactly one signature")
    if authority.owner != owner or (
        authority.role != rule.role and authority.role not in _SPEAK_FOR.get(rule.role, ())
    ):
        if rule.role == "lab" and owner not in state.labs:
            raise Refused(Code.UNKNOWN_LAB, f'the agreement has no lab "{owner}"')
        raise Refused(Code.WRONG_ROLE, f'the key of {authority.role} "{authority.owner}" may not sign this')
    if not verify(authority.public_key, signed.message, signature):
        raise Refused(Code.BAD_SIGNATURE, f'signature of {authority.role} "{authority.owner}" does not verify')


def _check_tick(state: State, statement: pb.Tick) -> None:
    # SPEC replay-7: a tick MUST name its own leaf index.
    if statement.index != state.size:
        raise Refused(Code.BAD_TICK, f"a tick at index {state.size} names index {statement.index}")


def _apply_tick(state: State, statement: pb.Tick, _id: bytes, _found: list[Violation], _reading: None) -> None:
    _check_tick(state, statement)
    state.ticks += 1


def _apply_finding(state: State, statement: pb.Finding, _id: bytes, _found: list[Violation], _reading: None) -> None:
    # SPEC replay-8: a finding MUST NOT be repeated by its party, nor speak of a tree that is not there yet.
    if statement.as_of > state.size:
        raise Refused(Code.BAD_AS_OF, "a finding about a tree that is not there yet")
    key = identity(
        pae(f"{statement.party} {statement.rule} {statement.subject}", statement.evidence.SerializeToString())
    )
    if key in state.finding_keys:
        raise Refused(Code.DUPLICATE, "this party has published that finding")
    state.finding_keys.add(key)
    state.findings.append(FindingEntry(state.size, statement))


_TICK: Final = "application/vnd.pacekeeper.v1.Tick"
_ATTESTATION: Final = "application/vnd.pacekeeper.v1.ComputeAttestation"

Effect = Callable[..., None]


_SPEAK_FOR: Final[dict[str, tuple[str, ...]]] = {"participant": ("party", "lab"), "reporter": ("verifier", "lab")}


class Rule(NamedTuple):
    """Who signs a statement, and what it does.

    role: the key's, or "participant" for a party's or lab's, "reporter" for a verifier's or lab's, "holder" for that of
    whoever rotates a key (key_life). owner_field names
    whom it speaks for; "" where the role has one key.
    """

    role: str
    owner_field: str
    effect: Effect


_ATTESTED: Final = Rule("lab", "lab", chain.apply_attestation)

_RULES_1: Final[dict[type[Message], Rule]] = {
    pb.Tick: Rule("log", "", _apply_tick),
    pb.RunDeclaration: Rule("lab", "lab", declarations.apply_declaration),
    pb.ComputeAttestation: _ATTESTED,
    pb.Gap: Rule("lab", "lab", chain.apply_gap),
    pb.Correction: Rule("lab", "lab", chain.apply_correction),
    pb.CheckpointRecord: Rule("lab", "lab", declarations.apply_record),
    pb.Finding: Rule("verifier", "party", _apply_finding),
}

_RULES_2: Final[dict[type[Message], Rule]] = _RULES_1 | {
    pb.Commitment: Rule("participant", "proposer", commitments.apply_commitment),
    pb.Pledge: Rule("participant", "participant", commitments.apply_pledge),
    pb.Withdrawal: Rule("participant", "participant", commitments.apply_withdrawal),
    pb.Lift: Rule("participant", "participant", commitments.apply_lift),
    pb.IndicatorReport: Rule("reporter", "reporter", commitments.apply_report),
}

_RULES_3: Final[dict[type[Message], Rule]] = _RULES_2 | {
    pb.KeyRotation: Rule("holder", "holder", key_life.apply_rotation),  # of any role; two signatures
}

_RULES_4: Final[dict[type[Message], Rule]] = _RULES_3

# SPEC replay-9: an agreement's rules version MUST choose the rules of its replay. Old versions stay for ever.
_RULES: Final[dict[int, dict[type[Message], Rule]]] = {1: _RULES_1, 2: _RULES_2, 3: _RULES_3, 4: _RULES_4}
