"""The commented configuration files that `init` writes, and where the keys of a role lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

LOG = """\
# The shared log. Paths are relative to this file.
bundle = "{bundle}"                      # the agreement bundle, from `pacekeeper agreement assemble`
state = "state"                          # the store, and public/ with the static log
listen = "{listen}"                      # gRPC over mutual TLS, for labs and verifiers
http_listen = "{http_listen}"            # the static log over HTTP, for anyone
checkpoint_key = "{keys}/checkpoint.key"
statement_key = "{keys}/statement.key"
next_statement_key = "{keys}/statement.next.key"  # the one that follows it: `pacekeeper log rotate-key` makes it
tls_key = "{keys}/tls.pem"
tls_certificate = "{keys}/tls.crt.pem"
"""

VERIFIER = """\
# The national verifier of party {party}. Paths are relative to this file.
bundle = "{bundle}"                      # the agreement bundle
party = "{party}"
state = "state"                          # the stored log and the witness state: back it up with the keys, never without
listen = "{listen}"                      # gRPC over TLS, for anyone: status and findings
statement_key = "{keys}/statement.key"
next_statement_key = "{keys}/statement.next.key"  # the one that follows it: `pacekeeper verifier rotate-key` makes it
cosign_key = "{keys}/cosign.key"
tls_key = "{keys}/tls.pem"
tls_certificate = "{keys}/tls.crt.pem"
"""

LAB = """\
# The lab node of {lab}. Paths are relative to this file.
bundle = "{bundle}"                      # the agreement bundle
lab = "{lab}"
state = "state"                          # the journal: the lab's memory of what it signed
socket = "state/gate.sock"               # training processes find the daemon here
spool = "state/spool"                    # and leave their accounts here while it is away
key = "{keys}/lab.key"
next_key = "{keys}/lab.next.key"         # where the key that follows it lies: `pacekeeper lab rotate-key` makes it
tls_key = "{keys}/tls.pem"
tls_certificate = "{keys}/tls.crt.pem"
chip_time_margin = "{margin}"               # of the chip-time estimate; the agreement's limit
on_daemon_down = "continue"              # or "hold": what training does while the daemon is away
auto_declare = true                      # whether a job may open a run that nobody declared

[[pools]]                                # all accelerators of the lab, one table per model
model = "{model}"
count = {count}
peak = "{peak}"                          # fastest dense mode of one accelerator
utilisation = "40 %"                     # expected share of the peak, for the chip-time estimate
"""

WITNESS = """\
# A public witness. Paths are relative to this file.
name = "{name}"
state = "state"                          # what was cosigned last: back it up with the keys, never without
listen = "{listen}"                      # HTTP, for anyone
key = "keys/cosign.key"                  # Ed25519; either key may be left out, not both
mldsa_key = "keys/cosign-mldsa.key"      # ML-DSA-44

# One table for each log that is witnessed, as `pacekeeper witness add-log` appends it:
# [[logs]]
# origin = "example.org/log"
# keys = ["example.org/log+f6ea3373+AUD1..."]
"""


def write_checked(config: Path, text: str, check: Callable[[Path], object]) -> None:
    """Write a configuration file and try it; if it does not work it is taken away again, so that init can be repeated.

    SPEC cli-4: a command MUST NOT overwrite a file, and a failed `init` MUST NOT leave a configuration behind.
    """
    from pacekeeper.client.config import write_config

    config.parent.mkdir(parents=True, exist_ok=True)
    write_config(config, text)
    try:
        check(config)
    except BaseException:
        config.unlink()
        raise


def accession_line(accession: Path | None, directory: Path) -> str:
    """The line of a configuration that names a newcomer's accession, none for a founder."""
    return "" if accession is None else f'accession = "{relative(accession, directory)}"   # by which it joins\n'


def relative(target: Path, directory: Path) -> str:
    """A path as a configuration in a directory names it, between its double quotes."""
    return json.dumps(os.path.relpath(target.resolve(), directory.resolve()), ensure_ascii=False)[1:-1]
