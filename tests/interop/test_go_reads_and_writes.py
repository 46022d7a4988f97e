"""A reader and writer of logs that shares no line with ours: Go's checksum database libraries, in treecheck/main.go.

It opens our checkpoints and cosignatures, recomputes our trees from tiles and bundles, and finds what is damaged; and
it makes notes, tiles and proofs that our code has to accept.
"""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agreements import verifier_name
from published_log import PublishedLog
from requirements import require_executable, require_path
from world import World

from pacekeeper.client.fetch_directory import DirectorySource
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, parse_checkpoint
from pacekeeper.protocol.tlog.follow import TreeReader
from pacekeeper.protocol.tlog.merkle import check_consistency, check_inclusion, leaf_hash
from pacekeeper.protocol.tlog.note import COSIGNATURE_V1, ED25519, NoteKey, format_vkey, open_note, parse_vkey
from pacekeeper.protocol.tlog.tiles import ENTRIES
from pacekeeper.protocol.tlog.witness import AddCheckpoint, format_request

SOURCE = Path(__file__).with_name("treecheck")
GO_PATH = Path("/usr/share/gocode")  # where Debian's golang-golang-x-mod-dev puts its sources


@pytest.fixture(scope="session")
def treecheck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built from its source and Debian's libraries, without any network."""
    go = require_executable("go")
    require_path(GO_PATH / "src/golang.org/x/mod/sumdb/tlog/tlog.go", "Debian's golang-golang-x-mod-dev")
    directory = tmp_path_factory.mktemp("go")
    binary = directory / "treecheck"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "GOPATH": str(GO_PATH),
        "GO111MODULE": "off",
        "GOCACHE": str(directory / "cache"),
        "GOPROXY": "off",
    }
    subprocess.run([go, "build", "-o", binary, "."], cwd=SOURCE, env=environment, check=True, timeout=240)
    return binary


def run(treecheck: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([treecheck, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)


def read(treecheck: Path, log: PublishedLog, parties: Sequence[str]) -> subprocess.CompletedProcess[str]:
    agreement = log.world.agreement
    witnesses = [format_vkey(party.verifier.cosign_key) for party in agreement.parties if party.id in parties]
    return run(treecheck, "read", log.directory, format_vkey(agreement.log.key), *witnesses)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700, 65_536 + 256 + 3])
def test_go_reads_our_trees(treecheck: Path, tmp_path: Path, size: int) -> None:
    """Every entry is where the checkpoint says, and every past tree led to this one."""
    entries = [b"%d " % index * (index % 40) for index in range(size)]
    log = PublishedLog(World(), tmp_path / "log", entries=entries)
    done = read(treecheck, log, log.parties)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    checkpoint = parse_checkpoint(open_note(log.read("checkpoint"), [log.world.agreement.log.key])[0].text)
    assert (result["origin"], result["size"], result["root"]) == (checkpoint.origin, size, checkpoint.root.hex())
    assert result["entries"] == size
    assert result["past"] >= min(size, 40)
    assert result["signers"] == [log.world.agreement.log.key.name, *(verifier_name(party) for party in log.parties)]


def test_go_tells_known_cosigners_from_unknown(treecheck: Path, tmp_path: Path) -> None:
    """SPEC note-9: signatures by keys that a reader does not know are ignored, and there may be many."""
    log = PublishedLog(World(), tmp_path / "log")
    some = log.parties[:2]
    result = json.loads(read(treecheck, log, some).stdout)
    assert result["signers"][1:] == [verifier_name(party) for party in some]
    assert result["unknown"] == len(log.parties) - len(some)


def test_go_refuses_a_cosignature_that_does_not_verify(treecheck: Path, tmp_path: Path) -> None:
    """SPEC note-11: as we do, it takes nothing from a note in which a known key's signature is wrong."""
    log = PublishedLog(World(), tmp_path / "log")
    note = log.read("checkpoint").decode().split("\n")
    line = next(at for at, text in enumerate(note) if text.startswith("— " + verifier_name(log.parties[0])))
    head, _, encoded = note[line].rpartition(" ")
    damaged = bytearray(base64.b64decode(encoded))
    damaged[-1] ^= 1
    note[line] = f"{head} {base64.b64encode(damaged).decode()}"
    log.put("checkpoint", "\n".join(note).encode())
    done = read(treecheck, log, log.parties)
    assert done.returncode == 1
    with pytest.raises(Refused) as caught:
        open_note(log.read("checkpoint"), [party.verifier.cosign_key for party in log.world.agreement.parties])
    assert caught.value.code is Code.BAD_SIGNATURE
    # Who does not know that key takes the rest.
    assert read(treecheck, log, log.parties[1:]).returncode == 0


def test_go_finds_a_flipped_byte_in_any_file(treecheck: Path, tmp_path: Path) -> None:
    """SPEC tiles-8, tiles-10, tiles-11: what we publish can be checked by others, byte for byte."""
    log = PublishedLog(World(), tmp_path / "log", entries=[b"entry %d" % index for index in range(300)])
    chance = random.Random(20)
    for path in log.files():
        good = log.read(path)
        bad = bytearray(good)
        at = chance.randrange(len(bad) if path != "checkpoint" else good.index(b"\n\n"))
        bad[at] ^= 1 << chance.randrange(7)
        log.put(path, bytes(bad))
        assert read(treecheck, log, log.parties).returncode == 1, (path, at)
        log.put(path, good)
    assert read(treecheck, log, log.parties).returncode == 0


