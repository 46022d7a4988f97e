"""The others: the log over gRPC and HTTP, the verifiers, and what their clocks say of ours."""

from __future__ import annotations

import email.utils
import http.client
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import grpc

from pacekeeper.cli.doctor.check import Check, Level, fail, ok, warn
from pacekeeper.cli.doctor.machine import running_role
from pacekeeper.cli.doctor.subject import Subject
from pacekeeper.client.bundle import Bundle
from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.fetch import CHECKPOINT, HttpSource
from pacekeeper.client.keyfiles import read_private
from pacekeeper.client.pins import fetch_certificate
from pacekeeper.client.tls import CHANNEL_OPTIONS, LOG_URI, channel_credentials, verifier_uri
from pacekeeper.protocol.documents.agreement import Agreement, Party
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.protocol.tlog.transitions import transition_path
from pacekeeper.protocol.units import format_duration
from pacekeeper.v1 import log_pb2, log_pb2_grpc, verifier_pb2, verifier_pb2_grpc

DEADLINE_S: Final = 5.0
_WHO: Final = "somebody answers in its place, or the bundle is not the one that it uses: ask its operator"


def check_log(subject: Subject, bundle: Bundle) -> Iterator[Check]:
    """The log's private port: the pinned certificate, and whether it knows ours.

    SPEC cli-12: the doctor MUST take nobody's word who does not show the certificate that the agreement pins.
    """
    address = bundle.agreement.log.address
    try:
        certificate = fetch_certificate(address, LOG_URI, bundle.agreement.log.tls_spki, deadline_s=DEADLINE_S)
    except TemporaryFailure as failure:
        yield _unreachable(subject, failure)
        return
    except Refused as refusal:
        yield fail("log", f"{address}: {refusal.message}", _WHO)
        return
    yield ok("log", f"{address} shows the certificate that the agreement pins")
    if subject.role != "log":
        yield _known_to_the_log(subject, address, certificate)


def _unreachable(subject: Subject, failure: TemporaryFailure) -> Check:
    if subject.role == "log" and running_role(subject.ready) is None:
        return warn("log", failure.message, "this log does not run; start it with `pacekeeper log serve`")
    return fail("log", failure.message, "check the network and the log's address, and ask its operator")


def _known_to_the_log(subject: Subject, address: str, certificate: bytes) -> Check:
    try:
        own = read_private(subject.tls_key), subject.tls_certificate.read_bytes()
        credentials = channel_credentials(certificate, *own)
        with grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS) as channel:
            stub = log_pb2_grpc.TransparencyLogStub(channel)
            status = stub.GetStatus(log_pb2.GetStatusRequest(), timeout=DEADLINE_S)
    except (OSError, Refused, ValueError):
        return fail("log_knows_us", "the log was not asked: our TLS key or certificate is not usable", "see above")
    except grpc.RpcError:
        sentence = f"{address} does not take our calls, though it is reachable"
        return fail("log_knows_us", sentence, "see whether the log runs with the same bundle, which pins our key")
    return ok("log_knows_us", f"the log takes our calls; it has {status.size} entries")


def check_checkpoint_over_http(subject: Subject, agreement: Agreement, now_ms: int) -> Iterator[Check]:
    """The static log: readable, its checkpoint signed by the quorum, and its cosignatures' times near our clock."""
    url = agreement.log.url
    source = HttpSource(url, deadline_s=DEADLINE_S, attempts=1)
    try:
        note = source.read(CHECKPOINT)
        checked = None if note is None else check_checkpoint(note, agreement.policy())
    except TemporaryFailure as failure:
        stopped = subject.role == "log" and running_role(subject.ready) is None
        say = warn if stopped else fail
        yield say("checkpoint", failure.message, "see whether the log runs and its URL is right")
        return
    except Refused as refusal:
        if refusal.code is Code.NO_QUORUM and _verifiers_changed(source):
            sentence = f"{url}: the verifiers have changed since the founding, and this does not follow the changes"
            yield warn("checkpoint", sentence, "audit the log: pacekeeper audit follows every change")
            return
        advice = "do not rely on this log before its operator and the verifiers have explained it"
        yield fail("checkpoint", f"{url}: {refusal.message} ({refusal.code})", advice)
        return
    finally:
        source.close()
    if checked is None:
        yield warn("checkpoint", f"{url} has no checkpoint yet", "a quorum of verifiers has to run first")
        return
    size, count = checked.checkpoint.size, len(checked.cosigners)
    yield ok("checkpoint", f"{url} has {size} entries, cosigned by {count} of {len(agreement.parties)} verifiers")
    yield judge_cosignature_times(agreement, list(checked.cosigners.values()), now_ms)


def _verifiers_changed(source: HttpSource) -> bool:
    """Whether the log has a transition checkpoint: whose cosignatures count is then for an audit to say."""
    try:
        return source.read(transition_path(1)) is not None
    except (TemporaryFailure, Refused):
        return False


