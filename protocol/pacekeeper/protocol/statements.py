"""Statements: which payload type is which message, who signs it, and what its fields may hold.

Shape only: what a statement may say given the log before it is decided by the replay. A statement that passes here has
every field within its definition, so that the replay need not look twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, cast

from google.protobuf.message import Message

from pacekeeper.protocol import limits
from pacekeeper.protocol.canonical import parse_canonical
from pacekeeper.protocol.commitments.statements import CHECKS as COMMITMENT_CHECKS
from pacekeeper.protocol.envelope import PAYLOAD_TYPE_PREFIX, Signed, Signer, sign_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import is_plain
from pacekeeper.protocol.units import PPM
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

# As plain integers: enumeration members are looked up anew at every use.
_LAST_METHOD: Final = int(pb.METHOD_CHIP_TIME)
_LAST_CATEGORY: Final = int(pb.CATEGORY_UNACCOUNTED)
_TRAINING: Final = int(pb.CATEGORY_TRAINING)
_new: Final = tuple.__new__  # a NamedTuple's own constructor costs twice as much
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_CODE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")


@lru_cache(maxsize=16_384)
def is_id(text: str) -> bool:
    """Whether text may name a party, lab, run or cap: lower-case letters, digits and hyphens, at most 64."""
    return _ID.match(text) is not None


def payload_type(message_class: type[Message]) -> str:
    """Return the payload type of a statement class."""
    return PAYLOAD_TYPE_PREFIX + message_class.DESCRIPTOR.name


def seal(statement: Message, signers: Iterable[Signer]) -> envelope_pb2.Envelope:
    """Serialize a statement in canonical form and sign it."""
    return sign_envelope(payload_type(type(statement)), statement.SerializeToString(deterministic=True), signers)


def parse_statement(envelope: envelope_pb2.Envelope | Signed) -> Message:
    """Parse an envelope's payload as the statement that its type names, and check its shape.

    Raises Refused: unknown-payload-type, not-canonical, too-large, bad-field and what the statement's shape forbids.
    """
    return read_statement(envelope.payload_type, envelope.payload)[0]


class LinkReading(NamedTuple):
    """A link, each field read once."""

    sequence: int
    previous: bytes
    as_of: int


class Reading(NamedTuple):
    """What the shape check of an account has gathered on its way, so that the replay need not read it twice.

    figures: (run, amount and margin of the estimate that counts). margins: the widest of every method in it.
    chip-milliseconds: used in all categories, in training, in training by the figures; chips: of all pools. splits:
    where figures are split, in milliseconds from the period's start; parts: the part that each figure is about, both
    empty when the account is whole.
    """

    period: int
    figures: list[tuple[str, int, int]]
    margins: dict[int, int]
    used_ms: int
    training_ms: int
    figures_ms: int
    chips: int
    splits: tuple[int, ...]
    parts: list[int]


class RecordReading(NamedTuple):
    """The same for a checkpoint record: amount and margin of the estimate that counts, the widest of every method."""

    amount: int
    margin_ppm: int
    margins: dict[int, int]


def read_statement(kind: str, payload: bytes) -> tuple[Message, object]:
    """As parse_statement, and what the shape check has read of it, for the one who applies it; None for most.

    SPEC statements-1: a payload MUST be the canonical encoding of the message that its payload type names.
    """
    known = _STATEMENTS.get(kind)
    if known is None:
        raise Refused(Code.UNKNOWN_PAYLOAD_TYPE, f'no statement has payload type "{kind}"')
    message_class, check = known
    statement = parse_canonical(message_class, payload)
    if statement is None:
        raise Refused(Code.NOT_CANONICAL, f"{message_class.DESCRIPTOR.name} is not in canonical form")
    return statement, check(statement, len(payload))


def _bad(sentence: str) -> Refused:
    return Refused(Code.BAD_FIELD, sentence)


def _check_agreement_name(fingerprint: bytes) -> None:
    # SPEC statements-13: every statement but the agreement itself MUST name its agreement by 32 bytes.
    if len(fingerprint) != 32:
        raise _bad("agreement is named by the 32 bytes of its fingerprint")


def _check_id(text: str, what: str) -> None:
    # SPEC statements-2: an id MUST be 1 to 64 lower-case letters, digits and hyphens, not beginning with a hyphen.
    if not is_id(text):
        raise _bad(f"{what} is not an id of lower-case letters, digits and hyphens")


def _check_text(text: str, what: str) -> None:
    # SPEC statements-3: free text MUST be at most 400 characters without control, format or unassigned characters.
    if text and not is_plain(text, limits.MAX_TEXT_CHARS):
        raise _bad(f"{what} has characters that cannot be shown, or is over {limits.MAX_TEXT_CHARS} characters")


def _check_agreement(statement: pb.Agreement, _size: int) -> None:
    if not statement.document:
        raise _bad("document is empty")
    if len(statement.document) > limits.MAX_DOCUMENT_BYTES:
        raise Refused(Code.TOO_LARGE, f"document of over {limits.MAX_DOCUMENT_BYTES} bytes")


def _check_tick(statement: pb.Tick, _size: int) -> None:
    _check_agreement_name(statement.agreement)


def _check_declaration(statement: pb.RunDeclaration, _size: int) -> None:
    _check_agreement_name(statement.agreement)
    _check_id(statement.lab, "lab")
    _check_id(statement.run, "run")
    _check_text(statement.title, "title")
    if statement.initial_state not in (
        pb.INITIAL_STATE_FRESH,
        pb.INITIAL_STATE_CHECKPOINT,
        pb.INITIAL_STATE_UNSTATED,
    ):
        raise _bad("initial state is unspecified or unknown")
    unstated = statement.initial_state == pb.INITIAL_STATE_UNSTATED
    # SPEC statements-4: the initial digest MUST have 32 bytes, and MUST be absent exactly when the state is unstated.
    if len(statement.initial_digest) != (0 if unstated else 32):
        raise _bad("initial digest has 32 bytes, or is absent when the initial state is unstated")
    # SPEC statements-14: parents MUST ascend, be at most 64, and be absent from a fresh run.
    if len(statement.parents) > limits.MAX_PARENTS:
        raise Refused(Code.TOO_LARGE, f"over {limits.MAX_PARENTS} parents")
    _check_ascending(statement.parents, "parents")
    if statement.parents and statement.initial_state == pb.INITIAL_STATE_FRESH:
        raise _bad("a fresh run has no parents")


def _check_ascending(values: Sequence[int], what: str) -> None:
    last = -1
    for value in values:
        if value <= last:
            raise _bad(f"{what} are not in ascending order")
        last = value


def _read_link(link: pb.Link) -> LinkReading:
    # SPEC statements-5: a chain statement MUST have sequence 1 and no previous, or a higher one and 32 bytes of it.
    sequence, previous = link.sequence, link.previous
    if sequence == 0 or len(previous) != (0 if sequence == 1 else 32):
        raise _bad("sequence counts from 1, and previous has 32 bytes from sequence 2 on")
    return _new(LinkReading, (sequence, previous, link.as_of))


def read_estimates(estimates: Sequence[pb.Estimate], margins: dict[int, int]) -> tuple[int, int]:
    """Refuse estimates that are absent, too many, out of order, of an unknown method or wider than themselves.

    Widens margins, the widest of each method, by theirs, and returns (amount, margin) of the one that counts.
    SPEC compute-2: caps MUST be checked against the framework count where there is one, else against chip-time.
    """
    last = amount = counting_ppm = 0
    for estimate in estimates[:]:
        method = estimate.method
        margin_ppm = estimate.margin_ppm
        # SPEC statements-6: estimates MUST ascend by method, at least one and at most four, margins at most 100 %.
        if not last < method <= _LAST_METHOD:
            raise _bad("estimates are not in ascending order of known methods")
        if margin_ppm > PPM:
            raise _bad("a margin is over 100 %")
        if last == 0:
            amount = estimate.amount
            counting_ppm = margin_ppm
        last = method
        if margin_ppm > margins.get(method, -1):
            margins[method] = margin_ppm
    if last == 0:
        raise _bad("a figure has no estimate")
    return amount, counting_ppm


def read_account(account: pb.PeriodAccount, size: int) -> Reading:
    """Check the shape of a period's account, in a statement of size bytes. Raises Refused(bad-field, too-large)."""
    # SPEC statements-7: a statement with an account MUST be at most 32,000 bytes.
    if size > limits.MAX_ATTESTATION_BYTES:
        raise Refused(Code.TOO_LARGE, f"an account of {size} bytes, at most {limits.MAX_ATTESTATION_BYTES}")
    figures: list[tuple[str, int, int]] = []
    margins: dict[int, int] = {}
    figures_ms = used_ms = training_ms = chips = 0
    splits = _read_splits(account)
    parts: list[int] = []
    last = ""
    # Slices, since they are lists: iterating over a field itself costs an exception at its end.
    for figure in account.figures[:]:
        run, part = figure.run, figure.part
        # SPEC statements-8: figures MUST ascend by run and part, categories by number, pools by model, each once.
        if run <= last and not (run == last and parts and part > parts[-1]):
            raise _bad("figures are not in ascending order of run and part")
        if splits:
            parts.append(part)
        if part > len(splits):
            raise _bad("a figure is about a part of the period that the account does not have")
        if not is_id(run):
            raise _bad("run is not an id of lower-case letters, digits and hyphens")
        last = run
        figures.append((run, *read_estimates(figure.estimates, margins)))
        figures_ms += figure.chip_ms
    category = 0
    for use in account.time[:]:
        following = use.category
        if not category < following <= _LAST_CATEGORY:
            raise _bad("chip-time is not in ascending order of known categories")
        category = following
        spent = use.chip_ms
        used_ms += spent
        if category == _TRAINING:
            training_ms = spent
    pools = account.pools[:]
    model = ""
    for pool in pools:
        following_model = pool.model
        if following_model <= model:
            raise _bad("pools are not in ascending order of model")
        model = following_model
        if not is_id(model):
            raise _bad("accelerator model is not an id of lower-case letters, digits and hyphens")
        chips += pool.count
    if len(figures) > limits.MAX_FIGURES or len(pools) > limits.MAX_POOLS:
        raise Refused(Code.TOO_LARGE, "too many figures or pools in one account")
    return _new(Reading, (account.period, figures, margins, used_ms, training_ms, figures_ms, chips, splits, parts))


