"""Requests from the command line to the daemon: one file each, taken in by whoever holds the journal.

The command line never opens the journal and never sees the key. It leaves a request; the daemon answers with a file
beside it. A request that is left while no daemon runs is taken at its next start.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec

from pacekeeper.node.desk import Desk
from pacekeeper.node.runs import RunPlan
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import printable

_FOLDER: Final = "requests"
_MAX_BYTES: Final = 16_384


class DeclareRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Declare a run."""

    run: str
    title: str
    initial_state: int
    initial_digest: Annotated[str, msgspec.Meta(pattern=r"^(?:[0-9a-f]{64})?\Z")]


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """What came of it: an empty code for yes."""

    code: str = ""
    message: str = ""


def leave_request(state: Path, plan: RunPlan) -> Path:
    """Leave a request to declare a run; return the path at which its answer will be."""
    folder = state / _FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    answer = folder / f"{plan.run}.answer"
    answer.unlink(missing_ok=True)
    request = DeclareRequest(plan.run, plan.title, plan.initial_state, plan.initial_digest.hex())
    _replace(folder / f"{plan.run}.request", msgspec.json.encode(request))
    return answer


def read_answer(path: Path) -> Answer | None:
    """Return the daemon's answer, if there is one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Answer)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        raise Refused(Code.UNSAFE_STATE, f"{path} is damaged; remove it") from None


def answer_requests(state: Path, desk: Desk) -> None:
    """Carry out what was requested, and answer."""
    folder = state / _FOLDER
    if not folder.is_dir():
        return
    for path in sorted(folder.glob("*.request")):
        try:
            _carry_out(path, desk)
            answer = Answer()
        except Refused as refused:
            answer = Answer(refused.code, refused.message)
        _replace(path.with_suffix(".answer"), msgspec.json.encode(answer))
        path.unlink(missing_ok=True)


def _carry_out(path: Path, desk: Desk) -> None:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    try:
        request = msgspec.json.decode(data, type=DeclareRequest)
    except msgspec.DecodeError as error:
        raise Refused(Code.MALFORMED, f"not a request: {printable(str(error))}") from None
    desk.declare(RunPlan(request.run, request.title, request.initial_state, bytes.fromhex(request.initial_digest)))


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(data)
    beside.replace(path)
