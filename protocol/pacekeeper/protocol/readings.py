"""Readings: the shape of an account, a link and estimates, checked, with what was read kept for the replay.

Nearly all entries are attestations, and reading a field of a message costs more than anything done with it. So each is
read once, here, on the way of the shape check.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.units import PPM
from pacekeeper.v1 import statements_pb2 as pb

_LAST_METHOD: Final = int(pb.METHOD_CHIP_TIME)  # as plain integers: enumeration members are looked up at every use
_LAST_CATEGORY: Final = int(pb.CATEGORY_UNACCOUNTED)
_TRAINING: Final = int(pb.CATEGORY_TRAINING)
_new: Final = tuple.__new__  # a NamedTuple's own constructor costs twice as much
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")


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


class AttestationReading(NamedTuple):
    """An attestation, each field read once: whose it is, its place in the chain, and the account."""

    lab: str
    link: LinkReading
    account: Reading


class RecordReading(NamedTuple):
    """The same for a checkpoint record: amount and margin of the estimate that counts, the widest of every method."""

    amount: int
    margin_ppm: int
    margins: dict[int, int]


@lru_cache(maxsize=16_384)
def is_id(text: str) -> bool:
    """Whether text may name a party, lab, run or cap: lower-case letters, digits and hyphens, at most 64."""
    return _ID.match(text) is not None


def check_ascending(values: Sequence[int], what: str) -> None:
    last = -1
    for value in values:
        if value <= last:
            raise bad_field(f"{what} are not in ascending order")
        last = value


def read_link(link: pb.Link) -> LinkReading:
    # SPEC statements-5: a chain statement MUST have sequence 1 and no previous, or a higher one and 32 bytes of it.
    sequence, previous = link.sequence, link.previous
    if sequence == 0 or len(previous) != (0 if sequence == 1 else 32):
        raise bad_field("sequence counts from 1, and previous has 32 bytes from sequence 2 on")
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
            raise bad_field("estimates are not in ascending order of known methods")
        if margin_ppm > PPM:
            raise bad_field("a margin is over 100 %")
        if last == 0:
            amount = estimate.amount
            counting_ppm = margin_ppm
        last = method
        if margin_ppm > margins.get(method, -1):
            margins[method] = margin_ppm
    if last == 0:
        raise bad_field("a figure has no estimate")
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
            raise bad_field("figures are not in ascending order of run and part")
        if splits:
            parts.append(part)
        if part > len(splits):
            raise bad_field("a figure is about a part of the period that the account does not have")
        if not is_id(run):
            raise bad_field("run is not an id of lower-case letters, digits and hyphens")
        last = run
        figures.append((run, *read_estimates(figure.estimates, margins)))
        figures_ms += figure.chip_ms
    category = 0
    for use in account.time[:]:
        following = use.category
        if not category < following <= _LAST_CATEGORY:
            raise bad_field("chip-time is not in ascending order of known categories")
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
            raise bad_field("pools are not in ascending order of model")
        model = following_model
        if not is_id(model):
            raise bad_field("accelerator model is not an id of lower-case letters, digits and hyphens")
        chips += pool.count
    if len(figures) > limits.MAX_FIGURES or len(pools) > limits.MAX_POOLS:
        raise Refused(Code.TOO_LARGE, "too many figures or pools in one account")
    return _new(Reading, (account.period, figures, margins, used_ms, training_ms, figures_ms, chips, splits, parts))


def _read_splits(account: pb.PeriodAccount) -> tuple[int, ...]:
    splits = account.splits_ms
    if not splits:
        return ()
    # SPEC statements-19: splits MUST ascend from above zero, be at most 64, and lie inside the period.
    if len(splits) > limits.MAX_SPLITS:
        raise Refused(Code.TOO_LARGE, f"over {limits.MAX_SPLITS} splits")
    check_ascending([0, *splits], "splits")
    return tuple(splits)


def bad_field(sentence: str) -> Refused:
    """A field outside its definition."""
    return Refused(Code.BAD_FIELD, sentence)
