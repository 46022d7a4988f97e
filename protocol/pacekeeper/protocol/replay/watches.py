"""Which windows a lab's figures count in, when caps or members change.

A cap is its id, kind and length of window: under another limit its windows go on, and that limit counts for those that
end in the first period to begin after the change or later. A cap that goes judges the windows that end in periods that
had begun, and one that comes counts nothing of what was before: nothing lawful becomes a breach, nor the reverse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pacekeeper.protocol.compute.window import SlidingWindow
from pacekeeper.protocol.documents.model import Agreement, Cap, Lab
from pacekeeper.protocol.replay.facts import ViolationKind
from pacekeeper.protocol.replay.judgements import Watch

_KINDS = ((ViolationKind.LAB_CAP, "lab"), (ViolationKind.PARTY_CAP, "party"))


def watches_of(agreement: Agreement, first: int, before: Mapping[str, list[Watch]]) -> dict[str, list[Watch]]:
    """For each lab the windows that its figures count in; labs of one party share the party's.

    first: the period from which on a new cap or limit counts, and one that goes does not. before: the windows up to
    now, of which those that go on are kept as they are, and those of labs that have left.
    """
    shared = {(watch.cap.id, watch.subject): watch for watch in each_watch(before) if watch.goes_on}
    found = dict(before)
    for lab in agreement.labs:
        present: list[Watch] = []
        for kind, cap, subject in _caps_on(agreement, lab):
            watch = shared.get((cap.id, subject))
            if watch is None:
                watch = shared[cap.id, subject] = Watch(kind, cap, subject, SlidingWindow(cap.window), first=first)
            watch.amend(cap, first)
            present.append(watch)
        ended = [watch for watch in before.get(lab.id, ()) if not any(watch is other for other in present)]
        for watch in ended:
            watch.last = min(watch.last, first - 1)
        found[lab.id] = present + ended
    return found


def each_watch(watches: Mapping[str, list[Watch]]) -> Iterator[Watch]:
    """Yield every window, a party's once for each of its labs."""
    for found in watches.values():
        yield from found


def _caps_on(agreement: Agreement, lab: Lab) -> Iterator[tuple[ViolationKind, Cap, str]]:
    for kind, name in _KINDS:
        for cap in agreement.caps:
            subject = lab.id if name == "lab" else lab.party
            if cap.kind == name and (not cap.subjects or subject in cap.subjects):
                yield kind, cap, subject
