"""The checks: what a verifier looks for that is worth an accusation. One file each.

A check only proposes evidence. Whether it convicts, whom, of what and how gravely is decided by
`pacekeeper.protocol.evidence.recheck`, the code with which anybody else will judge the finding: a verifier signs
nothing that would not hold. What the replay derives by itself (a cap exceeded, a period missing) is no finding.

    voids           an entry that the log let in and the replay refuses              from each entry
    disagreement    an attested figure whose two estimates exclude each other        from each entry
    equivocation    two statements signed for one sequence number of a lab           from the log's relay
    fork            two signed checkpoints that cannot both be true                  from the log and other verifiers
"""

from pacekeeper.verifier.checks import disagreement, equivocation, fork, voids

__all__ = ["disagreement", "equivocation", "fork", "voids"]
