"""The whole examination: the checks in the order in which a failure explains the ones after it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path

from pacekeeper.cli.doctor.check import Check, fail, ok
from pacekeeper.cli.doctor.copies import check_copies
from pacekeeper.cli.doctor.epochs import check_epochs
from pacekeeper.cli.doctor.keys import check_keys
from pacekeeper.cli.doctor.lab import check_lab
from pacekeeper.cli.doctor.machine import check_disk, check_ports, check_python, check_state
from pacekeeper.cli.doctor.reach import check_checkpoint_over_http, check_http_clock, check_log, check_verifiers
from pacekeeper.cli.doctor.subject import Subject, open_subject
from pacekeeper.client.errors import ConfigError


def examine(config_path: Path, *, offline: bool = False) -> Iterator[Check]:
    """Yield every check of a role as it is made; offline leaves out what asks others. Nothing is written.

    SPEC cli-11: the doctor MUST go on after a failed check with all that does not depend on it.
    """
    try:
        subject = open_subject(config_path)
    except ConfigError as error:
        yield fail("config", str(error), "correct the file; `pacekeeper ROLE init` writes a commented one")
        yield from check_python()
        return
    yield ok("config", f"{config_path} is the configuration of a {subject.role}")
    yield _bundle(subject)
    yield from check_keys(subject, datetime.datetime.now(datetime.UTC))
    yield from check_state(subject)
    yield check_disk(subject)
    yield from check_ports(subject)
    if subject.lab is not None:
        yield from check_lab(subject)
    yield from check_copies(subject)
    if subject.bundle is not None and not offline:
        agreement = subject.bundle.agreement
        yield from check_log(subject, subject.bundle)
        yield from check_epochs(subject)
        yield from check_checkpoint_over_http(subject, agreement, time.time_ns() // 1_000_000)
        yield from check_http_clock(agreement)
        yield from check_verifiers(subject, agreement)
    yield from check_python()


def _bundle(subject: Subject) -> Check:
    if subject.bundle is None:
        return fail("bundle", subject.bundle_error, "copy the bundle again from whoever assembled the agreement")
    fingerprint = subject.bundle.agreement.fingerprint.hex()
    return ok("bundle", f"the agreement's fingerprint is {fingerprint}; compare it with what the parties published")
