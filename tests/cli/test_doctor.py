"""The doctor finds each thing that is wrong, says what to do, goes on with the rest, and changes nothing."""

from __future__ import annotations

import datetime
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from requirements import require_root
from status_server import StatusServers, free_port
from world import World

from pacekeeper.cli.doctor.check import Check, Level, fail, ok, status_of, warn
from pacekeeper.cli.doctor.machine import FAIL_BYTES, WARN_BYTES, judge_disk
from pacekeeper.cli.doctor.reach import check_verifiers, judge_clock, judge_cosignature_times
from pacekeeper.cli.doctor.subject import Subject
from pacekeeper.client.tls import make_certificate

Run = Callable[..., Any]
ROLES = {"log": "log/log.toml", "verifier": "norland-v/verifier.toml", "lab": "borealis/lab.toml"}


@pytest.fixture
def site(founding: Any, must: Callable[..., str]) -> Any:
    """A founding in which a log, a verifier and a lab are initialised and nothing runs."""
    must("log", "init", founding.root / "log", "--bundle", founding.bundle, "--listen", f"127.0.0.1:{free_port()}",
         "--http-listen", f"127.0.0.1:{free_port()}")  # fmt: skip
    listen = f"127.0.0.1:{free_port()}"
    must("verifier", "init", founding.root / "norland-v", "--party", "norland", "--bundle", founding.bundle,
         "--listen", listen)  # fmt: skip
    must("lab", "init", founding.root / "borealis", "--lab", "borealis", "--bundle", founding.bundle)
    return founding


