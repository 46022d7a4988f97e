"""A bench's training gate, served on a real socket.

Example: async with Bench.open(tmp_path) as bench, serving(bench, path) as gate: await gate.OpenJob(opening())
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
from lab_bench import Bench, digest, job_id

from pacekeeper.node.training_gate import TrainingGate, start_gate
from pacekeeper.v1 import gate_pb2, gate_pb2_grpc

FRESH = {"initial_state": 1, "initial_digest": digest("fresh")}


@asynccontextmanager
async def serving(bench: Bench, path: Path) -> AsyncIterator[Any]:
    server = await start_gate(path, TrainingGate(bench.desk, bench.book, bench.permits, bench.changes, bench.agreement))
    try:
        async with grpc.aio.insecure_channel("unix:" + quote(str(path))) as channel:
            yield gate_pb2_grpc.TrainingGateStub(channel)
    finally:
        await server.stop(0)


def opening(**changed: Any) -> gate_pb2.OpenJobRequest:
    fields = {"job": job_id(1), "run": "run-1", "chips": 1, "method": 1, "margin_ppm": 20_000, **FRESH, **changed}
    return gate_pb2.OpenJobRequest(**fields)


async def refusal(call: Any) -> str:
    """The code with which a call is refused, or "" if it is not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return (error.details() or "").partition(": ")[0]
    return ""
