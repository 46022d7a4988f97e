"""Random histories with acts in them: admission and replay are one decision, and a slow model finds the same facts."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from membership_world import MembershipWorld, new_lab, newcomer
from wire import messages

from pacekeeper.protocol.envelope import encode_entry, read_envelope
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.replay import Applied, State, ViolationKind, Void, admit, apply
from pacekeeper.protocol.statements import STATEMENTS, seal
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

CAPS: list[dict[str, Any]] = [
    {"id": "run", "kind": "run", "limit": "2e12 FLOP"},
    {"id": "lab", "kind": "lab", "limit": "1e12 FLOP", "window": "2 periods"},
    {"id": "party", "kind": "party", "limit": "1.2e12 FLOP", "window": "3 periods", "subjects": ["norland", "sudland"]},
]
PARTIES = ("norland", "sudland", "westmere", "eastholm", "highmark")
LABS = ("borealis", "meridian", "zephyr", "aurora")
Step: TypeAlias = tuple[str, int, int, int]


def fresh(state: State) -> State:
    return copy.deepcopy(state, {id(state.agreement): state.agreement})


def act_of(world: MembershipWorld, number: int) -> bytes:
    """One of a few acts that get in each other's way."""
    ident = f"act-{number}-{world.state.size}"
    if number < 3:
        return world.exit(PARTIES[number + 1], ident, ((3, 1), (2, 0), (2, 0))[number])
    if number < 5:
        party = newcomer("highmark")
        return world.accession(ident, [party], [new_lab("zephyr", "highmark")], ((4, 1), (3, 1))[number - 3])
    if number == 5:
        return world.accession(ident, labs=[new_lab("aurora", PARTIES[world.state.size % 4])])
    if number == 6:
        return world.amendment(ident, margins={"framework-count": f"{1 + world.state.size % 5} %"})
    if number == 7:
        return world.amendment(ident, quorum={"quorum": 3 + world.state.size % 2, "liars": world.state.size % 2})
    limits = {"limit": f"{1 + world.state.size % 9}e11 FLOP"}
    chosen = [{**cap, **limits} for place, cap in enumerate(CAPS) if (number + world.state.size) % 3 != place]
    return world.amendment(ident, cap=chosen)


def statement_of(world: MembershipWorld, step: Step) -> tuple[Any, str]:
    """A statement, and who signs it."""
    kind, who, number, _ = step
    party, lab = PARTIES[who % len(PARTIES)], LABS[who % len(LABS)]
    common: dict[str, Any] = {"agreement": world.agreement.fingerprint}
    if kind == "propose":
        return pb.Commitment(**common, proposer=party, document=act_of(world, number)), party
    if kind == "pledge":
        open_ones = [one for one in world.state.commitments.standings().values() if not one.over]
        if open_ones:
            terms = open_ones[-1 - number % min(2, len(open_ones))].terms
            return pb.Pledge(**common, participant=party, commitment=terms.id, digest=terms.digest), party
    state = world.state.labs.get(lab) or world.state.labs["borealis"]
    if kind == "declare":
        return world.declaration(state.id, f"run-{number % 3}"), state.id
    link = pb.Link(sequence=state.sequence + 1, previous=state.head, as_of=max(state.as_of, world.state.size - number))
    figures = dict.fromkeys(list(state.runs)[: number % 3], 60 * number)
    account = world.account(state.next_period, figures, 12_000 * (number % 4))
    if kind == "correct" and state.accounts:
        period = sorted(state.accounts)[number % len(state.accounts)]
        account = world.account(period, figures)
        corrects = state.accounts[period].id
        return pb.Correction(**common, lab=state.id, link=link, account=account, corrects=corrects), state.id
    if kind == "gap":
        period = state.next_period
        return pb.Gap(
            **common, lab=state.id, link=link, first_period=period, last_period=period, reason=pb.GAP_REASON_LATE
        ), state.id
    return pb.ComputeAttestation(**common, lab=state.id, link=link, account=account), state.id


