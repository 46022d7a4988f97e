"""The verifiers change while everything runs: a party accedes, another one exits, and everybody follows.

Real processes: the log, the verifiers, a lab's node; the log is killed in the middle. At the end a newcomer audits the
whole from the fingerprint alone, over HTTP and from a copy of the files.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from living_acts import Newcomer, accession, act, amended_quorum, leaving
from processes import Processes
from site_on_disk import BRISK_TERMS, Site, found_site

from pacekeeper.audit.export import export
from pacekeeper.audit.live import cross_check
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.audit.verify import audit
from pacekeeper.cli.asking import ask_verifier
from pacekeeper.client.bundle import certificate_file
from pacekeeper.client.fetch import open_source
from pacekeeper.client.tls import lab_uri
from pacekeeper.log.fsck import fsck
from pacekeeper.node.status import read_status
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.note import parse_note

LAB = "borealis"


def wait(condition: Callable[[], object], running: Processes, seconds: float = 60) -> None:
    """Wait until a condition holds, while all processes live."""
    deadline = time.monotonic() + seconds
    while not condition():
        running.check_alive()
        assert time.monotonic() < deadline, "\n".join(map(running.tail, ("log", "verifier-highmark", f"lab-{LAB}")))
        time.sleep(0.05)


def note_of(site: Site, name: str) -> tuple[int, set[str]]:
    """The size of a checkpoint file's tree, and the names under it; (0, nobody) if it is not there."""
    try:
        note = parse_note((site.public / name).read_bytes())
    except FileNotFoundError:
        return 0, set()
    return parse_checkpoint(note.text).size, {line.name.removesuffix(".example/verifier") for line in note.signatures}


def delivered(site: Site, lab: str = LAB) -> int:
    """The log index of what a lab last had a verified receipt for."""
    status = read_status(site.home(f"lab-{lab}") / "lab.toml")
    return -1 if status is None or status.last_index is None else status.last_index


def entries_of(site: Site, party: str) -> int:
    """How many entries a verifier has stored and replayed."""
    return int(str(ask_verifier(site.home(f"verifier-{party}") / "verifier.toml")["entries"]))


def audited(location: str, site: Site, *, ask: bool = False) -> tuple[AuditResult, list[str]]:
    source = open_source(location)
    try:
        result = audit(source, site.agreement.fingerprint, jobs=0)
        return result, cross_check(source, result) if ask else []
    finally:
        source.close()


def test_parties_come_and_go_and_everybody_follows(tmp_path: Path) -> None:
    """SPEC transition-1, SPEC transition-5, SPEC transport-22: with receipts and audits that hold throughout."""
    site = found_site(tmp_path / "site", {LAB: "norland"}, BRISK_TERMS)
    newcomer = Newcomer.make(site, "highmark", "zephyr")
    document = accession("welcome", [newcomer], (4, 1), parties=4)
    newcomer.configure(site, document)
    founders = ("log", *site.verifiers)
    with Processes(site) as running:
        running.start_role(*founders)
        running.wait_ready(*founders)
        others = (f"lab-{LAB}", "verifier-highmark", "lab-zephyr")
        running.start_role(*others)
        running.wait_ready(*others)

        asyncio.run(act(site, amended_quorum("stricter", (4, 0)), ("norland", "sudland", "eastholm")))
        wait(lambda: note_of(site, "transition/1")[0], running)
        assert len(note_of(site, "transition/1")[1]) == 5, "the log and four verifiers"

        first, _ = note_of(site, "transition/1")
        wait(lambda: entries_of(site, "highmark") >= first, running)
        assert ask_verifier(site.home("verifier-highmark") / "verifier.toml")["cosigned"] == "nothing yet"
        # A lab is no server: its certificate is handed over as a file. The verifier's is found at its address.
        handed = site.root / "bundle" / certificate_file(lab_uri("zephyr"))
        shutil.copy(site.home("lab-zephyr") / "keys/tls.crt.pem", handed)
        asyncio.run(act(site, document, ("norland", "sudland", "eastholm", "westmere")))
        wait(lambda: note_of(site, "transition/2")[0], running)
        running.kill("log")
        running.start_role("log")
        running.wait_ready("log")
        wait(lambda: "highmark" in note_of(site, "checkpoint")[1], running)

        farewell = leaving("farewell", "westmere", (3, 1), parties=4)
        asyncio.run(act(site, farewell, ("norland", "sudland", "eastholm", "highmark"), caller="verifier-highmark"))
        wait(lambda: note_of(site, "transition/3")[0], running)
        last, _ = note_of(site, "transition/3")
        wait(lambda: delivered(site) > last, running)
        wait(lambda: delivered(site, "zephyr") > last, running)
        wait(lambda: note_of(site, "checkpoint")[0] > last + 3, running)
        assert "westmere" not in note_of(site, "checkpoint")[1]

        result, said = audited(site.url, site, ask=True)
        assert result.status is Exit.COMPLIANT, result.faults
        assert "view cross-checked" in said[-1], said
        assert any("highmark confirms" in sentence for sentence in said)
        assert [change.after.quorum.quorum for change in result.changes] == [4, 4, 3]
        assert result.head is not None
        assert not {"westmere"} & {*result.head.cosigners, *result.head.absent}
        assert "zephyr" in {lab.id for lab in result.agreement.labs}  # type: ignore[union-attr]
        for name in (f"lab-{LAB}", "lab-zephyr", "log"):
            assert running.finish(name) == 0
    assert fsck(site.state("log")) == []
    shutil.copytree(site.state("log"), tmp_path / "elsewhere")
    copied, _ = audited(str(tmp_path / "elsewhere"), site)
    original, _ = audited(str(site.state("log")), site)
    assert copied.status is Exit.COMPLIANT, copied.faults
    assert export(copied) == export(original)
