"""One function for each kind of value that terms are written in: from TOML's value to a typed one.

Each raises ValueError, or Refused for a key that may not be registered, with a sentence that says what was expected.
SPEC documents-12: a quantity MUST be written with its unit, and be within its bounds; nothing is rounded or assumed.
SPEC documents-13: keys, pins and names MUST be in their one text form.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final

from pacekeeper.protocol import keys, limits, units
from pacekeeper.protocol.tlog.encoding import format_base64, parse_base64
from pacekeeper.protocol.tlog.vkey import NoteKey, parse_vkey

MAX_DURATION_MS: Final = 36_525 * 86_400_000  # a century: longer is a slip of the pen
MAX_WINDOW: Final = 1_000  # periods; bounds what a replay keeps per window
MAX_QUANTITY_CHARS: Final = 32  # 27 digits and " FLOP": decimal arithmetic keeps 28
MAX_NAME_CHARS: Final = 128  # key names and origins
MAX_HOST_CHARS: Final = 253  # the DNS

_IDENT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?:/[a-z0-9][a-z0-9._-]*)*")
_HOST: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]{{2,45}}\])"
_ADDRESS: Final = re.compile(rf"({_HOST}):([1-9][0-9]{{0,4}})")
_URL: Final = re.compile(rf"https?://({_HOST})(?::([1-9][0-9]{{0,4}}))?(?:/[A-Za-z0-9._~-]+)*")
_WINDOW: Final = re.compile(r"([1-9][0-9]{0,3}) periods?")
_LEVEL: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))? ([A-Za-z%][A-Za-z0-9%/-]{0,15})")
_PIN: Final = "sha256:"


def as_text(value: object) -> str:
    """A sentence or name for people."""
    if not isinstance(value, str):
        raise ValueError("expected text in double quotes")
    if not value or value != value.strip() or len(value) > limits.MAX_TEXT_CHARS:
        raise ValueError(f"expected 1 to {limits.MAX_TEXT_CHARS} characters without blanks around them")
    return value


def as_ascii(value: object) -> str:
    """Text for machines; digits of other scripts would pass for digits."""
    text = as_text(value)
    if not text.isascii():
        raise ValueError("expected ASCII characters only")
    return text


def as_ident(value: object) -> str:
    """An id: small letters, digits and hyphens."""
    text = as_ascii(value)
    if _IDENT.fullmatch(text) is None:
        raise ValueError(f'expected an id of 1 to 64 small letters, digits and hyphens, got "{text}"')
    return text


def as_name(value: object) -> str:
    """A schema-less URL such as "example.org/pacekeeper": an origin or the name of a key."""
    text = as_ascii(value)
    if len(text) > MAX_NAME_CHARS or _NAME.fullmatch(text) is None:
        raise ValueError(f'expected a name such as "example.org/pacekeeper", got "{text}"')
    return text


def as_quantity(value: object) -> str:
    """A number and its unit, short enough that decimal arithmetic on it is exact."""
    text = as_ascii(value)
    if len(text) > MAX_QUANTITY_CHARS:
        raise ValueError(f"expected a quantity of at most {MAX_QUANTITY_CHARS} characters")
    return text


def as_duration(value: object) -> int:
    """Milliseconds, at least 1."""
    duration_ms = units.parse_duration(as_quantity(value))
    if not 1 <= duration_ms <= MAX_DURATION_MS:
        raise ValueError("expected more than nothing and at most 36525 d")
    return duration_ms


def as_span(value: object) -> int:
    """Milliseconds, perhaps none: a delay that may be waived."""
    text = as_quantity(value)
    return 0 if units.parse_duration(text) == 0 else as_duration(text)


def as_time(value: object) -> int:
    """Milliseconds since the Unix epoch, not before it."""
    time_ms = units.parse_time(as_quantity(value))
    if not 0 <= time_ms <= limits.MAX_TIME_MS:
        raise ValueError("expected a time from 1970 on")
    return time_ms


def as_flop(value: object) -> int:
    """gigaFLOP, more than zero."""
    gflop = units.parse_flop(as_quantity(value))
    if gflop == 0:
        raise ValueError("expected a limit above zero")
    return gflop


def as_percent(value: object) -> int:
    """Parts per million."""
    return units.parse_percent(as_quantity(value))


def as_rate(value: object) -> int:
    """gigaFLOP per second, more than zero: a rate of nothing is a pause."""
    rate = units.parse_rate(as_quantity(value))
    if rate == 0:
        raise ValueError("expected a rate above zero")
    return rate


def as_level(value: object) -> tuple[int, str]:
    """An indicator's level: millionths of a unit, and the unit, such as "80 %", "12 h" or "8 x"."""
    text = as_quantity(value)
    match = _LEVEL.fullmatch(text)
    if match is None:
        raise ValueError(f'expected a level with its unit, such as "80 %" or "12 h", got "{text}"')
    return int(match[1]) * 1_000_000 + int((match[2] or "").ljust(6, "0")), match[3]


