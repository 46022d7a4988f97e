"""The daemon's status: one JSON file, replaced whole every second, for `lab status` and whoever watches a lab.

It is for people and monitors: nothing is decided by it. `problems` is empty when all is well.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from pacekeeper.node.config import load_settings
from pacekeeper.node.gate import Hold, Throttle
from pacekeeper.node.ledger import Job, Ledger
from pacekeeper.node.permits import Standing
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.units import UINT64_MAX

FILE_NAME: Final = "status.json"


class JobStatus(msgspec.Struct, frozen=True):
    """One running job, and what the gate told it last: "proceed", "throttle" or "hold", why, and since when."""

    job: str
    run: str
    chips: int
    pool: str
    last_period: int
    gate: str = ""  # "" for a job that has not asked since the daemon's start
    reason: str = ""
    since_ms: int | None = None
    flop_per_s: int | None = None
    until_ms: int | None = None  # when something planned changes a hold


class LabStatus(msgspec.Struct, frozen=True):
    """What a lab's daemon says of itself. Times are milliseconds since the epoch."""

    lab: str
    agreement: str
    pid: int
    at_ms: int
    next_period: int | None
    next_due_ms: int | None
    sequence: int
    outbox: int
    log_size: int
    log_ms: int
    last_index: int | None
    last_receipt_ms: int | None
    last_period_attested: int | None
    gaps_owed: list[int]
    corrections_owed: list[int]
    jobs: list[JobStatus]
    runs: list[str]
    problems: list[str]


def describe_job(job: Job, told: Standing | None) -> JobStatus:
    """Return the status of a running job.

    SPEC node-34: what the gate did MUST be in the status: what is held since when and why, and what is slowed to what.
    """
    status = JobStatus(job.id, job.run, job.chips, job.pool, job.last_period)
    if told is None:
        return status
    match told.decision:
        case Hold(reason=reason, until_ms=until_ms):
            gate = {"gate": "hold", "reason": reason, "until_ms": until_ms}
        case Throttle(flop_per_s=flop_per_s, reason=reason):
            gate = {"gate": "throttle", "reason": reason, "flop_per_s": min(flop_per_s, UINT64_MAX)}
        case _:
            gate = {"gate": "proceed"}
    return msgspec.structs.replace(status, since_ms=told.since_ms, **gate)


def describe_uncounted(ledger: Ledger) -> list[str]:
    """Say of each job that could not count everything what it was, until a later period than its last is attested."""
    attested = max(ledger.account_ids, default=-1)
    return [
        f"job {job.id[:8]} of run {job.run} could not count everything from period {job.uncounted_since} on: "
        + (job.notes[0] if job.notes else "it did not say what")
        for job in ledger.jobs.values()
        if job.uncounted_since is not None and (job.last_period >= attested or _is_owed(ledger, job))
    ]


def _is_owed(ledger: Ledger, job: Job) -> bool:
    """Whether a correction is owed for a period in which the job's count is incomplete."""
    usage = ledger.runs[job.run].usage
    return any(not job.counted_whole(period) and job.id in usage.get(period, {}) for period in ledger.touched)


def write_status(state: Path, status: LabStatus) -> None:
    """Replace the status file. OSError if the disk does not take it."""
    beside = state / f".{FILE_NAME}.{os.getpid()}"
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(status), indent=2) + b"\n")
    beside.replace(state / FILE_NAME)


def read_status(config_path: Path) -> LabStatus | None:
    """Return the last status that the daemon of this configuration wrote, or None if it never ran.

    Its at_ms says how old it is: a daemon that is down leaves its last one. Raises ConfigError, and
    Refused(unsafe-state) for a damaged file.
    """
    path = load_settings(config_path).state / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabStatus)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        raise Refused(Code.UNSAFE_STATE, f"{path} is damaged; remove it, the daemon writes it anew") from None