def written(treecheck: Path, directory: Path, size: int, seed: int) -> dict[str, Any]:
    done = run(treecheck, "write", directory, size, "example.org/written-in-go", seed)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def read_all(directory: Path, checkpoint: Checkpoint) -> list[bytes]:
    """Every entry of a static log, each checked, as our audit reads it."""
    source = DirectorySource(directory)
    reader = TreeReader(checkpoint)
    entries: list[bytes] = []
    wanted = list(reader.wanted())
    for path in wanted:
        data = source.read(str(path))
        assert data is not None, path
        if path.level == ENTRIES:
            tile = source.read(str(path._replace(level=0)))
            entries += reader.consume_bundle(path.index, path.width, data, tile)
        elif path.level:
            reader.consume_tile(path.level, path.index, path.width, data)
    reader.finish()
    return entries


@pytest.mark.parametrize(("size", "seed"), [(1, 1), (256, 2), (257, 3), (1_000, 4), (66_000, 5)])
def test_we_read_a_log_written_in_go(treecheck: Path, tmp_path: Path, size: int, seed: int) -> None:
    """Its note opens under its vkey, its tree is the one that its entries make, and its proofs hold."""
    made = written(treecheck, tmp_path, size, seed)
    key = parse_vkey(made["vkey"])
    assert format_vkey(key) == made["vkey"]
    note, signers = open_note((tmp_path / "checkpoint").read_bytes(), [key])
    assert signers == (key,)
    checkpoint = parse_checkpoint(note.text)
    assert (checkpoint.size, checkpoint.root.hex()) == (size, made["root"])
    entries = read_all(tmp_path, checkpoint)
    assert len(entries) == size
    for index, proof in made["inclusion"].items():
        hashes = [base64.b64decode(line) for line in proof]
        check_inclusion(leaf_hash(entries[int(index)]), int(index), size, hashes, checkpoint.root)
        with pytest.raises(Refused):
            check_inclusion(leaf_hash(b"another"), int(index), size, hashes, checkpoint.root)
    for past, proof in made["consistency"].items():
        hashes = [base64.b64decode(line) for line in proof]
        check_consistency(int(past), bytes.fromhex(made["past_roots"][past]), size, checkpoint.root, hashes)
        if hashes:
            with pytest.raises(Refused):
                check_consistency(
                    int(past), bytes.fromhex(made["past_roots"][past]), size, checkpoint.root, hashes[:-1]
                )


def test_one_key_has_one_hash_for_each_use(treecheck: Path, tmp_path: Path) -> None:
    """SPEC note-6: the algorithm is part of what is hashed, in both implementations."""
    key = parse_vkey(written(treecheck, tmp_path, 1, 6)["vkey"])
    assert key.algorithm == ED25519
    assert NoteKey(key.name, COSIGNATURE_V1, key.public_key).hash != key.hash


def test_our_witness_cosigns_a_log_written_in_go(treecheck: Path, tmp_path: Path) -> None:
    """SPEC witness-5, witness-7: it follows the log by Go's consistency proofs, and Go then reads our cosignature."""
    origin, seed = "example.org/written-in-go", 9
    home = tmp_path / "witness"
    pacekeeper("witness", "init", home, "--name", "witness.example/one", "--listen", "127.0.0.1:0")
    config = home / "witness.toml"
    old = 0
    for size in (5, 300, 1_000):
        log = tmp_path / str(size)
        done = run(treecheck, "grow", old, log, size, origin, seed)
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        if not old:
            pacekeeper("witness", "add-log", config, made["vkey"])
        proof = tuple(base64.b64decode(line) for line in made["consistency"].get(str(old), []))
        note = (log / "checkpoint").read_bytes()
        with witnessing(config) as address:
            if old:
                assert post(address, format_request(AddCheckpoint(0, proof, note))) == (409, f"{old}\n".encode())
                assert post(address, format_request(AddCheckpoint(old, proof[1:], note)))[0] == 422
            status, lines = post(address, format_request(AddCheckpoint(old, proof, note)))
        assert status == 200, lines
        (log / "checkpoint").write_bytes(note + lines)
        ed25519_key = pacekeeper("witness", "keys", config).split("\n")[0]
        done = run(treecheck, "read", log, made["vkey"], ed25519_key)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["signers"] == [origin, "witness.example/one"]
        assert result["unknown"] == 1  # ML-DSA-44, which that library does not have
        old = size


def pacekeeper(*words: object) -> str:
    command = [sys.executable, "-m", "pacekeeper.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@contextmanager
def witnessing(config: Path) -> Iterator[str]:
    """A witness's process, as long as needed; yield its address."""
    ready = config.parent / "state" / "ready"
    process = subprocess.Popen([sys.executable, "-m", "pacekeeper.cli.main", "witness", "serve", str(config)])
    try:
        deadline = time.monotonic() + 60
        while not ready.exists() or not ready.read_text():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield json.loads(ready.read_text())["listen"]
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert not ready.exists()


def post(address: str, body: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://{address}/add-checkpoint", data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
