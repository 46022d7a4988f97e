"""Who may act: the right key for the right participant, and a log that is the bundle's; otherwise nothing is signed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from key_world import KeyWorld
from pledged_world import PledgedWorld
from world import World

from pacekeeper.cli.commitments.acting import Reading, check_fresh
from pacekeeper.cli.commitments.caller import Caller
from pacekeeper.cli.commitments.statements import parse_values, proposal
from pacekeeper.client.errors import ConfigError, TemporaryFailure
from pacekeeper.client.follow import VerifiedBatch
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay import Applied
from pacekeeper.protocol.tlog.merkle import Frontier

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("key", "who", "said"),
    [
        ("sudland/keys/party.key", "norland", 'is the key of party sudland, not of "norland"'),
        ("norland-v/keys/statement.key", None, "is the key of verifier norland; this takes a party's or a lab's"),
        ("norland-v/keys/cosign.key", None, "is no key of this agreement"),
        ("norland/keys/none.key", None, "cannot be read"),
        ("norland-v/keys/tls.pem", None, "is not a Pacekeeper signing key"),
    ],
)
def test_another_key_signs_nothing(pacekeeper: Run, site: Any, key: str, who: str | None, said: str) -> None:
    """SPEC cli-16, cli-6."""
    named = ("--as", who) if who else ()
    outcome = pacekeeper(
        "commitment", "pledge", "pause", site.root / "norland-v/verifier.toml", "--key", site.root / key, *named
    )
    assert (outcome.status, outcome.out) == (5, "")
    assert said in outcome.err


def test_a_key_that_others_can_read_signs_nothing(pacekeeper: Run, site: Any) -> None:
    """SPEC cli-16, cli-6."""
    key = site.root / "norland/keys/party.key"
    key.chmod(0o644)
    outcome = pacekeeper("commitment", "lift", "pause", site.root / "norland-v/verifier.toml", "--key", key)
    assert outcome.status == 5
    assert "is open to others" in outcome.err


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("log/log.toml", "a lab or a verifier calls the log"),
        ("norland-v/verifier.toml", "names no party's key: give it with --key"),
        ("norland/norland.party.public.toml", "is no configuration"),
        ("none.toml", "cannot be read"),
    ],
)
def test_a_configuration_that_cannot_act(pacekeeper: Run, site: Any, config: str, said: str) -> None:
    """SPEC cli-7."""
    outcome = pacekeeper("commitment", "lift", "pause", site.root / config)
    assert (outcome.status, outcome.out) == (2, "")
    assert said in outcome.err


def test_a_log_out_of_reach_is_temporary(pacekeeper: Run, site: Any) -> None:
    """SPEC cli-7."""
    outcome = pacekeeper("commitment", "lift", "pause", site.root / "borealis/lab.toml")
    assert (outcome.status, outcome.out) == (4, "")
    assert "cannot be reached" in outcome.err


def caller(files: dict[Path, SigningKey], *roles: str, who: str | None = None) -> Caller:
    """Somebody with these key files; the connection is not used here."""
    return Caller(None, None, files, roles, who)  # type: ignore[arg-type]


def test_of_two_key_files_the_one_in_force_signs() -> None:
    """SPEC cli-16: by the log, and not by the agreement's document."""
    world = KeyWorld()
    first, second = Path("lab.key"), Path("lab.next.key")
    old, new = world.key("lab", "borealis"), world.next_key("lab", "borealis")
    files = {first: old, second: new}
    assert caller(files, "party", "lab").signer(world.state) == (old, "borealis")
    assert isinstance(world.rotate("lab", "borealis"), Applied)
    assert caller(files, "party", "lab").signer(world.state) == (new, "borealis")
    for found, roles, who, said in [
        ({first: old}, ("lab",), None, r"lab.key is key 1 of lab borealis, which entry \d+ retired"),
        ({second: new}, ("party",), None, "is the key of lab borealis; this takes a party's"),
        ({second: new}, ("lab",), "meridian", 'is the key of lab borealis, not of "meridian"'),
        ({first: world.next_key("lab", "borealis")}, ("lab",), None, "is no key of this agreement"),
    ]:
        with pytest.raises(Refused, match=said) as refused:
            caller(found, *roles, who=who).signer(world.state)
        assert refused.value.code == Code.UNSAFE_STATE


