"""The journal: a durable, append-only, hash-chained file. It is the lab's memory and its double-sign protection.

File: the magic line, then frames. A frame is

    length   4 bytes, big-endian
    guard    4 bytes: the start of SHA-256(chain before | length), so that a damaged length does not pass for a torn end
    payload  length bytes
    chain    32 bytes: SHA-256(chain before | length | payload); the chain begins as SHA-256(magic)

What append returns for is on disk. A process that dies inside an append leaves a prefix of one frame at the end; it was
never acknowledged, so it is cut off. Everything else that does not verify is damage, and damage is never repaired here:
a lab that forgot what it signed could sign twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from pacekeeper.client.locking import make_durable
from pacekeeper.protocol.errors import Code, Refused

MAGIC: Final = b"pacekeeper-journal-1\n"
MAX_PAYLOAD_BYTES: Final = 131_072  # an envelope with room; a larger length can only be damage
_HEAD_BYTES: Final = 8
_CHAIN_BYTES: Final = 32


def encode_frame(chain: bytes, payload: bytes) -> tuple[bytes, bytes]:
    """Return the frame for payload after the given chain value, and the chain value after it."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a record of {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES}")
    length = len(payload).to_bytes(4, "big")
    after = hashlib.sha256(chain + length + payload).digest()
    return length + _guard(chain, length) + payload + after, after


def _guard(chain: bytes, length: bytes) -> bytes:
    return hashlib.sha256(chain + length).digest()[:4]


class Journal:
    """One open journal, held by an exclusive lock until it is closed."""

    def __init__(self, path: Path) -> None:
        """Open or create the file and lock it. Raises Refused(unsafe-state) when another process holds it.

        Read it with recover() before the first append.
        """
        self.path = path
        self._chain = hashlib.sha256(MAGIC).digest()
        self._end = 0
        self._state = "unread"
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as problem:
            raise Refused(Code.UNSAFE_STATE, f"{path}: cannot be opened: {problem.strerror}") from None
        try:
            self._lock()
        except Refused:
            os.close(self._fd)
            raise

    def _lock(self) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise Refused(Code.UNSAFE_STATE, f"{self.path}: not a regular file")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(Code.UNSAFE_STATE, f"{self.path}: another process is using this journal") from None

    def recover(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, payload) of every whole record, then cut off a torn end; append is possible afterwards.

        Raises Refused(unsafe-state), naming file and offset, at the first byte that does not verify.
        SPEC node-2: a journal with any damage other than an incomplete last frame MUST be refused.
        """
        assert self._state == "unread", "a journal is read once, before anything is appended"
        size = os.fstat(self._fd).st_size
        with open(self._fd, "rb", closefd=False) as file:
            magic = file.read(len(MAGIC))
            if magic != MAGIC[: len(magic)]:
                raise self._damaged(0, "it is not a lab journal")
            if len(magic) == len(MAGIC):
                self._end = len(MAGIC)
                yield from self._frames(file, size)
        self._settle(size)
        self._state = "open"

    def _frames(self, file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
        while size - self._end >= _HEAD_BYTES:
            head = file.read(_HEAD_BYTES)
            length = head[:4]
            count = int.from_bytes(length, "big")
            if head[4:] != _guard(self._chain, length) or count > MAX_PAYLOAD_BYTES:
                raise self._damaged(self._end, "the head of a record does not verify")
            if size - self._end < _HEAD_BYTES + count + _CHAIN_BYTES:
                return
            payload = file.read(count)
            after = hashlib.sha256(self._chain + length + payload).digest()
            if file.read(_CHAIN_BYTES) != after:
                raise self._damaged(self._end, "a record does not match its hash")
            yield self._end, payload
            self._chain = after
            self._end += _HEAD_BYTES + count + _CHAIN_BYTES

    def _settle(self, size: int) -> None:
        """Make what was read the whole and durable file: the torn end goes, a new file gets its first line."""
        try:
            if self._end < size:
                os.ftruncate(self._fd, self._end)
            if self._end == 0:
                self._write(MAGIC)
                self._end = len(MAGIC)
        except OSError as problem:
            raise Refused(Code.UNSAFE_STATE, f"{self.path}: cannot be written: {problem.strerror}") from None
        # The last process may have died between write and fsync: what was read must be on disk before it is used.
        make_durable(self._fd, self.path)

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write records; when this returns they are on disk, in order.

        Raises Refused(overloaded) when they could not be written (a full disk) and nothing of them remains, and
        Refused(unsafe-state) when it is not known what the disk holds; the journal then refuses everything.
        SPEC node-1: a record MUST be on disk before anybody is told of it. SPEC node-3: after an fsync error nothing
        MUST be written or signed until a restart has read the file again.
        """
        if self._state != "open":
            raise Refused(Code.UNSAFE_STATE, f"{self.path}: the journal is {self._state}")
        chain, frames = self._chain, bytearray()
        for payload in payloads:
            frame, chain = encode_frame(chain, payload)
            frames += frame
        try:
            self._write(bytes(frames))
        except OSError as problem:
            self._take_back()
            raise Refused(Code.OVERLOADED, f"{self.path}: cannot be written: {problem.strerror}") from None
        try:
            os.fsync(self._fd)
        except OSError as problem:
            self._state = "unsafe after a failed fsync"
            raise Refused(Code.UNSAFE_STATE, f"{self.path}: fsync failed: {problem.strerror}") from None
        self._chain, self._end = chain, self._end + len(frames)

    def _write(self, data: bytes) -> None:
        position, view = self._end, memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, position)
            position, view = position + written, view[written:]

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._end)
        except OSError as problem:
            self._state = "unsafe after a failed write"
            raise Refused(Code.UNSAFE_STATE, f"{self.path}: cannot be truncated: {problem.strerror}") from None

    def close(self) -> None:
        """Release the file and its lock."""
        if self._state != "closed":
            self._state = "closed"
            os.close(self._fd)

    def _damaged(self, offset: int, what: str) -> Refused:
        self._state = "damaged"
        return Refused(Code.UNSAFE_STATE, f"{self.path}: damaged at byte {offset}: {what}")
