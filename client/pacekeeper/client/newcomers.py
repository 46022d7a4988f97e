"""Who is who for a participant that is not a founder: its terms stand in the commitment by which it accedes.

A newcomer runs with the founding bundle and the accession's document. Its keys are compared with that document, as a
founder's are with the agreement's. Whether the accession is performed the log says: until then it lets nobody in.
"""

from __future__ import annotations

from pathlib import Path

from pacekeeper.client.errors import ConfigError
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.documents.commitment_model import Accession
from pacekeeper.protocol.documents.model import Agreement, Lab, Party


def find_party(agreement: Agreement, party: str, accession: Path | None) -> Party | None:
    """Return a party's terms, from the founding agreement or an accession's document. ConfigError for a bad one."""
    joining = () if accession is None else read_accession(accession).parties
    return next((known for known in (*agreement.parties, *joining) if known.id == party), None)


def find_lab(agreement: Agreement, lab: str, accession: Path | None) -> Lab | None:
    """Return a lab's terms, from the founding agreement or from an accession's document. ConfigError for a bad one."""
    joining = () if accession is None else read_accession(accession).labs
    return next((known for known in (*agreement.labs, *joining) if known.id == lab), None)


def read_accession(path: Path) -> Accession:
    """Return what an accession's document says. ConfigError names the file and what is wrong.

    SPEC transport-23: a newcomer MUST NOT start with a key other than the one that its accession's document names.
    """
    try:
        with path.open("rb") as file:
            document = file.read(limits.MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    try:
        act = compile_commitment(document).act
    except DocumentError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(act, Accession):
        raise ConfigError(f"{path} is not an accession's document")
    return act