class Doctor:
    """Asks the doctor about a role of a site."""

    def __init__(self, pacekeeper: Run, site: Any) -> None:
        self._pacekeeper, self.site = pacekeeper, site
        self.root = site.root

    def config(self, role: str) -> Path:
        return Path(self.root / ROLES[role])

    def examine(self, role: str, *options: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
        """The exit status, and the checks by name."""
        outcome = self._pacekeeper("doctor", self.config(role), "--json", *options)
        said = json.loads(outcome.out)
        assert said["status"] == outcome.status
        checks: dict[str, list[dict[str, str]]] = {}
        for check in said["checks"]:
            assert check["level"] == "ok" or check["advice"], "what is not well comes with what to do"
            checks.setdefault(check["name"], []).append(check)
        return outcome.status, checks

    def failing(self, role: str) -> tuple[int, set[str]]:
        """The exit status without asking anybody else, and the names of what failed."""
        status, checks = self.examine(role, "--offline")
        return status, {name for name, made in checks.items() if any(check["level"] == "fail" for check in made)}

    def rewrite(self, role: str, old: str, new: str) -> None:
        text = self.config(role).read_text()
        assert old in text
        self.config(role).write_text(text.replace(old, new, 1))


@pytest.fixture
def doctor(pacekeeper: Run, site: Any) -> Doctor:
    return Doctor(pacekeeper, site)


@pytest.mark.parametrize("role", ["log", "verifier", "lab"])
def test_a_role_that_is_ready_to_start_passes_and_nothing_is_changed(doctor: Doctor, role: str) -> None:
    before = sorted((str(path), path.stat().st_mtime_ns) for path in doctor.root.rglob("*"))
    status, checks = doctor.examine(role, "--offline")
    assert status == 0, checks
    assert checks["config"][0]["sentence"].endswith(f"is the configuration of a {role}")
    assert len(checks["bundle"][0]["sentence"].split("fingerprint is ")[1].split(";")[0]) == 64
    assert {"disk", "state", "tls_key", "tls_certificate", "tls_dates", "python", "extras"} <= checks.keys()
    assert sorted((str(path), path.stat().st_mtime_ns) for path in doctor.root.rglob("*")) == before


def test_in_words_each_check_has_a_line_and_advice_where_it_is_needed(doctor: Doctor, pacekeeper: Run) -> None:
    doctor.config("log").parent.joinpath("keys/statement.key").chmod(0o644)
    outcome = pacekeeper("doctor", doctor.config("log"), "--offline")
    lines = outcome.out.splitlines()
    assert outcome.status == 5
    assert lines[0].startswith("ok    config")
    [at] = [number for number, line in enumerate(lines) if line.startswith("FAIL")]
    assert "statement.key is open to others (mode 0644)" in lines[at]
    assert "-> chmod 600 " in lines[at + 1]


@pytest.mark.parametrize(
    ("text", "word"),
    [(None, "cannot be read"), ("bundle = ", "not TOML"), ("", "no configuration of"), ('lab = "x"\n', "required key"),
     ('checkpoint_key = "x\\u001b"\nsurprise = 1\n', "")],
)  # fmt: skip
def test_a_configuration_that_is_wrong_fails_first_and_alone(
    doctor: Doctor, pacekeeper: Run, text: str | None, word: str
) -> None:
    config = doctor.config("log")
    config.unlink()
    if text is not None:
        config.write_text(text)
    assert doctor.failing("log") == (2, {"config"})
    outcome = pacekeeper("doctor", config)
    assert word in outcome.out
    assert outcome.out.replace("\n", "").isprintable()


@pytest.mark.parametrize("role", ["log", "verifier", "lab"])
def test_a_missing_bundle_fails_and_the_rest_is_looked_at_all_the_same(doctor: Doctor, role: str) -> None:
    """SPEC cli-11."""
    (doctor.site.bundle / "agreement.md").unlink()
    key = next(doctor.config(role).parent.glob("keys/*.key"))
    key.chmod(0o604)
    status, failed = doctor.failing(role)
    assert status == 5
    assert failed >= {"bundle"}
    assert len(failed) == 2


@pytest.mark.parametrize(
    ("spoil", "failed"),
    [
        (lambda keys: (keys / "statement.key").chmod(0o640), "statement_key"),
        (lambda keys: (keys / "statement.key").unlink(), "statement_key"),
        (lambda keys: (keys / "statement.key").write_text("damaged"), "statement_key"),
        (lambda keys: (keys / "statement.key").write_bytes((keys / "cosign.key").read_bytes()), "statement_key"),
        (lambda keys: (keys / "tls.pem").chmod(0o644), "tls_key"),
        (lambda keys: (keys / "tls.pem").write_text("damaged"), "tls_key"),
        (lambda keys: (keys / "tls.pem").write_bytes(make_certificate("pacekeeper:verifier/norland")[0]), "tls_key"),
        (lambda keys: keys.chmod(0o777), "keys"),
    ],
)
def test_keys_that_are_unsafe_exit_5(doctor: Doctor, spoil: Callable[[Path], object], failed: str) -> None:
    """SPEC cli-10."""
    spoil(doctor.config("verifier").parent / "keys")
    assert doctor.failing("verifier") == (5, {failed})


def test_a_certificate_that_is_gone_or_not_the_pinned_one(doctor: Doctor) -> None:
    keys = doctor.config("verifier").parent / "keys"
    own = (keys / "tls.crt.pem").read_bytes()
    other_key, other = make_certificate("pacekeeper:verifier/norland")
    (keys / "tls.crt.pem").write_bytes(other)
    (keys / "tls.pem").write_bytes(other_key)
    assert doctor.failing("verifier") == (5, {"tls_certificate"})
    (keys / "tls.crt.pem").write_text("no certificate")
    assert doctor.failing("verifier") == (2, {"tls_certificate"})
    (keys / "tls.crt.pem").unlink()
    assert doctor.failing("verifier") == (2, {"tls_certificate"})
    (keys / "tls.crt.pem").write_bytes(own[:-1] + b"\n" + own)
    assert "tls_certificate" in doctor.failing("verifier")[1]


@pytest.mark.parametrize(("years", "level"), [(-21, "fail"), (3, "fail"), (-19.9, "warn"), (-1, "ok")])
def test_the_certificates_dates(doctor: Doctor, years: float, level: str) -> None:
    """Made at another time, with the same name and another key: dates are told apart from the pin."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365 * years)
    key, certificate = make_certificate("pacekeeper:verifier/norland", now=moment)
    keys = doctor.config("verifier").parent / "keys"
    (keys / "tls.crt.pem").write_bytes(certificate)
    (keys / "tls.pem").write_bytes(key)
    _, checks = doctor.examine("verifier", "--offline")
    assert checks["tls_dates"][0]["level"] == level


@pytest.mark.parametrize("role", ["verifier", "lab"])
def test_an_id_that_the_agreement_does_not_have(doctor: Doctor, role: str) -> None:
    name = {"verifier": "norland", "lab": "borealis"}[role]
    key = {"verifier": "party", "lab": "lab"}[role]
    doctor.rewrite(role, f'{key} = "{name}"', f'{key} = "nobody"')
    status, failed = doctor.failing(role)
    assert status == 2
    assert "identity" in failed


@pytest.mark.parametrize("role", ["log", "verifier", "lab"])
def test_a_state_directory_that_is_a_file_or_open_to_all_exits_5(doctor: Doctor, role: str) -> None:
    """SPEC cli-10."""
    doctor.rewrite(role, 'state = "state"', 'state = "elsewhere"')
    state = doctor.config(role).parent / "elsewhere"
    state.write_text("a file")
    assert "state" in doctor.failing(role)[1]
    state.unlink()
    state.mkdir()
    state.chmod(0o777)
    status, failed = doctor.failing(role)
    assert (status, "state" in failed) == (5, True)
    state.chmod(0o770)
    _, checks = doctor.examine(role, "--offline")
    assert checks["state"][0]["level"] == "warn"


def test_a_state_directory_of_another_user_exits_5(doctor: Doctor) -> None:
    require_root()
    state = doctor.root / "borealis/state"
    state.mkdir(exist_ok=True)
    os.chown(state, 12345, 12345)
    assert doctor.failing("lab") == (5, {"state"})


def test_a_log_that_has_no_entry_0_or_was_stopped_by_a_failed_write(doctor: Doctor) -> None:
    state = doctor.root / "log/state"
    (state / "unsafe").write_text("disk is full\n")
    assert doctor.failing("log") == (5, {"state"})
    (state / "unsafe").unlink()
    (state / "log.sqlite").unlink()
    status, failed = doctor.failing("log")
    assert (status, failed) == (2, {"store"})


def test_a_cosigning_key_whose_store_is_lost_exits_5(doctor: Doctor) -> None:
    """SPEC cli-10: the verifier itself would refuse to sign, and the doctor says so before."""
    key = doctor.root / "norland-v/keys/cosign.key"
    mark = (
        "pacekeeper-witness-v1\norigin example.org/pacekeeper\nstore 0123456789abcdef0123456789abcdef\nsize {:020d}\n"
    )
    key.with_name("cosign.key.witness").write_text(mark.format(0))
    assert doctor.failing("verifier") == (0, set())
    key.with_name("cosign.key.witness").write_text(mark.format(42))
    status, checks = doctor.examine("verifier", "--offline")
    assert status == 5
    assert "has cosigned 42 entries" in checks["store"][0]["sentence"]


@pytest.mark.parametrize(
    ("free", "level"),
    [(FAIL_BYTES - 1, Level.FAIL), (FAIL_BYTES, Level.WARN), (WARN_BYTES - 1, Level.WARN), (WARN_BYTES, Level.OK)],
)
def test_disk_space_is_judged_by_what_is_left(free: int, level: Level) -> None:
    assert judge_disk(Path("/"), free).level is level


def test_a_port_in_use_by_another_program_fails_and_by_the_role_itself_passes(doctor: Doctor) -> None:
    text = doctor.config("verifier").read_text()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        doctor.config("verifier").write_text(text.replace(text.split('listen = "')[1].split('"')[0], address))
        assert doctor.failing("verifier") == (2, {"listen"})
        state = doctor.root / "norland-v/state"
        state.mkdir(exist_ok=True)
        (state / "ready").write_text(json.dumps({"pid": os.getpid(), "listen": address}))
        assert doctor.failing("verifier") == (0, set())
        (state / "ready").write_text(json.dumps({"pid": 2**22 + 1, "listen": address}))
        assert doctor.failing("verifier") == (2, {"listen"})


@pytest.mark.parametrize(
    "address", ["nowhere", "127.0.0.1:x", "127.0.0.1:99999", "192.0.2.1:7801", "no.such.invalid:1"]
)
def test_an_address_that_is_none_or_not_this_machines(doctor: Doctor, address: str) -> None:
    text = doctor.config("verifier").read_text()
    doctor.config("verifier").write_text(text.replace(text.split('listen = "')[1].split('"')[0], address))
    assert doctor.failing("verifier") == (2, {"listen"})


def test_any_free_port_is_fine(doctor: Doctor) -> None:
    text = doctor.config("verifier").read_text()
    doctor.config("verifier").write_text(text.replace(text.split('listen = "')[1].split('"')[0], "127.0.0.1:0"))
    assert doctor.failing("verifier") == (0, set())


def test_a_labs_socket(doctor: Doctor, tmp_path_factory: pytest.TempPathFactory) -> None:
    doctor.rewrite("lab", 'socket = "state/gate.sock"', f'socket = "{"x" * 120}.sock"')
    assert doctor.failing("lab") == (2, {"socket", "lab"})
    short = tmp_path_factory.mktemp("s")
    doctor.rewrite("lab", "x" * 120 + ".sock", str(short / "gate.sock"))
    assert doctor.failing("lab") == (0, set())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short / "gate.sock"))
        (short / "gate.sock").chmod(0o600)
        _, checks = doctor.examine("lab", "--offline")
        assert checks["socket"][0]["level"] == "warn", "left over: nobody listens"
        listener.listen(1)
        _, checks = doctor.examine("lab", "--offline")
        assert checks["socket"][0]["level"] == "ok"
        (short / "gate.sock").chmod(0o666)
        assert doctor.failing("lab") == (5, {"socket"})
    (short / "gate.sock").unlink()
    (short / "gate.sock").write_text("a file")
    assert doctor.failing("lab") == (2, {"socket"})


def test_a_labs_spool_that_cannot_be_written(doctor: Doctor) -> None:
    state = doctor.root / "borealis/state"
    state.mkdir(exist_ok=True)
    (state / "spool").write_text("a file")
    assert doctor.failing("lab") == (2, {"spool"})
    (state / "spool").unlink()
    (state / "spool").mkdir(mode=0o700)
    assert doctor.failing("lab") == (0, set())


@pytest.mark.parametrize(
    ("old", "new", "level"),
    [
        ('peak = "100e9 FLOP/s"', 'peak = "1e9 FLOP/s"', "warn"),
        ('peak = "100e9 FLOP/s"', 'peak = "990e15 FLOP/s"', "warn"),
        ('peak = "100e9 FLOP/s"', 'peak = "990e12"', "fail"),
        ("count = 1", "count = 0", "fail"),
        ('utilisation = "40 %"', 'utilisation = "140 %"', "fail"),
    ],
)
def test_a_labs_pools_must_make_sense(doctor: Doctor, old: str, new: str, level: str) -> None:
    doctor.rewrite("lab", old, new)
    _, checks = doctor.examine("lab", "--offline")
    made = checks["lab"] if level == "fail" else checks["pools"]
    assert made[0]["level"] == level
    assert doctor.failing("lab")[0] == (2 if level == "fail" else 0)


def test_with_nothing_running_the_log_is_missed_by_the_others_and_not_by_itself(doctor: Doctor) -> None:
    status, checks = doctor.examine("log")
    assert status == 0
    assert (checks["log"][0]["level"], checks["checkpoint"][0]["level"]) == ("warn", "warn")
    assert [checks[f"verifier_{party}"][0]["level"] for party in ("norland", "eastholm")] == ["warn", "warn"]
    assert checks["quorum"][0]["level"] == "warn"
    status, checks = doctor.examine("lab")
    assert status == 2
    assert checks["log"][0]["level"] == "fail"
    status, checks = doctor.examine("verifier")
    assert checks["verifier_norland"][0]["sentence"] == "this is ours, and it does not run yet"


def test_clocks_are_compared_within_the_agreements_tolerance() -> None:
    agreement = World(tolerance="10 s").agreement

    def judge(said_ms: int, step_ms: int = 0) -> Level:
        return judge_clock("x", said_ms, 100_000, 100_050, agreement, step_ms).level

    assert [judge(said) for said in (89_999, 90_000, 110_050, 110_051)] == [Level.WARN, Level.OK, Level.OK, Level.WARN]
    assert judge(89_000, 1_000) is Level.OK
    behind = judge_clock("x", 3_700_050, 100_000, 100_050, agreement, 0)
    assert behind.sentence == "this clock is about 1 h behind that of x"
    ahead = judge_clock("x", 40_000, 100_000, 100_050, agreement, 0)
    assert ahead.sentence == "this clock is about 1 min ahead of that of x"


def test_cosignature_times_tell_of_a_clock_that_is_behind_and_of_a_log_that_stands_still() -> None:
    agreement = World(tolerance="10 s", tick="5 min", unwitnessed="1 h", period="1 d").agreement
    times = [1_000, 2_000, 3_000, 99_999]  # the quorum's newest is the third from above
    allowed_ms = 310_000 + 3_600_000

    def judge(now_ms: int) -> Level:
        return judge_cosignature_times(agreement, times, now_ms).level

    assert judge(2_000_000) is Level.OK
    assert judge(2_000_000 - 10_000) is Level.OK
    assert judge(2_000_000 - 10_001) is Level.WARN
    assert judge(2_000_000 + allowed_ms) is Level.OK
    assert judge(2_000_000 + allowed_ms + 1) is Level.WARN


def test_verifiers_that_are_reachable_absent_impostors_or_out_of_time(doctor: Doctor) -> None:
    """Over real TLS: each is told apart."""
    parties = ("norland", "sudland", "westmere", "eastholm")

    def ask(servers: StatusServers) -> dict[str, list[Check]]:
        agreement = World(pins=servers.pins, addresses=servers.addresses, tolerance="10 s").agreement
        found: dict[str, list[Check]] = {}
        for check in check_verifiers(_lab_subject(doctor), agreement):
            found.setdefault(check.name, []).append(check)
        return found

    with StatusServers(parties, stopped=["sudland"], impostors=["westmere"]) as servers:
        checks = ask(servers)
        assert [checks[f"verifier_{party}"][0].level for party in parties] == ["ok", "warn", "FAIL", "ok"]
        assert "has not the key that the agreement pins" in checks["verifier_westmere"][0].sentence
        assert checks["quorum"][0].sentence == "2 verifiers answer, and the quorum is 3"
        servers.offset_ms = 60_000
        late = ask(servers)["verifier_norland"] + ask(servers)["clock"]
        assert any("behind that of verifier norland" in check.sentence for check in late)


def _lab_subject(doctor: Doctor) -> Subject:
    from pacekeeper.cli.doctor.subject import open_subject

    return open_subject(doctor.config("lab"))


def test_the_exit_status_is_that_of_the_worst_check() -> None:
    """SPEC cli-10."""
    well, dubious = ok("a", "b"), warn("a", "b", "c")
    wrong, unsafe = fail("a", "b", "c"), fail("a", "b", "c", unsafe=True)
    assert status_of([well, dubious]) == 0
    assert status_of([well, wrong, dubious]) == 2
    assert status_of([unsafe, wrong]) == 5
    assert status_of([]) == 0
