"""Acts on a live site: a newcomer's keys and configuration, and commitments that are proposed, pledged and performed.

Example:
    newcomer = Newcomer.make(site, "highmark")
    await act(site, accession("welcome", [newcomer], (4, 1)), ("norland", "sudland", "eastholm"))
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commitments import build_commitment, write_tables
from site_on_disk import Site, quiet_ports

from pacekeeper.cli.configs import LAB, VERIFIER
from pacekeeper.cli.identities import make_identity, read_identity, to_terms
from pacekeeper.client.config import write_config
from pacekeeper.client.keyfiles import load_key
from pacekeeper.client.receipts import WitnessedReceipt
from pacekeeper.client.submit import LogClient
from pacekeeper.protocol.documents.model import Lab, Party
from pacekeeper.protocol.documents.template import format_lab, format_party
from pacekeeper.protocol.envelope import encode
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import statements_pb2 as pb

DELAY = "2 s"


@dataclass(frozen=True)
class Newcomer:
    """A party that is no founder, its verifier's process `verifier-PARTY`, and perhaps a lab's `lab-LAB`."""

    party: Party
    labs: tuple[Lab, ...]

    @classmethod
    def make(cls, site: Site, party: str, lab: str = "") -> Newcomer:
        """Make its keys. The configurations are written once there is an accession."""
        root = site.root
        [port] = quiet_ports(1)
        people = [
            make_identity("party", party, root / "party" / party, name=party.capitalize()),
            make_identity(
                "verifier",
                party,
                root / "verifier" / party,
                name=f"{party}.example/verifier",
                address=f"127.0.0.1:{port}",
            ),
        ]
        if lab:
            people.append(make_identity("lab", lab, root / "lab" / lab, name=lab, party=party))
        parties, labs, _ = to_terms([*people, read_identity(root / "log" / "log.public.toml")])
        return cls(parties[0], tuple(labs))

    def configure(self, site: Site, accession: bytes) -> None:
        """Write what its processes are started with."""
        party = self.party
        home = site.root / "verifier" / party.id
        (home / "accession.md").write_bytes(accession)
        text = VERIFIER.format(party=party.id, bundle="../../bundle", keys="keys", listen=party.verifier.address)
        write_config(home / "verifier.toml", text + 'accession = "accession.md"\n')
        for lab in self.labs:
            home = site.root / "lab" / lab.id
            (home / "accession.md").write_bytes(accession)
            text = LAB.format(
                lab=lab.id,
                bundle="../../bundle",
                keys="keys",
                model="test-chip",
                count=64,
                peak="1e15 FLOP/s",
                margin="100 %",
            )
            write_config(home / "lab.toml", 'accession = "accession.md"\n' + text)


def accession(ident: str, newcomers: Sequence[Newcomer], quorum: tuple[int, int], parties: int = 3) -> bytes:
    joining = [format_party(newcomer.party) for newcomer in newcomers]
    labs = [format_lab(lab) for newcomer in newcomers for lab in newcomer.labs]
    return _document("accession", ident, "\n".join([*joining, *labs, _quorum(quorum)]), parties)


def leaving(ident: str, party: str, quorum: tuple[int, int], parties: int = 3) -> bytes:
    return _document("exit", ident, _quorum(quorum), parties, exit={"party": party})


def amended_quorum(ident: str, quorum: tuple[int, int], parties: int = 3) -> bytes:
    return _document("amendment", ident, _quorum(quorum), parties, without=["timing"])


def _quorum(numbers: tuple[int, int]) -> str:
    return write_tables({"quorum": {"quorum": numbers[0], "liars": numbers[1]}})


def _document(kind: str, ident: str, text: str, parties: int, **tables: object) -> bytes:
    by = format_time((int(time.time()) + 3_600) * 1000)
    entry = {"parties": parties, "pledges_by": by, "delay": DELAY, "notice": "0 s"}
    document = build_commitment(kind, ident, entry=entry, **tables)  # type: ignore[arg-type]
    return document.replace(b"[entry]", text.encode() + b"\n[entry]")


def act_statements(fingerprint: bytes, document: bytes, ident: str, who: Sequence[str]) -> list[tuple[str, object]]:
    """The proposal by the first of them and everybody's pledge, with who signs each."""
    digest = hashlib.sha256(document).digest()
    return [
        (who[0], pb.Commitment(agreement=fingerprint, proposer=who[0], document=document)),
        *((one, pb.Pledge(agreement=fingerprint, participant=one, commitment=ident, digest=digest)) for one in who),
    ]


async def act(
    site: Site, document: bytes, who: Sequence[str], caller: str = "verifier-norland"
) -> list[WitnessedReceipt]:
    """Propose a commitment and pledge to it; it is performed two seconds later. Returns the receipts.

    A change of the agreement is decided by at least a quorum of its parties.
    """
    ident = document.split(b'id = "', 1)[1].split(b'"', 1)[0].decode()
    receipts = []
    async with LogClient(site.agreement.log.address, site.credentials(caller), site.agreement) as client:
        for signer, statement in act_statements(site.agreement.fingerprint, document, ident, who):
            key = load_key(site.root / "party" / signer / "keys" / "party.key")
            [answer] = await client.submit([encode(seal(statement, [key]))])  # type: ignore[arg-type]
            assert isinstance(answer, WitnessedReceipt), answer
            receipts.append(answer)
    return receipts


def public_file(site: Site, name: str) -> Path:
    return site.public / name