def test_a_replacement_of_another_key_than_the_next_is_not_proposed(tmp_path: Path) -> None:
    """It could be pledged to, and then have no effect: what the log lets in, the command need not."""
    world = KeyWorld()
    path = tmp_path / "keys.md"
    path.write_bytes(world.replacement(("lab", "borealis", 2)))
    assert proposal(path)(world.state, "norland").DESCRIPTOR.name == "Commitment"
    world.rotate("lab", "borealis")
    path.write_bytes(world.replacement(("lab", "borealis", 2)))
    with pytest.raises(ConfigError, match="the next key of lab borealis is its number 3, not 2"):
        proposal(path)(world.state, "norland")


async def batches(entries: Sequence[bytes]) -> AsyncIterator[VerifiedBatch]:
    for index, entry in enumerate(entries):
        yield VerifiedBatch(index, (entry,), None, Frontier())  # type: ignore[arg-type]  # nobody looks at it here


async def test_reading_replays_up_to_a_size() -> None:
    world = PledgedWorld()
    world.agreed(world.start(1))
    reading = Reading(world.agreement, lambda _policy: batches(world.entries))
    assert (await reading.reach(3)).size == 3
    state = await reading.reach(len(world.entries))
    assert state.digest() == world.state.digest()
    with pytest.raises(TemporaryFailure, match="has ended"):
        await reading.reach(len(world.entries) + 1)


def test_an_old_state_is_not_signed_upon() -> None:
    """SPEC cli-22: a log could show a past in which one would have acted otherwise."""
    state = World(period="1 d", tick="5 min", unwitnessed="1 h", tolerance="10 s").state
    allowed_ms = (2 * 300 + 3_600 + 10) * 1_000
    check_fresh(state, state.last_time_ms + allowed_ms)
    with pytest.raises(TemporaryFailure, match="the newest entry that the log shows is 4210 s old"):
        check_fresh(state, state.last_time_ms + allowed_ms + 1)


async def test_a_log_of_another_agreement_is_not_believed() -> None:
    """SPEC cli-17."""
    other = World(title="Another agreement")
    with pytest.raises(Refused) as refused:
        await Reading(World().agreement, lambda _policy: batches(other.entries)).reach(1)
    assert refused.value.code == Code.WRONG_AGREEMENT


@pytest.mark.parametrize(
    ("values", "scaled"),
    [
        (("7", "7.25", "8"), (2, (700, 725, 800))),
        (("0", "0", "0.0"), (1, (0, 0, 0))),
        (("1.000000001", "2", "3"), (9, (1_000_000_001, 2_000_000_000, 3_000_000_000))),
    ],
)
def test_values_are_read_exactly(values: tuple[str, str, str], scaled: tuple[int, tuple[int, int, int]]) -> None:
    assert parse_values(*values) == scaled


@pytest.mark.parametrize("value", ["", "-1", "1e3", "nan", "1.", "1.0000000001", "9" * 19, "1,5", "٣", "1\n"])
def test_what_is_no_value_is_refused(value: str) -> None:
    with pytest.raises(ConfigError):
        parse_values(value, "0.000000001", "1")


def test_a_value_beyond_64_bits_is_refused() -> None:
    with pytest.raises(ConfigError, match="too large"):
        parse_values("1", "1", "99999999999.000000001")


def test_evidence_that_is_not_there_is_named(pacekeeper: Run, site: Any, tmp_path: Path) -> None:
    report = ("commitment", "report", "x", site.root / "borealis/lab.toml", "--unit", "%", "--censored", "above")
    outcome = pacekeeper(*report, "--method", "m", "--evidence", tmp_path / "none")
    assert outcome.status == 2
    assert "none cannot be read" in outcome.err
