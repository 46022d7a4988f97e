"""Growth limits and caps under whatever a log may hold: nothing stops the replay, and nobody is convicted unfairly."""

from __future__ import annotations

import hashlib
from typing import Any

from commitments import build_commitment
from covenant import Covenant
from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol.replay import Applied, ViolationKind
from pacekeeper.v1 import statements_pb2 as pb

GROWTH = {"window": "2 periods", "baseline": "3 periods", "growth": "10 %", "floor": "50e9 FLOP", "debt": "50 %"}
CAPS = [
    {"id": "limit", "kind": "lab", "limit": "200e9 FLOP", "window": "3 periods"},
    {"id": "together", "kind": "party", "limit": "300e9 FLOP", "window": "2 periods"},
    {"id": "run", "kind": "run", "limit": "900e9 FLOP"},
]
CAP_KINDS = {ViolationKind.LAB_CAP, ViolationKind.PARTY_CAP, ViolationKind.RUN_CAP}
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["attest", "attest", "attest", "gap", "fill", "correct", "lift", "leave", "pledge", "silence"]),
        st.integers(0, 400),
        st.sampled_from([0, 0, 50_000]),
        st.sampled_from(["growth", "caps"]),
        st.sampled_from(["norland", "sudland", "westmere", "borealis"]),
    ),
    min_size=5,
    max_size=40,
)


class Chaos(Covenant):
    """Both measures are proposed, and pledged to by two parties; what else happens is drawn."""

    def __init__(self) -> None:
        super().__init__({"fill_in": "400 s"})
        more: dict[str, Any] = {
            "entry": {"parties": 2, "pledges_by": "2030-01-01T00:00:00Z", "delay": "10 s", "notice": "10 s"},
            "withdrawal": {"notice": "30 s"},
            "breach": {"response": "release-others"},
        }
        texts = {
            "growth": build_commitment("growth", "growth", growth=GROWTH, **more),
            "caps": build_commitment("cap", "caps", cap=CAPS, **more),
        }
        self.digests = {name: hashlib.sha256(text).digest() for name, text in texts.items()}
        for name, text in texts.items():
            assert isinstance(self.propose(self.state.last_time_ms, document=text), Applied)
            for who in ("norland", "sudland"):
                self.act("pledge", name, who)
        self.period = 1

    def act(self, action: str, name: str, who: str) -> None:
        """Do it if it can be done; the log takes a refusal as it comes."""
        standing, now = self.state.commitments.standing(name), self.state.last_time_ms
        if action == "pledge":
            rounds = standing.rounds.get(who, 0)
            self.pledge(who, now, commitment=name, digest=self.digests[name], round=rounds)
        elif who in standing.pledged_at:
            about: dict[str, Any] = {"agreement": self.agreement.fingerprint, "participant": who, "commitment": name}
            about["pledge_index"] = standing.pledged_at[who]
            lift = pb.Lift(**about, action=pb.LIFT_ACTION_LIFT) if action == "lift" else pb.Withdrawal(**about)
            self.say(lift, who, now)

    def account_for(self, action: str, amount: int, margin_ppm: int) -> None:
        lab = self.state.labs["borealis"]
        if action in ("attest", "gap"):
            self.to(self.end(self.period))
            now = max(self.end(self.period), self.state.last_time_ms)
            if action == "attest":
                self.attest("borealis", self.period, {"run-1": amount}, at=now, margin_ppm=margin_ppm)
            else:
                self.gap("borealis", self.period, self.period, at=now)
            self.period += 1
        elif action == "fill" and lab.gaps:
            period = max(lab.gaps)
            self.attest("borealis", period, {"run-1": amount}, at=self.state.last_time_ms, margin_ppm=margin_ppm)
        elif action == "correct" and lab.accounts:
            period = max(lab.accounts) - amount % len(lab.accounts)
            if period in lab.accounts:
                account = lab.accounts[period].id
                self.correct("borealis", period, {"run-1": amount}, account, at=self.state.last_time_ms)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_whatever_happens_the_replay_goes_on_the_same_for_all(actions: list[tuple[str, int, int, str, str]]) -> None:
    """SPEC replay-2, SPEC replay-12, SPEC conduct-6: and each conviction is by its own figures one."""
    world = Chaos()
    for action, amount, margin_ppm, name, who in actions:
        if action == "silence":
            world.tick(world.state.last_time_ms + 60_000 + amount * 1_000)
        elif action in ("lift", "leave", "pledge"):
            world.act(action, name, who)
        else:
            world.account_for(action, amount, margin_ppm)
    for _ in range(8):
        world.account_for("attest", 0, 0)
    for violation in world.state.violations:
        if violation.kind in CAP_KINDS or violation.kind is ViolationKind.GROWTH:
            assert violation.bounds is not None
            assert violation.bounds.low > violation.limit
        if violation.kind in (ViolationKind.GROWTH_UNRESOLVED, ViolationKind.UNRESOLVED):
            assert violation.bounds is not None
            assert violation.bounds.high > violation.limit
    windows = [(v.cap, v.period) for v in world.state.violations if v.kind is ViolationKind.GROWTH]
    assert len(windows) == len(set(windows)), "nobody is convicted twice of one thing"
    world.proved()
