"""The meter's HTTP/2, byte by byte: what it writes, what it takes, and that nothing else is an answer."""

from __future__ import annotations

from collections.abc import Callable

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.node.meters.http2 import (
    MAX_ANSWER_BYTES,
    Answer,
    BrokenConnection,
    ClientConnection,
    FrameKind,
    call_headers,
    format_frame,
)

END_STREAM, END_HEADERS, PADDED, PRIORITY, ACK = 1, 4, 8, 0x20, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS = call_headers("/a.B/C", 2.0)


def block(*fields: tuple[str, str], huffman: bool = True) -> bytes:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(fields, huffman=huffman))


OPENING = format_frame(FrameKind.HEADERS, END_HEADERS, 1, block((":status", "200")))
TRAILERS = format_frame(FrameKind.HEADERS, END_HEADERS | END_STREAM, 1, block(("grpc-status", "0")))


def data(message: bytes, flags: int = 0, stream: int = 1) -> bytes:
    return format_frame(FrameKind.DATA, flags, stream, b"\0" + len(message).to_bytes(4, "big") + message)


def refusal(*fields: tuple[str, str]) -> bytes:
    """What a server sends that has no message: one header block."""
    return format_frame(FrameKind.HEADERS, END_HEADERS | END_STREAM, 1, block((":status", "200"), *fields))


def begun(message: bytes = b"question") -> ClientConnection:
    connection = ClientConnection()
    connection.begin(HEADERS, message)
    return connection


