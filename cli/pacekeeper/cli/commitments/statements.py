"""The statements about commitments, built from the replayed log: what is signed names what stands there.

Each function returns build(state, who), for acting.act. A build refuses what needs no log to refuse: a commitment that
nobody proposed, a withdrawal of what was never pledged, another document than the one that was read.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from pacekeeper.cli.commitments.acting import Build
from pacekeeper.cli.commitments.drafting import read_document
from pacekeeper.client.errors import ConfigError
from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.commitments.wording import parse_condition
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.documents.commitment_model import KeyReplacements
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.limits import MAX_SCALE
from pacekeeper.protocol.replay import State
from pacekeeper.protocol.replay.key_life import present
from pacekeeper.protocol.units import UINT64_MAX, parse_time
from pacekeeper.v1 import statements_pb2 as pb

_DECIMAL: Final = re.compile(rf"([0-9]{{1,18}})(?:\.([0-9]{{1,{MAX_SCALE}}}))?")
CENSORED: Final = {"above": pb.CENSORING_ABOVE, "below": pb.CENSORING_BELOW}


def proposal(path: Path) -> Build:
    """A commitment is proposed; its document compiles for the members as the log has them."""
    document = read_document(path)

    def build(state: State, who: str) -> Message:
        try:
            terms = compile_commitment(document, state.members)
        except DocumentError as error:
            raise ConfigError(f"{path}: {error}") from None
        if isinstance(terms.act, KeyReplacements):
            _check_epochs(path, state, terms.act)
        return pb.Commitment(agreement=state.agreement.fingerprint, proposer=who, document=document)

    return build


def _check_epochs(path: Path, state: State, act: KeyReplacements) -> None:
    """Refuse what could not be performed as things stand: a key that is not the holder's next one."""
    for key in act.keys:
        holding = present(state, key.role, key.holder)
        if holding is not None and key.epoch != holding.epoch + 1:
            wanted = f"the next key of {key.role} {key.holder} is its number {holding.epoch + 1}, not {key.epoch}"
            raise ConfigError(f"{path}: {wanted}")


def commitment_id(path: Path) -> str:
    """The id in a document. ConfigError if it does not compile by itself."""
    try:
        return compile_commitment(read_document(path)).id
    except DocumentError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_alternatives(conditions: tuple[str, ...]) -> list[pb.Condition]:
    """Read each --if as an alternative. ConfigError names the option."""
    found = []
    for text in conditions:
        try:
            condition = parse_condition(text)
        except ValueError as error:
            raise ConfigError(f"--if: {error}") from None
        found.append(
            pb.Condition(
                parties=condition.parties,
                labs=condition.labs,
                named=sorted(condition.named),
                weight_ppm=condition.weight_ppm,
            )
        )
    return found


def pledge(commitment: str, conditions: tuple[str, ...], read: Path | None) -> Build:
    """A pledge to the document on the log; if a file is given, it must be that document.

    SPEC cli-18: a pledge MUST be to the document whose digest is on the log, and refused if another one was read.
    """
    alternatives = parse_alternatives(conditions)
    digest = None if read is None else hashlib.sha256(read_document(read)).digest()

    def build(state: State, who: str) -> Message:
        standing = state.commitments.standing(commitment)
        if digest not in (None, standing.terms.digest):
            sentence = (
                f'{read} is not the document of "{commitment}" on the log, which is {standing.terms.digest.hex()}'
            )
            raise Refused(Code.BAD_COMMITMENT, sentence)
        return pb.Pledge(
            agreement=state.agreement.fingerprint,
            participant=who,
            commitment=commitment,
            digest=standing.terms.digest,
            alternatives=alternatives,
            round=standing.rounds.get(who, 0),
        )

    return build


def withdrawal(commitment: str, reason: str) -> Build:
    """The pledge that stands is taken back, at once or after notice."""

    def build(state: State, who: str) -> Message:
        return pb.Withdrawal(
            agreement=state.agreement.fingerprint,
            participant=who,
            commitment=commitment,
            reason=reason,
            pledge_index=_pledge_of(state.commitments.standing(commitment), who),
        )

    return build


def vote(commitment: str, *, extend: bool) -> Build:
    """One word for lifting a commitment, or for extending its term."""

    def build(state: State, who: str) -> Message:
        standing = state.commitments.standing(commitment)
        return pb.Lift(
            agreement=state.agreement.fingerprint,
            participant=who,
            commitment=commitment,
            action=pb.LIFT_ACTION_EXTEND if extend else pb.LIFT_ACTION_LIFT,
            pledge_index=_pledge_of(standing, who),
            round=standing.extensions if extend else 0,
        )

    return build


def _pledge_of(standing: Standing, who: str) -> int:
    index = standing.pledged_at.get(who)
    if index is None:
        raise Refused(Code.NOT_PLEDGED, f'no pledge of "{who}" to "{standing.terms.id}" stands')
    return index


def parse_values(lower: str, central: str, upper: str) -> tuple[int, tuple[int, int, int]]:
    """Read three decimal numbers with as many places as the longest: "81.5" -> scale 1, 815. ConfigError otherwise."""
    found = [_DECIMAL.fullmatch(text) for text in (lower, central, upper)]
    if None in found:
        raise ConfigError(f"a value is a decimal number such as 81.5, with at most {MAX_SCALE} decimal places")
    parts = [(match[1], match[2] or "") for match in found if match is not None]
    scale = max(len(decimals) for _, decimals in parts)
    scaled = [int(whole + decimals.ljust(scale, "0")) for whole, decimals in parts]
    if max(scaled) > UINT64_MAX:
        raise ConfigError("a value is too large for its number of decimal places")
    return scale, (scaled[0], scaled[1], scaled[2])


def parse_until(text: str | None) -> int | None:
    """Read --until. ConfigError names the option."""
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise ConfigError(f"--until: {error}") from None


def digest_file(path: Path) -> bytes:
    """Return the SHA-256 of a file of any length. ConfigError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def report(
    indicator: str,
    *,
    unit: str,
    values: tuple[str, str, str] | None,
    censored: str | None,
    until_ms: int | None,
    method: str,
    evidence_digest: bytes,
) -> Build:
    """What was measured of an indicator until a time; by default that of the log's last entry."""
    scale, (lower, central, upper) = (0, (0, 0, 0)) if values is None else parse_values(*values)

    def build(state: State, who: str) -> Message:
        return pb.IndicatorReport(
            agreement=state.agreement.fingerprint,
            reporter=who,
            indicator=indicator,
            unit=unit,
            scale=scale,
            lower=lower,
            central=central,
            upper=upper,
            censoring=CENSORED[censored] if censored else pb.CENSORING_NONE,
            until_ms=state.last_time_ms if until_ms is None else until_ms,
            method=method,
            evidence_digest=evidence_digest,
        )

    return build
