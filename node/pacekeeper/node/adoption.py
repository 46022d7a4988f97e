"""Adoption: what another signed with the lab's key, before the parties replaced it, stands on the log as the lab's.

Nobody can take it off the log, and its slots are used up for ever. So the lab's chain goes on from it: what of the
lab's own waits for a slot that is taken never comes, and an account that is not the lab's own is corrected openly.
Pure: a part of the ledger's fold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacekeeper.node.ledger_parts import Run, Statement
from pacekeeper.node.records import ADOPTED, Adopted, Delivered, TurnedDown
from pacekeeper.protocol.envelope import identity, pae, parse_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.statements import parse_statement
from pacekeeper.v1 import statements_pb2 as pb

if TYPE_CHECKING:
    from pacekeeper.node.ledger import Ledger

_WHY = "another statement was signed with the lab's former key for this place, and stands on the log"


def adopt(ledger: Ledger, record: Adopted) -> None:
    """Let a foreign statement take its place in the ledger.

    SPEC node-36: the chain MUST go on from what is on the log, what a taken slot displaces MUST NOT be sent again, and
    foreign accounts MUST be corrected from the lab's own journal.
    """
    envelope = parse_envelope(record.envelope)
    statement = parse_statement(envelope)
    statement_id = identity(pae(envelope.payload_type, envelope.payload))
    match statement:
        case pb.ComputeAttestation() | pb.Correction():
            _take_slot(ledger, statement.link, statement_id, record.at_ms)
            period = statement.account.period
            ledger.account_ids[period] = statement_id
            ledger.owed.discard(period)
            ledger.next_period = max(ledger.next_period or 0, period + 1)
            ledger.touched[period] = record.at_ms
        case pb.Gap():
            _take_slot(ledger, statement.link, statement_id, record.at_ms)
            ledger.owed.update(range(statement.first_period, statement.last_period + 1))
            ledger.next_period = statement.last_period + 1
        case pb.RunDeclaration():
            ledger.runs.setdefault(statement.run, Run(statement.run)).declared = True
        case pb.CheckpointRecord():
            pass  # of no state that the lab's own jobs have saved
        case _:
            raise Refused(Code.UNSAFE_STATE, f"a lab does not sign {envelope.payload_type}")
    # Its place on the log is known, as of what was delivered; a receipt of its own it has none.
    place = Delivered(record.at_ms, statement_id, record.index, record.sequenced_at_ms, record.index + 1, b"")
    about = "what another signed with the lab's key"
    ledger.statements[statement_id] = Statement(statement_id, ADOPTED, 0, b"", record.at_ms, about, place)
    ledger.tree_size = max(ledger.tree_size, place.tree_size)


def _take_slot(ledger: Ledger, link: pb.Link, statement_id: bytes, at_ms: int) -> None:
    displaced = ledger.chain_pending
    if displaced is not None and displaced.sequence >= link.sequence:
        del ledger.unsent[displaced.id]
        displaced.turned_down = TurnedDown(at_ms, displaced.id, Code.SEQUENCE_TAKEN, _WHY)
        ledger.refusals.append(displaced.turned_down)
        match parse_statement(parse_envelope(displaced.envelope)):
            case pb.ComputeAttestation(account=account):
                ledger.account_ids.pop(account.period, None)
                if ledger.next_period == account.period + 1:
                    ledger.next_period = account.period
                else:
                    ledger.owed.add(account.period)
            case pb.Correction(account=account, corrects=corrects):
                ledger.account_ids[account.period] = corrects
                ledger.touched[account.period] = at_ms
            case pb.Gap(first_period=first, last_period=last):
                ledger.owed.difference_update(range(first, last + 1))
                ledger.next_period = first
    ledger.sequence, ledger.head, ledger.as_of = link.sequence, statement_id, link.as_of
