"""The scene: an agreement of four countries and four labs, and a directory for each role, ready to start."""

from __future__ import annotations

import math
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacekeeper.audit.result import AuditResult
from pacekeeper.audit.verify import audit
from pacekeeper.cli.configs import LAB, LOG, VERIFIER
from pacekeeper.cli.founding import assemble, sign_agreement, write_agreement
from pacekeeper.cli.identities import Identity, make_identity
from pacekeeper.client.bundle import Bundle
from pacekeeper.client.config import write_config
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.fetch import open_source
from pacekeeper.client.keyfiles import load_key, write_public
from pacekeeper.log.server import initialise
from pacekeeper.protocol.documents.model import Cap
from pacekeeper.protocol.units import format_time

PARTIES: Final = {"norland": "Norland", "sudland": "Sudland", "westmere": "Westmere", "eastholm": "Eastholm"}
HONEST, SPLITTING, STEADY, ROGUE = "borealis", "meridian", "delphi", "corvus"
LABS: Final = {
    HONEST: ("Borealis Laboratory", "norland"),
    SPLITTING: ("Meridian Laboratory", "sudland"),
    STEADY: ("Delphi Laboratory", "sudland"),
    ROGUE: ("Corvus Laboratory", "westmere"),
}
PERIOD_S: Final = 6
WITHHELD_PERIOD: Final = 3
MARKER: Final = "demo.marker"
CHIP_TIME_MARGIN: Final = (
    "100 %"  # the labs share a machine of unknown speed: their physical estimate bounds from above
)
PLAIN_STEPS: Final = 700  # what the honest run does, under the cap
SHARD_STEPS: Final = 350  # what each of the three shards does: two of them are at the cap, three over it
RUN_CAP_GFLOP: Final = 335  # a step of the training program is 402,653,184 FLOP: the cap is about 830 steps


@dataclass(frozen=True)
class Scene:
    """Where everything lies. Configurations by role id: "log", a party's id, a lab's id."""

    root: Path
    bundle: Bundle
    configs: dict[str, Path]
    log_url: str
    epoch_ms: int

    @property
    def fingerprint(self) -> str:
        return self.bundle.agreement.fingerprint.hex()

    @property
    def public(self) -> Path:
        return self.root / "log" / "state" / "public"

    def audit(self, location: str) -> AuditResult:
        """Audit the log at a URL or in a directory."""
        source = open_source(location)
        try:
            return audit(source, self.bundle.agreement.fingerprint, jobs=0)
        finally:
            source.close()


def prepare_directory(root: Path) -> None:
    """Make an empty directory; one that an earlier demonstration made is removed, anything else is left alone."""
    if root.exists() and any(root.iterdir()):
        if not (root / MARKER).exists():
            raise ConfigError(f"{root} is not empty, and no demonstration made it; choose another --dir")
        shutil.rmtree(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).write_text("A demonstration made this directory; the next one may remove it.\n")


def build_scene(root: Path) -> Scene:
    """Make all keys, found the agreement, write all configurations, and sequence entry 0."""
    ports = free_ports(2 + len(PARTIES))
    log_address, http_address = (f"127.0.0.1:{port}" for port in ports[:2])
    addresses = dict(zip(PARTIES, (f"127.0.0.1:{port}" for port in ports[2:]), strict=True))
    identities = _identities(root, log_address, f"http://{http_address}", addresses)
    epoch_ms = math.ceil(time.time()) * 1000
    caps = [
        Cap("frontier-run", "run", RUN_CAP_GFLOP, 0, (HONEST, SPLITTING)),
        Cap("lab-month", "lab", 100 * RUN_CAP_GFLOP, 30, ()),
        Cap("party-month", "party", 100 * RUN_CAP_GFLOP, 30, ()),
    ]
    terms = {
        "title": "Demonstration agreement on frontier training",
        "epoch": format_time(epoch_ms),
        "quorum": "3",
        "liars": "1",
        "period": f"{PERIOD_S} s",
        "due": "4 s",
        "fill_in": "20 min",
        "tick": "1 s",
        "tolerance": "2 s",
        "unwitnessed": "30 s",
        "chip_time_margin": CHIP_TIME_MARGIN,
    }
    document = write_agreement(identities, caps, terms)
    write_public(root / "agreement.md", document)
    signatures = [sign_agreement(document, load_key(root / "party" / party / "keys/party.key")) for party in PARTIES]
    bundle = assemble(document, signatures, identities, root / "bundle")
    configs = _configs(root, log_address, http_address, addresses)
    initialise(configs["log"])
    return Scene(root, bundle, configs, f"http://{http_address}", epoch_ms)


def _identities(root: Path, log_address: str, log_url: str, addresses: dict[str, str]) -> list[Identity]:
    made = [
        make_identity(
            "log", "pacekeeper.example/demo", root / "log", name="the shared log", address=log_address, url=log_url
        )
    ]
    for party, name in PARTIES.items():
        made.append(make_identity("party", party, root / "party" / party, name=name))
        directory = root / "verifier" / party
        verifier = f"{party}.example/verifier"
        made.append(make_identity("verifier", party, directory, name=verifier, address=addresses[party]))
    for lab, (name, party) in LABS.items():
        made.append(make_identity("lab", lab, root / "lab" / lab, name=name, party=party))
    return made


_DRILL: Final = f"""
[drill]                                  # an exercise: the account of this period is withheld, and a gap declared
hold_periods = [{WITHHELD_PERIOD}]
fill_in = false
"""


def _configs(root: Path, log_address: str, http_address: str, addresses: dict[str, str]) -> dict[str, Path]:
    configs = {"log": root / "log" / "log.toml"}
    text = LOG.format(bundle="../bundle", keys="keys", listen=log_address, http_listen=http_address)
    write_config(configs["log"], text)
    for party in PARTIES:
        configs[party] = root / "verifier" / party / "verifier.toml"
        text = VERIFIER.format(party=party, bundle="../../bundle", keys="keys", listen=addresses[party])
        write_config(configs[party], text)
    for lab in LABS:
        configs[lab] = root / "lab" / lab / "lab.toml"
        text = LAB.format(
            lab=lab,
            bundle="../../bundle",
            keys="keys",
            model="cpu-core",
            count=2,
            peak="100e9 FLOP/s",
            margin=CHIP_TIME_MARGIN,
        )
        if lab == HONEST:
            text += _DRILL
        write_config(configs[lab], text)
    return configs


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held open until all are chosen, so that none comes twice."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
