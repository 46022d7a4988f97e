"""A program that lives one life of a log's store and says on standard output what happened, line by line.

Started once, it forks for each directory that it reads from standard input; the fork says its pid, waits for a line on
the pipe DIRECTORY/go, so that strace can be attached to it, and then:

    opened | committed SIZE | published NUMBER | refused | closed | done       in order of events
    written after a failure                                                    never, it is to be hoped

After a refusal it tries to write once more, as a careless caller would.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from pacekeeper.log.store import sqlite
from pacekeeper.log.store.port import Batch, Head, Slot
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol.errors import Refused

COMMITS = 4
ENTRIES = 3
BYTES = 3_000  # of an entry: a batch spills over a page


def entry(index: int) -> bytes:
    """The entry with this index in every life."""
    return hashlib.sha256(b"%d" % index).digest() * (BYTES // 32)


def batch(first: int) -> Batch:
    """The batch that begins at this index in every life."""
    entries = [entry(index) for index in range(first, first + ENTRIES)]
    ids = [hashlib.sha256(one).digest() for one in entries]
    slots = [Slot("lab", first + position + 1, first + position) for position in range(ENTRIES)]
    return Batch(first, entries, ids, slots, Head(first + ENTRIES, hashlib.sha256(b"".join(ids)).digest(), first))


def note(number: int) -> bytes:
    """The published note of this number in every life."""
    return b"note %d" % number


def live(directory: Path) -> None:
    """Open, commit and publish by turns, close."""
    # Small enough that the journal is moved into the file in the middle of a life.
    sqlite.JOURNAL_BYTES = 55_000  # type: ignore[misc]
    store: SqliteStore | None = None
    try:
        store = SqliteStore(directory / "log.sqlite")
        say("opened")
        for number in range(COMMITS):
            done = batch(number * ENTRIES)
            store.commit(done, store.head())
            say(f"committed {done.head.size}")
            if number % 2:
                store.publish(note(number))
                say(f"published {number}")
    except Refused:
        say("refused")
        if store is not None:
            careless(store)
    try:
        if store is not None:
            store.close()
            say("closed")
    except Refused:
        say("refused")
    say("done")


def careless(store: SqliteStore) -> None:
    """Write after a failure."""
    try:
        store.publish(b"careless")
    except Refused:
        return
    say("written after a failure")


def say(what: str) -> None:
    os.write(1, what.encode() + b"\n")


def main() -> None:
    for line in sys.stdin:
        directory = Path(line.strip())
        child = os.fork()
        if child == 0:
            say(str(os.getpid()))
            with open(directory / "go", encoding="ascii") as go:
                go.readline()
            try:
                live(directory)
            except BaseException as error:  # noqa: BLE001  whatever it is, the test is to see it
                say(f"crashed {error!r}")
            os._exit(0)
        os.waitpid(child, 0)
        say("ended")


if __name__ == "__main__":
    main()
