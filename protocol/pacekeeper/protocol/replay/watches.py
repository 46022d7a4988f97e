"""Which windows a lab's figures count in, when caps or members change.

A window goes on under a cap of the same id, kind and length, also under another limit: that one counts for windows that
end in the first period to begin after the change, and those before it keep the limit that they had. Any other cap is a
new one, and counts nothing of what was before that period.
"""

from __future__ import annotations

from collections.abc import Mapping

from pacekeeper.protocol.compute.window import SlidingWindow
from pacekeeper.protocol.documents.model import Agreement, Cap
from pacekeeper.protocol.replay.facts import ViolationKind
from pacekeeper.protocol.replay.judgements import Watch


def watches_of(agreement: Agreement, first: int, before: Mapping[str, list[Watch]]) -> dict[str, list[Watch]]:
    """For each lab the windows that its figures count in; labs of one party share the party's.

    first: the period from which on a new window or limit counts. before: the windows up to now, of which those that go
    on are kept as they are; those of labs that have left stay.
    """
    shared = {(watch.cap.id, watch.subject): watch for watches in before.values() for watch in watches}
    members = {lab.id for lab in agreement.labs}
    found = {lab: watches for lab, watches in before.items() if lab not in members}
    found |= {lab.id: [] for lab in agreement.labs}
    for kind, name in ((ViolationKind.LAB_CAP, "lab"), (ViolationKind.PARTY_CAP, "party")):
        for cap in agreement.caps:
            for lab in agreement.labs:
                subject = lab.id if name == "lab" else lab.party
                if cap.kind == name and (not cap.subjects or subject in cap.subjects):
                    watch = shared.get((cap.id, subject))
                    if watch is None or not goes_on(watch.cap, cap):
                        watch = Watch(kind, cap, subject, SlidingWindow(cap.window), first=first)
                    watch.amend(cap, first)
                    shared[cap.id, subject] = watch
                    found[lab.id].append(watch)
    return found


def goes_on(cap: Cap, other: Cap) -> bool:
    """Whether a cap is another's continuation, if under another limit."""
    return (cap.id, cap.kind, cap.window) == (other.id, other.kind, other.window)
