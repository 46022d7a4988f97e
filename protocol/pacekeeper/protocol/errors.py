"""Refusals: what the protocol says about bytes that it does not accept.

A refusal is the peer's fault, and expected. It carries a stable code, for machines, and a sentence, for people. The
caller's own mistakes raise ValueError; our bugs raise AssertionError. specs/errors.md is generated from this file.
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Stable refusal codes. The string never changes its meaning; new ones are added at the end of a group."""

    # bytes
    MALFORMED = "malformed"  # not parseable as the message it should be
    NOT_CANONICAL = "not-canonical"  # parseable, but not in the one accepted encoding
    TOO_LARGE = "too-large"  # over a limit of specs/limits.md
    # envelope and keys
    UNKNOWN_PAYLOAD_TYPE = "unknown-payload-type"  # no statement of this rules version has that payload type
    BAD_KEY = "bad-key"  # public key non-canonical, small-order or outside the prime-order group
    BAD_SIGNATURE = "bad-signature"  # a signature does not verify
    UNKNOWN_SIGNER = "unknown-signer"  # key id is not in the agreement
    WRONG_ROLE = "wrong-role"  # the key is known, but may not sign this statement
    MISSING_SIGNATURE = "missing-signature"  # a required signature is absent
    KEY_RETIRED = "key-retired"  # the key was the signer's, until another took its place
    KEY_USED = "key-used"  # a new key that somebody has or had already
    # statements in general
    WRONG_AGREEMENT = "wrong-agreement"  # names another agreement's fingerprint
    BAD_FIELD = "bad-field"  # a field is outside what its definition allows
    DUPLICATE = "duplicate"  # this statement is on the log already
    # documents
    BAD_DOCUMENT = "bad-document"  # an agreement that does not compile; the sentence names the line
    # tree, notes, checkpoints, proofs
    BAD_NOTE = "bad-note"  # not a signed note
    BAD_CHECKPOINT = "bad-checkpoint"  # not a checkpoint, or of another origin
    BAD_PROOF = "bad-proof"  # a Merkle proof does not verify
    BAD_TILE = "bad-tile"  # a tile or bundle has the wrong size or content
    NO_QUORUM = "no-quorum"  # fewer valid cosignatures than the agreement asks for
    BAD_POLICY = "bad-policy"  # a policy file that does not parse; the sentence names the line
    ROLLED_BACK = "rolled-back"  # a checkpoint over fewer entries than one cosigned before
    WRONG_ROOT = "wrong-root"  # a checkpoint whose root is not that of the entries it covers
    BAD_TRANSITION = "bad-transition"  # the verifiers changed and no checkpoint shows both quorums, or shows no change
    # replay
    TIME_RUNS_BACK = "time-runs-back"  # log time before that of the entry before
    NOT_FIRST = "not-first"  # an Agreement anywhere but at index 0, or another statement there
    UNKNOWN_LAB = "unknown-lab"  # the agreement has no such lab
    UNKNOWN_RUN = "unknown-run"  # the lab has declared no such run
    UNKNOWN_PARENT = "unknown-parent"  # a parent is not a checkpoint record's index
    RUN_EXISTS = "run-exists"  # the lab has declared that run before
    SEQUENCE_TAKEN = "sequence-taken"  # the lab has signed another statement with that sequence number
    SEQUENCE_SKIPPED = "sequence-skipped"  # sequence numbers go up by one
    BROKEN_LINK = "broken-link"  # previous is not the identity of the statement before
    PERIOD_TAKEN = "period-taken"  # the period is attested already; a Correction mends it
    PERIOD_SKIPPED = "period-skipped"  # an earlier period has neither attestation nor gap
    PERIOD_NOT_OVER = "period-not-over"  # the period has not ended yet at log time
    PERIOD_CLOSED = "period-closed"  # the period takes no checkpoint record any more
    NOT_OWED = "not-owed"  # a period that began after the lab had left the agreement
    DOES_NOT_ADD_UP = "does-not-add-up"  # chip-time by category is not the capacity of the pools
    MARGIN_TOO_WIDE = "margin-too-wide"  # wider than the agreement allows for the method
    BAD_AS_OF = "bad-as-of"  # tree size in the future, or before that of the statement before
    BAD_TICK = "bad-tick"  # a tick that names another index than its own
    BAD_CORRECTION = "bad-correction"  # corrects what is not the period's account in force
    BAD_EVIDENCE = "bad-evidence"  # a finding whose evidence does not show what it says
    CHECKPOINT_REGRESSES = "checkpoint-regresses"  # a run's checkpoint record below an earlier one or below its account
    # commitments
    BAD_COMMITMENT = "bad-commitment"  # its document does not compile for this agreement; the sentence names the line
    COMMITMENT_EXISTS = "commitment-exists"  # another commitment has that id already
    UNKNOWN_COMMITMENT = "unknown-commitment"  # none with that id was proposed
    ABSENT_TRANSITION = "absent-transition"  # nothing leads from the commitment's phase by that event
    UNKNOWN_PARTICIPANT = "unknown-participant"  # neither a party nor a lab of the agreement, or no longer
    NOT_IN_SCOPE = "not-in-scope"  # the commitment is not open to that participant
    PLEDGE_EXISTS = "pledge-exists"  # the participant has pledged, and its pledge stands
    PLEDGE_TOO_LATE = "pledge-too-late"  # the commitment has failed or ended
    BAD_CONDITION = "bad-condition"  # a pledge's condition on somebody who may not pledge, or that can never be met
    CONDITION_NOT_MET = "condition-not-met"  # a late joiner's condition does not hold of those bound now
    NOT_CLEAN = "not-clean"  # fewer periods without violation than the entry rule asks for
    NOT_PLEDGED = "not-pledged"  # no pledge of that participant stands
    NOTICE_GIVEN = "notice-given"  # the participant's notice of withdrawal is running
    WITHDRAWAL_BARRED = "withdrawal-barred"  # the commitment does not allow it at this time, or ever
    REASON_MISSING = "reason-missing"  # a withdrawal that the commitment wants reasons for
    NOT_BOUND = "not-bound"  # only who is bound can lift or extend
    VOTE_EXISTS = "vote-exists"  # the participant has spoken for this already
    NOT_LIFTABLE = "not-liftable"  # nobody can lift or extend it, or not before its minimum term
    WRONG_ROUND = "wrong-round"  # names another pledge than the one that stands, or another round than the present one
    BAD_REPORT = "bad-report"  # an indicator's report that does not follow the reporter's last one
    BAD_EPOCH = "bad-epoch"  # a key's epoch is not the one after the present key's
    REPLACEMENT_PENDING = "replacement-pending"  # the parties are replacing the key that would be rotated
    # services
    OVERLOADED = "overloaded"  # shed; try again later
    NOT_WITNESSED = "not-witnessed"  # sequenced, but no quorum in time; the statement stays on the log
    HALTED = "halted"  # the log does not sequence at present; the sentence says why
    CLOCK_DISAGREES = "clock-disagrees"  # a clock is outside the agreement's tolerance
    WRONG_IDENTITY = "wrong-identity"  # the TLS identity is not the one that this call needs
    NOT_FOUND = "not-found"  # no such thing
    UNSAFE_STATE = "unsafe-state"  # local state is missing, damaged or behind; nothing is signed
    INVENTORY_EXCEEDED = "inventory-exceeded"  # jobs occupy more accelerators than the lab declared
    WRONG_NETWORK_PIN = "wrong-network-pin"  # a server's TLS key is not the one pinned in the agreement


class Refused(Exception):
    """Bytes or a request that the protocol refuses.

    code: stable, see Code. message: one sentence for a person, without trailing full stop; it may quote hostile text
    and is escaped where it is shown.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[Refused], tuple[Code, str]]:
        return (Refused, (self.code, self.message))
