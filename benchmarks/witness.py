"""The public witness: checkpoints a second that it cosigns with both keys, each on disk before it is signed.

The witness is a process of its own, reached over one kept connection on loopback. Every request is a tree one entry
larger than the one before, with its consistency proof. The disk is waited for, so that the figure is wall time.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.support.figures import Figure, Figures
from benchmarks.support.probes import Probes, cpu_s
from pacekeeper.client.keyfiles import create_key, create_mldsa_key
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.merkle import HashTree, leaf_hash
from pacekeeper.protocol.tlog.note import ED25519, NoteKey, format_vkey
from pacekeeper.protocol.tlog.witness import AddCheckpoint, format_request

BOUND_PER_S: Final = 250.0
ORIGIN: Final = "bench.example/log"
FROM_SIZE: Final = 1_000
_READY_S: Final = 60.0


@dataclass(frozen=True)
class Config:
    """rounds of requests, with a probe before each; the figure is the median round's."""

    rounds: int
    requests: int


TINY: Final = Config(rounds=1, requests=5)
QUICK: Final = Config(rounds=3, requests=200)
FULL: Final = Config(rounds=7, requests=500)


def measure(config: Config, work: Path) -> Figures:
    """Start a witness and have it cosign one growing tree."""
    bodies = _requests(config.rounds * config.requests)
    settings = _settings(work)
    probes = Probes(work)
    command = [sys.executable, "-m", "pacekeeper.cli.main", "witness", "serve", str(settings)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # what it logs is not part of the report
    try:
        connection = http.client.HTTPConnection(_address(work / "state" / "ready", process), timeout=30)
        rates, cpu_us = [], []
        for at in range(config.rounds):
            probes.take()
            some = bodies[at * config.requests : (at + 1) * config.requests]
            cpu, start = cpu_s(process.pid), time.perf_counter()
            for body in some:
                _ask(connection, body)
            rates.append(len(some) / (time.perf_counter() - start))
            cpu_us.append((cpu_s(process.pid) - cpu) / len(some) * 1e6)
        connection.close()
    finally:
        process.terminate()
        process.wait(30)
    raw = probes.said()
    return Figures(
        "witness",
        "a witness's process, one connection on loopback, Ed25519 and ML-DSA-44, SQLite FULL",
        (
            Figure("checkpoints cosigned", median(rates), "a second", raw, BOUND_PER_S, at_least=True),
            Figure("the witness's CPU for one", median(cpu_us), "us", raw),
        ),
    )


def _requests(count: int) -> list[bytes]:
    key = SigningKey(bytes(32))
    tree = HashTree(leaf_hash(b"%d" % index) for index in range(FROM_SIZE + count))
    bodies: list[bytes] = []
    for size in range(FROM_SIZE, FROM_SIZE + count):
        old = size - 1 if bodies else 0
        proof = tuple(tree.prove_consistency(old, size)) if old else ()
        note = sign_checkpoint(Checkpoint(ORIGIN, size, tree.root(size)), ORIGIN, key)
        bodies.append(format_request(AddCheckpoint(old, proof, note)))
    return bodies


def _settings(work: Path) -> Path:
    create_key(work / "cosign.key")
    create_mldsa_key(work / "cosign-mldsa.key")
    log_key = format_vkey(NoteKey(ORIGIN, ED25519, SigningKey(bytes(32)).public))
    path = work / "witness.toml"
    path.write_text(
        'name = "bench.example/witness"\nstate = "state"\nlisten = "127.0.0.1:0"\n'
        'key = "cosign.key"\nmldsa_key = "cosign-mldsa.key"\n'
        f'[[logs]]\norigin = "{ORIGIN}"\nkeys = ["{log_key}"]\n'
    )
    return path


def _address(ready: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _READY_S
    while not ready.exists() or not ready.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the witness did not start")
        time.sleep(0.02)
    return str(json.loads(ready.read_text())["listen"])


def _ask(connection: http.client.HTTPConnection, body: bytes) -> None:
    connection.request("POST", "/add-checkpoint", body)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {text.decode()}")