def moves(world: MembershipWorld, step: Step) -> Iterator[envelope_pb2.Envelope]:
    """What a step puts before the log: a statement, or an act that a quorum agrees on at once."""
    _, who, number, _ = step
    if step[0] != "agree":
        statement, signer = statement_of(world, step)
        yield world.seal(statement, world.keys.lab(signer) if signer in LABS else world.keys.party(signer))
        return
    agreement = world.state.agreement
    parties = [party.id for party in agreement.parties]
    parties = (parties[who % len(parties) :] + parties)[: agreement.quorum.quorum]
    proposal = pb.Commitment(agreement=agreement.fingerprint, proposer=parties[0], document=act_of(world, number))
    yield world.seal(proposal, world.keys.party(parties[0]))
    for party in parties:
        [*_, standing] = [None, *world.state.commitments.standings().values()]
        if standing is not None:
            name, digest = standing.terms.id, standing.terms.digest
            pledge = pb.Pledge(agreement=agreement.fingerprint, participant=party, commitment=name, digest=digest)
            yield world.seal(pledge, world.keys.party(party))


KINDS = ["agree", "agree", "agree", "propose", "pledge", "attest", "attest", "attest", "declare", "gap", "correct"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 19),
        st.integers(0, 8),
        st.sampled_from([0, 0, 1, 1_000, 11_000, 30_000, 100_000]),
    ),
    min_size=6,
    max_size=50,
)


def ticked(world: MembershipWorld, at: int) -> None:
    while world.needs_tick(at):
        tick = world.sealed_tick()
        tick_ms = min(at, world.state.last_time_ms + world.agreement.timing.tick_ms)
        admit(world.state, read_envelope(tick), tick_ms)
        world.entries.append(encode_entry(tick_ms, tick))


def decide(world: MembershipWorld, envelope: envelope_pb2.Envelope, at: int) -> None:
    """Have the log decide, and see that a replay decides the same."""
    before = world.state.describe()
    void = apply(fresh(world.state), encode_entry(at, envelope))
    if isinstance(void, Applied):
        admit(world.state, read_envelope(envelope), at)
        world.entries.append(encode_entry(at, envelope))
        return
    with pytest.raises(Refused) as caught:
        admit(world.state, read_envelope(envelope), at)
    assert (void.code, void.message) == (caught.value.code, caught.value.message)
    assert world.state.describe() == before


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_acts_are_one_decision_of_log_and_replay(steps: list[Step]) -> None:
    """SPEC replay-11, SPEC replay-12, SPEC commitments-50: and every agreement in force could have been founded."""
    world = MembershipWorld(caps=CAPS)
    for step in steps:
        at = world.state.last_time_ms + step[3]
        ticked(world, at)
        for envelope in moves(world, step):
            decide(world, envelope, at)
        agreement = world.state.agreement
        q, n, f = agreement.quorum.quorum, len(agreement.parties), agreement.quorum.liars
        assert agreement.quorum.verifiers == n
        assert 2 * q - n > f
        assert q <= n - f
        assert {lab.party for lab in agreement.labs} <= {party.id for party in agreement.parties}
        assert {authority.owner for authority in world.state.keyring.values() if authority.role == "party"} == {
            party.id for party in agreement.parties
        }
    event(f"{len(world.state.acts)} acts done")
    again = world.replayed()
    assert again.void_count == 0
    assert again.digest() == world.state.digest()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_statement_of_who_has_left_is_applied_or_void(data: st.DataObject) -> None:
    """SPEC replay-2, SPEC commitments-49: every field at its extremes, under keys that are or were somebody's."""
    world = MembershipWorld()
    world.perform(world.exit("sudland", quorum=(2, 0)), world.start(1))
    message_class = STATEMENTS[data.draw(st.sampled_from(sorted(STATEMENTS)))]
    statement: Any = data.draw(messages(message_class.DESCRIPTOR))
    names = message_class.DESCRIPTOR.fields_by_name
    if "agreement" in names:
        statement.agreement = world.agreement.fingerprint
    for name, value in (("lab", "meridian"), ("party", "sudland"), ("participant", "meridian")):
        if name in names and data.draw(st.integers(0, 3)):
            setattr(statement, name, value)
    keys = [world.keys.lab("meridian"), world.keys.party("sudland"), world.keys.verifier_statement("sudland")]
    at = world.state.last_time_ms + data.draw(st.sampled_from([0, 1, 100_000, 400_000, 2**40]))
    state = fresh(world.state)
    outcome = apply(state, encode_entry(at, seal(statement, [data.draw(st.sampled_from(keys))])))
    assert isinstance(outcome, Applied | Void)
    assert state.size == world.state.size + 1