def frames(written: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each frame."""
    found = []
    while written:
        end = 9 + int.from_bytes(written[:3], "big")
        found.append((written[3], written[4], int.from_bytes(written[5:9], "big"), written[9:end]))
        written = written[end:]
    return found


def test_a_call_is_a_preface_settings_headers_and_a_message() -> None:
    written = begun().outgoing()
    assert written.startswith(PREFACE)
    setting, headers, body = frames(written.removeprefix(PREFACE))
    assert setting == (FrameKind.SETTINGS, 0, 0, bytes.fromhex("000100000000 000200000000"))  # no table, no push
    assert headers[:3] == (FrameKind.HEADERS, END_HEADERS, 1)
    assert {str(name): str(value) for name, value in hpack.Decoder().decode(headers[3])} == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/a.B/C",
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": "2000m",
    }
    assert body == (FrameKind.DATA, END_STREAM, 1, b"\0\0\0\0\x08question")


def test_answers_follow_each_other_on_one_connection() -> None:
    connection = begun()
    assert connection.receive(OPENING) is None
    assert not connection.receive(data(b"one"))
    assert connection.receive(TRAILERS) == Answer(0, "", b"one")
    connection.outgoing()
    connection.begin(HEADERS, b"again")
    assert [frame[2] for frame in frames(connection.outgoing())] == [3, 3]
    second = b"".join(part[:8] + b"\3" + part[9:] for part in (OPENING, data(b"two"), TRAILERS))
    assert connection.receive(second) == Answer(0, "", b"two")
    assert connection.reusable


@pytest.mark.parametrize("huffman", [True, False])
def test_a_refusal_has_the_daemons_words(huffman: bool) -> None:
    fields = ((":status", "200"), ("grpc-status", "9"), ("grpc-message", "too-large: 5%25 of %C3%BCber"))
    answer = format_frame(FrameKind.HEADERS, END_HEADERS | END_STREAM, 1, block(*fields, huffman=huffman))
    assert begun().receive(answer) == Answer(9, "too-large: 5% of über", b"")


def test_padding_priority_continuations_and_unknown_frames_change_nothing() -> None:
    fields = block((":status", "200"))
    prefix = b"\2" + b"\0\0\0\0\1"
    answer = (
        format_frame(0xAA, 0xFF, 7, b"of the future")
        + format_frame(FrameKind.HEADERS, PADDED | PRIORITY, 1, prefix + fields[:1] + b"\0\0")
        + format_frame(FrameKind.CONTINUATION, END_HEADERS, 1, fields[1:])
        + format_frame(FrameKind.DATA, PADDED, 1, b"\3" + b"\0\0\0\0\2ok" + b"\0\0\0")
        + TRAILERS
    )
    assert begun().receive(answer) == Answer(0, "", b"ok")


@given(st.lists(st.integers(min_value=1, max_value=20), max_size=40))
def test_it_does_not_matter_where_reads_end(cuts: list[int]) -> None:
    whole = format_frame(FrameKind.SETTINGS, 0, 0, b"") + OPENING + data(b"ok") + TRAILERS
    connection = begun()
    answers = []
    for cut in [*cuts, len(whole)]:
        answers.append(connection.receive(whole[:cut]))
        whole = whole[cut:]
        if not whole:
            break
    assert [answer for answer in answers if answer is not None] == [Answer(0, "", b"ok")]


def test_pings_and_settings_are_acknowledged_with_the_next_call() -> None:
    connection = begun()
    connection.outgoing()
    connection.receive(
        format_frame(FrameKind.PING, 0, 0, b"12345678")
        + format_frame(FrameKind.PING, ACK, 0, b"mine")
        + format_frame(FrameKind.SETTINGS, 0, 0, b"\0\3\0\0\0\1")
        + format_frame(FrameKind.SETTINGS, ACK, 0, b"")
    )
    assert connection.outgoing() == b""
    connection.receive(OPENING + data(b"ok") + TRAILERS)
    connection.begin(HEADERS, b"again")
    assert frames(connection.outgoing())[:2] == [
        (FrameKind.PING, ACK, 0, b"12345678"),
        (FrameKind.SETTINGS, ACK, 0, b""),
    ]


def test_a_long_request_keeps_to_the_peers_windows() -> None:
    """RFC 9113, 5.2: no more than both windows allow; a smaller initial window takes room back."""
    message = bytes(100_000)
    connection = begun(message)
    connection.outgoing()

    def sent(*received: bytes) -> int:
        connection.receive(b"".join(received))
        pieces = [frame for frame in frames(connection.outgoing()) if frame[0] == FrameKind.DATA]
        assert all(len(piece[3]) <= 16_384 for piece in pieces)
        assert all(not piece[1] & END_STREAM for piece in pieces[:-1])
        return sum(len(piece[3]) for piece in pieces)

    def window(stream: int, more: int) -> bytes:
        return format_frame(FrameKind.WINDOW_UPDATE, 0, stream, more.to_bytes(4, "big"))

    smaller = format_frame(FrameKind.SETTINGS, 0, 0, b"\0\4" + (65_535 - 1_000).to_bytes(4, "big"))
    assert sent(window(0, 50_000)) == 0  # the stream's own window is spent
    assert sent(smaller, window(1, 1_000)) == 0
    assert sent(window(1, 1)) == 1
    assert not connection.reusable
    assert sent(window(1, 2**20)) == len(message) + 5 - 65_535 - 1
    assert connection.reusable is True


def test_the_connections_own_window_is_opened_again() -> None:
    connection = ClientConnection()
    opened = 0
    for number in range(201):
        connection.begin(HEADERS, b"")
        written = connection.outgoing().removeprefix(PREFACE)
        opened += sum(
            int.from_bytes(frame[3], "big") for frame in frames(written) if frame[0] == FrameKind.WINDOW_UPDATE
        )
        stream = 2 * number + 1
        answer = b"".join(
            part[:5] + stream.to_bytes(4, "big") + part[9:] for part in (OPENING, data(bytes(1_000)), TRAILERS)
        )
        assert connection.receive(answer) is not None
    assert 200 * 1_005 - 65_535 < opened <= 200 * 1_005


def test_a_peer_that_leaves_answers_what_it_took() -> None:
    leaving = format_frame(FrameKind.GOAWAY, 0, 0, (1).to_bytes(4, "big") + bytes(4))
    connection = begun()
    assert connection.receive(leaving + OPENING + data(b"ok") + TRAILERS) == Answer(0, "", b"ok")
    assert not connection.reusable


BROKEN: dict[str, Callable[[], bytes]] = {
    "leaves without this call": lambda: format_frame(FrameKind.GOAWAY, 0, 0, bytes(8)),
    "reset with code 7": lambda: format_frame(FrameKind.RST_STREAM, 0, 1, (7).to_bytes(4, "big")),
    "a push": lambda: format_frame(FrameKind.PUSH_PROMISE, END_HEADERS, 1, bytes(4)),
    "longer than is allowed": lambda: (16_385).to_bytes(3, "big") + bytes(6),
    "interrupted": lambda: format_frame(FrameKind.HEADERS, 0, 1, b"\x88") + format_frame(FrameKind.PING, 0, 0, b""),
    "goes on where none began": lambda: format_frame(FrameKind.CONTINUATION, END_HEADERS, 1, b"\x88"),
    "of two streams": lambda: (
        format_frame(FrameKind.HEADERS, 0, 1, b"\x88") + format_frame(FrameKind.CONTINUATION, 4, 3, b"")
    ),
    "too long": lambda: (
        format_frame(FrameKind.HEADERS, 0, 1, b"") + 2 * format_frame(FrameKind.CONTINUATION, 0, 1, bytes(16_384))
    ),
    "an answer to no call": lambda: data(b"", stream=3),
    "padding is longer": lambda: format_frame(FrameKind.DATA, PADDED, 1, b"\5abc"),
    "settings are cut": lambda: format_frame(FrameKind.SETTINGS, 0, 0, b"\0\4\0"),
    "cannot be read": lambda: format_frame(FrameKind.HEADERS, END_HEADERS, 1, b"\xbe"),  # of a dynamic table
    "an answer is cut": lambda: TRAILERS,
    "not gRPC's; HTTP status 200": refusal,
    "no status that is one": lambda: refusal(("grpc-status", "-1")),
    "not one message": lambda: OPENING + TRAILERS,
    "without compression": lambda: OPENING + format_frame(FrameKind.DATA, 0, 1, b"\1\0\0\0\0") + TRAILERS,
    "longer than any should be": lambda: OPENING + b"".join(data(bytes(16_000)) for _ in range(3)),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_what_is_no_answer_breaks_the_connection(sentence: str) -> None:
    assert MAX_ANSWER_BYTES < 3 * 16_000
    expected = "does not take this call" if sentence == "leaves without this call" else sentence
    with pytest.raises(BrokenConnection, match=expected):
        begun().receive(BROKEN[sentence]())


_FRAMES = st.builds(
    format_frame,
    st.sampled_from([*FrameKind, 0xAA]),
    st.integers(min_value=0, max_value=255),
    st.sampled_from([0, 1, 3]),
    st.binary(max_size=40),
)


@settings(max_examples=300)
@given(st.lists(st.one_of(_FRAMES, st.binary(max_size=30), st.just(OPENING)), max_size=6))
def test_no_bytes_end_a_call_in_another_way(pieces: list[bytes]) -> None:
    connection = begun()
    for piece in pieces:
        try:
            if connection.receive(piece) is not None:
                return
        except BrokenConnection:
            return