def judge_cosignature_times(agreement: Agreement, times_s: list[int], now_ms: int) -> Check:
    """What the quorum's newest cosignatures say of this clock: it cannot be before them, nor long after them."""
    timing = agreement.timing
    newest_ms = sorted(times_s, reverse=True)[agreement.quorum.quorum - 1] * 1000
    ahead_ms = newest_ms - now_ms
    if ahead_ms > timing.tolerance_ms:
        sentence = f"a quorum cosigned {format_duration(ahead_ms // 1000 * 1000)} in this clock's future"
        return warn("clock", sentence, "set the clock; synchronise it with NTP")
    allowed_ms = timing.tick_ms + timing.unwitnessed_ms + timing.tolerance_ms
    if -ahead_ms > allowed_ms:
        sentence = f"the quorum cosigned last {format_duration(-ahead_ms // 1000 * 1000)} ago, by this clock"
        return warn("clock", sentence, "either the log stands still, or this clock is ahead: compare it with another")
    return ok("clock", "the quorum's cosignatures are recent by this clock")


def check_http_clock(agreement: Agreement) -> Iterator[Check]:
    """Compare this clock with the Date that the log's web server sends."""
    parts = urlsplit(agreement.log.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=DEADLINE_S)
    try:
        before_ms = _now_ms()
        connection.request("HEAD", f"{parts.path.rstrip('/')}/{CHECKPOINT}")
        date = email.utils.parsedate_to_datetime(connection.getresponse().getheader("Date") or "")
        after_ms = _now_ms()
    except (OSError, http.client.HTTPException, ValueError):
        return  # whether the log is reachable is said elsewhere
    finally:
        connection.close()
    yield judge_clock("the log's web server", int(date.timestamp() * 1000), before_ms, after_ms, agreement, 1_000)


def judge_clock(who: str, said_ms: int, before_ms: int, after_ms: int, agreement: Agreement, step_ms: int) -> Check:
    """Compare a clock with ours: what it said, in whole steps, between two moments of ours, within the tolerance."""
    tolerance_ms = agreement.timing.tolerance_ms
    low, high = before_ms - step_ms - tolerance_ms, after_ms + tolerance_ms
    if low <= said_ms <= high:
        return ok("clock", f"this clock agrees with that of {who}")
    off_ms = max(said_ms - after_ms, before_ms - step_ms - said_ms)
    way = "behind" if said_ms > after_ms else "ahead of"
    sentence = f"this clock is about {format_duration(off_ms // 1000 * 1000)} {way} that of {who}"
    allowed = format_duration(tolerance_ms)
    return warn("clock", sentence, f"the agreement tolerates {allowed}; synchronise the clock with NTP")


def check_verifiers(subject: Subject, agreement: Agreement) -> Iterator[Check]:
    """Every country's verifier: reachable under its pin, cosigning, and with a clock that agrees with ours."""
    reached = 0
    for party in agreement.parties:
        if subject.role == "verifier" and party.id == subject.holder and running_role(subject.ready) is None:
            yield ok(f"verifier_{party.id}", "this is ours, and it does not run yet")
            continue
        checks = list(_verifier(party, agreement))
        reached += any(check.level is Level.OK for check in checks)
        yield from checks
    if reached < agreement.quorum.quorum:
        sentence = f"{reached} verifiers answer, and the quorum is {agreement.quorum.quorum}"
        yield warn("quorum", sentence, "nothing new is published before a quorum cosigns")


def _verifier(party: Party, agreement: Agreement) -> Iterator[Check]:
    name, terms = f"verifier_{party.id}", party.verifier
    try:
        certificate = fetch_certificate(terms.address, verifier_uri(party.id), terms.tls_spki, deadline_s=DEADLINE_S)
        with grpc.secure_channel(terms.address, channel_credentials(certificate), options=CHANNEL_OPTIONS) as channel:
            stub = verifier_pb2_grpc.NationalVerifierStub(channel)
            before_ms = _now_ms()
            status = stub.GetVerifierStatus(verifier_pb2.GetVerifierStatusRequest(), timeout=DEADLINE_S)
            after_ms = _now_ms()
    except TemporaryFailure as failure:
        yield warn(name, failure.message, "its absence shows in the log; tell its operator")
        return
    except Refused as refusal:
        yield fail(name, f"{terms.address}: {refusal.message}", _WHO)
        return
    except grpc.RpcError:
        yield warn(name, f"{terms.address} does not answer, though it is reachable", "tell its operator")
        return
    if status.refusing:
        yield warn(name, f"{terms.address} refuses to cosign: {status.refusing}", "ask its operator why")
    else:
        yield ok(name, f"{terms.address} answers, with {status.size} entries replayed")
    clock = judge_clock(f"verifier {party.id}", status.clock_ms, before_ms, after_ms, agreement, 0)
    if clock.level is not Level.OK:
        yield clock


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
