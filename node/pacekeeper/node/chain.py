"""The chain: how the next of a lab's attestations, gaps and corrections is linked to the one before. Pure."""

from __future__ import annotations

from pacekeeper.node.ledger import Ledger
from pacekeeper.v1 import statements_pb2 as pb


def next_link(ledger: Ledger) -> pb.Link:
    """Return the link of the next statement in the chain.

    SPEC node-7: sequence MUST go up by one, previous MUST be the identity of the statement before, and as_of MUST be
    the largest tree size that a quorum has shown the lab, so that it never runs back and never runs ahead of the log.
    """
    return pb.Link(
        sequence=ledger.sequence + 1,
        previous=ledger.head,
        as_of=max(ledger.as_of, ledger.tree_size),
    )
