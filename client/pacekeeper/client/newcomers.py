"""Who is who for a participant that is not a founder: its terms stand in the commitment by which it accedes.

A newcomer runs with the founding bundle and the accession's document. Its keys are compared with that document, as a
founder's are with the agreement's. Whether the accession is performed the log says: until then it lets nobody in.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pacekeeper.client.errors import ConfigError
from pacekeeper.client.reading import read_bounded
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.documents.commitment_model import Accession
from pacekeeper.protocol.documents.model import Agreement


def with_newcomers(agreement: Agreement, accession: Path | None) -> Agreement:
    """Return a founding agreement as it is once this accession's document is performed; itself if there is none.

    For looking up one's own terms. ConfigError for a bad document.
    """
    if accession is None:
        return agreement
    joining = read_accession(accession)
    return replace(agreement, parties=agreement.parties + joining.parties, labs=agreement.labs + joining.labs)


def read_accession(path: Path) -> Accession:
    """Return what an accession's document says. ConfigError names the file and what is wrong.

    SPEC transport-23: a newcomer MUST NOT start with a key other than the one that its accession's document names.
    """
    try:
        act = compile_commitment(read_bounded(path, limits.MAX_DOCUMENT_BYTES)).act
    except DocumentError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(act, Accession):
        raise ConfigError(f"{path} is not an accession's document")
    return act
