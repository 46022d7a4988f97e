"""Refusals across gRPC: how a server states one, and how a client tells it from a failure that passes.

A server ends a refused call with a status whose details are "code: sentence" of the refusal; `abort` does it. A client
turns whatever ended a call into Refused (final: the same call will be refused again) or TemporaryFailure.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

import grpc

from pacekeeper.client.errors import Outage, TemporaryFailure
from pacekeeper.protocol.errors import Code, Refused

# What a server says about its own condition, not about the request: the same request may succeed later.
TEMPORARY: Final = frozenset({Code.OVERLOADED, Code.NOT_WITNESSED, Code.HALTED, Code.CLOCK_DISAGREES})

_STATUS: Final = {
    Code.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Code.NOT_WITNESSED: grpc.StatusCode.UNAVAILABLE,
    Code.HALTED: grpc.StatusCode.UNAVAILABLE,
    Code.CLOCK_DISAGREES: grpc.StatusCode.FAILED_PRECONDITION,
    Code.WRONG_IDENTITY: grpc.StatusCode.PERMISSION_DENIED,
    Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Code.UNSAFE_STATE: grpc.StatusCode.FAILED_PRECONDITION,
}
# gRPC has no field for it: this is how its TLS library words a certificate that is not the trusted one.
_HANDSHAKE: Final = "CERTIFICATE_VERIFY_FAILED"
_DATES: Final = ("certificate has expired", "certificate is not yet valid")
_MAX_DETAILS: Final = 600  # of a server's words, kept for a person


def status_of(code: Code) -> grpc.StatusCode:
    """Return the gRPC status under which a refusal with this code is sent."""
    return _STATUS.get(code, grpc.StatusCode.INVALID_ARGUMENT)


async def abort(context: grpc.aio.ServicerContext[Any, Any], refused: Refused) -> NoReturn:
    """End a server's call with a refusal; gRPC ends the handler by an exception of its own.

    SPEC transport-12: a refused call MUST end with details of the refusal's code, ": " and its sentence.
    """
    await context.abort(status_of(refused.code), str(refused)[:_MAX_DETAILS])


def failure_of(error: grpc.aio.AioRpcError, server: str) -> Refused | TemporaryFailure:
    """Return what ended a call to a server (named for the message): a refusal, or a failure that may pass."""
    details = (error.details() or "")[:_MAX_DETAILS]
    prefix, separator, sentence = details.partition(": ")
    code = next((code for code in Code if separator and code == prefix), None)
    if code is not None:
        return TemporaryFailure(code, sentence) if code in TEMPORARY else Refused(code, sentence)
    status = error.code()
    if status == grpc.StatusCode.UNAVAILABLE and _HANDSHAKE in details:
        return _untrusted(details, server)
    if status == grpc.StatusCode.DEADLINE_EXCEEDED:
        return TemporaryFailure(Outage.DEADLINE_EXCEEDED, f"{server} did not answer in time")
    if status == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return TemporaryFailure(Code.OVERLOADED, f"{server} is overloaded: {details}")
    if status in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
        return TemporaryFailure(Outage.UNREACHABLE, f"{server} cannot be reached: {details}")
    return TemporaryFailure(Outage.SERVER_ERROR, f"{server} failed with {status.name}: {details}")


def _untrusted(details: str, server: str) -> Refused | TemporaryFailure:
    reason = next((reason for reason in _DATES if reason in details), None)
    if reason is not None:  # by this machine's clock, which may be what is wrong
        return TemporaryFailure(Outage.UNREACHABLE, f"{server}: {reason}; check this machine's clock")
    return Refused(Code.WRONG_NETWORK_PIN, f"{server} does not show the certificate that the agreement pins")