def as_choice(*choices: str) -> Callable[[object], str]:
    """One of a few words."""

    def parse(value: object) -> str:
        text = as_ascii(value)
        if text not in choices:
            known = " or ".join(f'"{word}"' for word in choices)
            raise ValueError(f'expected {known}, got "{text}"')
        return text

    return parse


def as_window(value: object) -> int:
    """A number of periods."""
    text = as_ascii(value)
    match = _WINDOW.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= MAX_WINDOW:
        raise ValueError(f'expected a window such as "30 periods", from 1 to {MAX_WINDOW}, got "{text}"')
    return int(match[1])


def as_public_key(value: object) -> bytes:
    """An Ed25519 public key that may be registered, in its one text form."""
    text = as_ascii(value)
    key = keys.parse_public_key(text)
    if keys.format_public_key(key) != text:
        raise ValueError("key is not in standard base64")
    return key


def as_vkey(algorithm: int) -> Callable[[object], NoteKey]:
    """A verifier key of signed notes, of the algorithm asked for, in its one text form."""

    def parse(value: object) -> NoteKey:
        text = as_ascii(value)
        key = parse_vkey(text)
        if key.algorithm != algorithm:
            raise ValueError(f"expected a verifier key of type {algorithm}, got type {key.algorithm}")
        return key

    return parse


def as_pin(value: object) -> bytes:
    """SHA-256 of a TLS key's SubjectPublicKeyInfo: "sha256:BASE64"."""
    text = as_ascii(value)
    pin = parse_base64(text[len(_PIN) :]) if text.startswith(_PIN) else None
    if pin is None or len(pin) != 32:
        raise ValueError('expected "sha256:" and the base64 of 32 bytes')
    return pin


def format_pin(pin: bytes) -> str:
    """Write an SPKI hash as "sha256:BASE64"."""
    return _PIN + format_base64(pin)


def _is_host(host: str) -> bool:
    last = host.rpartition(".")[2]
    if not host.startswith("[") and not last.isdecimal():
        return len(host) <= MAX_HOST_CHARS
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def as_address(value: object) -> str:
    """host:port, IPv6 in brackets."""
    text = as_ascii(value)
    match = _ADDRESS.fullmatch(text)
    if match is None or not _is_host(match[1]) or int(match[2]) > 65_535:
        raise ValueError(f'expected an address such as "log.example.org:7401", got "{text}"')
    return text


def as_url(value: object) -> str:
    """An http or https URL that paths are appended to with a slash: no query, no slash at its end."""
    text = as_ascii(value)
    match = _URL.fullmatch(text)
    if match is None or not _is_host(match[1]) or int(match[2] or 80) > 65_535:
        raise ValueError(f'expected a URL such as "https://log.example.org/tiles", got "{text}"')
    return text


def as_count(low: int, high: int) -> Callable[[object], int]:
    """A whole number within bounds, both included."""

    def parse(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return parse


def as_idents(value: object) -> tuple[str, ...]:
    """Ids, distinct, at least one."""
    if not isinstance(value, list) or not value:
        raise ValueError('expected a list of ids such as ["borealis", "meridian"]')
    idents = tuple(as_ident(item) for item in value)
    if len(set(idents)) != len(idents):
        raise ValueError("names an id twice")
    return idents