def _read_splits(account: pb.PeriodAccount) -> tuple[int, ...]:
    splits = account.splits_ms
    if not splits:
        return ()
    # SPEC statements-17: splits MUST ascend from above zero, be at most 64, and lie inside the period.
    if len(splits) > limits.MAX_SPLITS:
        raise Refused(Code.TOO_LARGE, f"over {limits.MAX_SPLITS} splits")
    _check_ascending([0, *splits], "splits")
    return tuple(splits)


def _read_account_of(statement: pb.ComputeAttestation | pb.Correction, size: int) -> Reading:
    # SPEC statements-12: an attestation or correction MUST have an account, if only an empty one.
    if not statement.HasField("account"):
        raise _bad("account is absent")
    return read_account(statement.account, size)


def _check_attestation(statement: pb.ComputeAttestation, size: int) -> tuple[LinkReading, Reading]:
    _check_agreement_name(statement.agreement)
    _check_id(statement.lab, "lab")
    return _read_link(statement.link), _read_account_of(statement, size)


def _check_gap(statement: pb.Gap, _size: int) -> LinkReading:
    _check_agreement_name(statement.agreement)
    _check_id(statement.lab, "lab")
    link = _read_link(statement.link)
    _check_text(statement.note, "note")
    # SPEC statements-15: hashes MUST have 32 bytes, choices MUST be made, and documents and codes MUST be there.
    if statement.reason not in (pb.GAP_REASON_LATE, pb.GAP_REASON_UNACCOUNTED):
        raise _bad("reason is unspecified or unknown")
    # SPEC statements-9: a gap MUST cover 1 to 1,000 periods.
    if not 0 <= statement.last_period - statement.first_period < limits.MAX_GAP_PERIODS:
        raise _bad(f"a gap covers 1 to {limits.MAX_GAP_PERIODS} periods, first to last")
    return link


