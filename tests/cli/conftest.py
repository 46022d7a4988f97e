"""The command line as a person meets it: arguments in; output, error output and exit status out."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from status_server import free_port

from pacekeeper.cli.main import main

PARTIES = ("norland", "sudland", "westmere", "eastholm")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or leaves anything in the cache of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@dataclass(frozen=True)
class Outcome:
    """What a command did. Nobody is ever shown a traceback, so that is checked of each."""

    status: int
    out: str
    err: str


def pacekeeper(*arguments: object) -> Outcome:
    """Run one command in this process, by the same entry point that the installed script calls."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["pacekeeper", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leaving:
        status = leaving.code
    finally:
        sys.argv = before
    assert isinstance(status, int)
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return Outcome(status, out.getvalue(), err.getvalue())


def must(*arguments: object) -> str:
    """Run a command that has to succeed; return what it printed."""
    outcome = pacekeeper(*arguments)
    assert outcome.status == 0, outcome.err
    return outcome.out


@dataclass(frozen=True)
class Founding:
    """A directory in which four countries and a lab have founded an agreement, as the README tells them to."""

    root: Path

    @property
    def document(self) -> Path:
        return self.root / "agreement.md"

    @property
    def bundle(self) -> Path:
        return self.root / "bundle"

    @property
    def identities(self) -> list[Path]:
        return sorted(self.root.glob("*/*.public.toml"))

    def identity_options(self) -> list[str]:
        return [word for path in self.identities for word in ("--identity", str(path))]

    def copy(self, target: Path) -> Founding:
        shutil.copytree(self.root, target)
        return Founding(target)


def found(root: Path) -> Founding:
    """keygen for everybody, agreement new, lint, sign, assemble."""
    founding = Founding(root)
    ports = {name: free_port() for name in (*PARTIES, "log", "http")}
    for party in PARTIES:
        must("keygen", "party", party, "--out", root / party, "--name", party.capitalize())
        must("keygen", "verifier", party, "--out", root / f"{party}-v", "--address", f"127.0.0.1:{ports[party]}")
    must("keygen", "lab", "borealis", "--out", root / "borealis", "--party", "norland", "--name", "Borealis AI")
    log = ("--address", f"127.0.0.1:{ports['log']}", "--url", f"http://127.0.0.1:{ports['http']}")
    must("keygen", "log", "example.org/pacekeeper", "--out", root / "log", *log)
    new = ("--title", "A test agreement", "--cap", "frontier:run:1e24 FLOP", "--cap", "quarter:lab:5e24 FLOP:90")
    must(
        "agreement",
        "new",
        *founding.identity_options(),
        *new,
        "--epoch",
        "2026-01-01T00:00:00Z",
        "--out",
        root / "agreement.md",
    )
    must("agreement", "lint", founding.document)
    signatures: list[str] = []
    for party in PARTIES:
        signature = root / f"{party}.sig"
        must("agreement", "sign", founding.document, "--key", root / party / "keys/party.key", "--out", signature)
        signatures += ["--signature", str(signature)]
    must(
        "agreement", "assemble", founding.document, *signatures, *founding.identity_options(), "--out", founding.bundle
    )
    return founding


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Founding:
    """Founded once; a test that changes anything takes the fixture `founding`."""
    return found(tmp_path_factory.mktemp("founding"))


@pytest.fixture
def founding(founded: Founding, tmp_path: Path) -> Founding:
    return founded.copy(tmp_path / "site")


@pytest.fixture(name="pacekeeper")
def _pacekeeper() -> Callable[..., Outcome]:
    return pacekeeper


@pytest.fixture(name="must")
def _must() -> Callable[..., str]:
    return must


ROLES = {"log": "log/log.toml", "verifier": "norland-v/verifier.toml", "lab": "borealis/lab.toml"}


@pytest.fixture
def site(founding: Founding) -> Founding:
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

    def __init__(self, site: Founding) -> None:
        self.site = site
        self.root = site.root

    def config(self, role: str) -> Path:
        return Path(self.root / ROLES[role])

    def examine(self, role: str, *options: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
        """The exit status, and the checks by name."""
        outcome = pacekeeper("doctor", self.config(role), "--json", *options)
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
def doctor(site: Founding) -> Doctor:
    return Doctor(site)