class SlowCap(NamedTuple):
    """A cap as the model sees it: limits by the first period that they count for, and the periods that it counts."""

    ident: str
    window: int
    first: int
    last: int
    limits: tuple[tuple[int, int], ...]


def expected_violations(amounts: list[int], caps: list[SlowCap]) -> set[tuple[str, int, int]]:
    """For each cap and stretch of windows over it: the cap, the stretch's first period, and the limit of that time."""
    found = set()
    for cap in caps:
        before = False
        for end in range(cap.first, min(cap.last, len(amounts) - 1) + 1):
            [*_, limit] = (limit for since, limit in cap.limits if since <= end)
            over = sum(amounts[max(cap.first, end - cap.window + 1) : end + 1]) > limit
            if over and not before:
                found.add((cap.ident, end, limit))
            before = over
    return found


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from([0, 30, 60, 90]), min_size=4, max_size=9),
    st.dictionaries(st.integers(0, 6), st.tuples(st.sampled_from([50, 100, 150]), st.integers(1, 3)), max_size=4),
)
def test_a_slow_model_of_amended_caps_finds_the_same(amounts: list[int], changes: dict[int, tuple[int, int]]) -> None:
    """SPEC commitments-51, SPEC commitments-52, SPEC commitments-53: an amendment in the middle of some periods."""
    first: dict[str, Any] = {"id": "cap-0", "kind": "lab", "limit": "1e11 FLOP", "window": "2 periods"}
    world = MembershipWorld(caps=[first], labs=[1, 0, 0, 0])
    world.declare("borealis", "run-1", at=world.start(0))
    caps = [SlowCap("cap-0", 2, 0, 10**6, ((0, 100),))]
    for period, amount in enumerate(amounts):
        if period in changes:
            (limit, window), now = changes[period], caps[-1]
            if window == now.window:
                caps[-1] = now._replace(limits=(*now.limits, (period + 1, limit)))
            else:
                caps[-1] = now._replace(last=period)
                caps.append(SlowCap(f"cap-{len(caps)}", window, period + 1, 10**6, ((period + 1, limit),)))
            cap = {**first, "id": caps[-1].ident, "limit": f"{limit}e9 FLOP", "window": f"{window} periods"}
            world.perform(world.amendment(f"change-{period}", cap=[cap]), world.start(period) + 20_000)
        world.to(world.end(period))
        assert isinstance(world.attest("borealis", period, {"run-1": amount}), Applied)
    assert {(v.cap, v.period, v.limit) for v in world.state.violations} == expected_violations(amounts, caps)
    assert all(v.kind is ViolationKind.LAB_CAP for v in world.state.violations)
    world.proved()


def test_the_model_of_a_cap_finds_something() -> None:
    cap = SlowCap("one", 2, 0, 9, ((0, 100), (2, 50)))
    assert expected_violations([90, 90, 0, 0, 60], [cap]) == {("one", 1, 100), ("one", 4, 50)}
    assert expected_violations([90, 90, 60], [cap._replace(last=0), SlowCap("two", 1, 1, 9, ((1, 80),))]) == {
        ("two", 1, 80)
    }