def _check_correction(statement: pb.Correction, size: int) -> tuple[LinkReading, Reading]:
    _check_agreement_name(statement.agreement)
    _check_id(statement.lab, "lab")
    link = _read_link(statement.link)
    _check_text(statement.note, "note")
    if len(statement.corrects) != 32:
        raise _bad("corrects has 32 bytes")
    return link, _read_account_of(statement, size)


def _check_record(statement: pb.CheckpointRecord, _size: int) -> RecordReading:
    _check_agreement_name(statement.agreement)
    _check_id(statement.lab, "lab")
    _check_id(statement.run, "run")
    if len(statement.digest) != 32:
        raise _bad("a checkpoint's digest has 32 bytes")
    margins: dict[int, int] = {}
    return RecordReading(*read_estimates(statement.estimates, margins), margins)


def _check_finding(statement: pb.Finding, _size: int) -> None:
    _check_agreement_name(statement.agreement)
    _check_id(statement.party, "party")
    _check_id(statement.subject, "subject")
    _check_text(statement.note, "note")
    if _CODE.match(statement.rule) is None:
        raise _bad("rule is not a code of lower-case letters, digits and hyphens")
    if not pb.SEVERITY_OBSERVATION <= statement.severity <= pb.SEVERITY_BREACH:
        raise _bad("severity is unspecified or unknown")
    # SPEC statements-10: a finding MUST carry evidence of a known kind.
    if statement.evidence.WhichOneof("kind") is None:
        raise Refused(Code.BAD_EVIDENCE, "a finding without evidence")


_Check = Callable[[Message, int], object]


def _entry(message_class: type[Message], check: object) -> tuple[str, tuple[type[Message], _Check]]:
    return payload_type(message_class), (message_class, cast(_Check, check))


_STATEMENTS: Final[dict[str, tuple[type[Message], _Check]]] = dict(
    (
        _entry(pb.Agreement, _check_agreement),
        _entry(pb.Tick, _check_tick),
        _entry(pb.RunDeclaration, _check_declaration),
        _entry(pb.ComputeAttestation, _check_attestation),
        _entry(pb.Gap, _check_gap),
        _entry(pb.Correction, _check_correction),
        _entry(pb.CheckpointRecord, _check_record),
        _entry(pb.Finding, _check_finding),
        *(_entry(message_class, check) for message_class, check in COMMITMENT_CHECKS.items()),
    )
)
STATEMENTS: Final[dict[str, type[Message]]] = {kind: known[0] for kind, known in _STATEMENTS.items()}
