"""Checkpoints and policies of five parties named by letters, for chains across changes of the verifiers.

Example: chain = PolicyChain(OLD); chain.settle(chain.check(note(7, "bcd")), NEW)
"""

from __future__ import annotations

from agreements import signing_key

from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import CosignaturePolicy
from pacekeeper.protocol.tlog.vkey import COSIGNATURE_V1, ED25519, NoteKey

ORIGIN = "example.org/log"
LOG = signing_key("transitions log")
PARTIES = ("a", "b", "c", "d", "e")
COSIGN = {party: signing_key(f"transitions {party}") for party in PARTIES}
ROOT = bytes(range(32))


def policy(parties: str, quorum: int) -> CosignaturePolicy:
    witnesses = tuple((party, NoteKey(f"{party}.example", COSIGNATURE_V1, COSIGN[party].public)) for party in parties)
    return CosignaturePolicy(ORIGIN, NoteKey(ORIGIN, ED25519, LOG.public), witnesses, quorum)


def note(size: int, signers: str, root: bytes = ROOT) -> bytes:
    signed = sign_checkpoint(Checkpoint(ORIGIN, size, root), ORIGIN, LOG)
    text = parse_note(signed).text
    lines = "".join(sign_cosignature(text, f"{party}.example", COSIGN[party], 1_800_000_000) for party in signers)
    return signed + lines.encode()


OLD, NEW = policy("abcd", 3), policy("bcde", 3)
