"""Connections of probes: what can be asked on them, and what their ends do, on real sockets of the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent.daemon.http import Answer, Connection, ProbeError
from agent.health.evidence import Failure
from tests.fakes.free_port import free_port
from tests.fakes.turning import go, here, result_of, until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def get(connection: Connection) -> Answer:
    """The answer with its body. Raises ProbeError."""
    body = bytearray()

    def begin(told: Callable[[Answer | ProbeError], None]) -> None:
        connection.ask("/", "x", (), body.extend, told)

    found = await result_of(begin)
    if isinstance(found, ProbeError):
        raise found
    return Answer(found.status, found.headers, bytes(body))


@asynccontextmanager
async def peer(*pieces: bytes, then: Callable[[asyncio.StreamWriter], object] = lambda _: None) -> AsyncIterator[int]:
    """A server's port: each request is answered with these pieces, 20 ms apart; `then` is done after that."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0.02)
                then(writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.02)


def test_one_connection_carries_one_question_after_the_other() -> None:
    async def work() -> None:
        async with peer(ANSWER) as port:
            connection = Connection.begin(here(), "127.0.0.1", port)
            for _ in range(3):
                assert (await get(connection)).body == b"ok"
                assert connection.usable
            connection.close()
            assert not connection.usable

    go(work())


@pytest.mark.parametrize("at", [1, 17, 20, 37, 39, len(ANSWER) - 1])
def test_an_answer_may_come_in_pieces(at: int) -> None:
    async def work() -> None:
        async with peer(ANSWER[:at], ANSWER[at:]) as port:
            connection = Connection.begin(here(), "127.0.0.1", port)
            assert (await get(connection)).body == b"ok"
            assert connection.usable
            connection.close()

    go(work())


@pytest.mark.parametrize(
    "then",
    [lambda writer: writer.close(), lambda writer: writer.transport.abort(), lambda writer: writer.write(b"more")],
    ids=["closed", "reset", "unasked bytes"],
)
def test_what_the_mirror_does_to_an_idle_connection_is_known_before_the_next_question(
    then: Callable[[asyncio.StreamWriter], object],
) -> None:
    async def work() -> None:
        async with peer(ANSWER, then=then) as port:
            connection = Connection.begin(here(), "127.0.0.1", port)
            assert (await get(connection)).status == 200
            for _ in range(100):
                await asyncio.sleep(0.01)
                if not connection.usable:
                    break
            assert not connection.usable
            connection.close()

    go(work())


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async def work() -> Answer:
        async with peer(b"HTTP/1.0 200 OK\r\n\r\n", b"all ", b"of it", then=lambda writer: writer.close()) as port:
            connection = Connection.begin(here(), "127.0.0.1", port)
            try:
                return await get(connection)
            finally:
                connection.close()

    assert go(work()).body == b"all of it"


def test_a_refused_connection_is_told_as_refused() -> None:
    async def work() -> None:
        port = free_port()
        connection = Connection.begin(here(), "127.0.0.1", port)
        error = await result_of(connection.stand)
        connection.close()
        assert error is not None
        assert error.failure is Failure.REFUSED
        connection = Connection.begin(here(), "127.0.0.1", port)
        with pytest.raises(ProbeError) as asked:
            await get(connection)
        connection.close()
        assert asked.value.failure is Failure.REFUSED

    go(work())


def test_a_name_is_never_resolved_on_the_loop() -> None:
    async def work() -> None:
        with pytest.raises(ProbeError, match="not an address"):
            Connection.begin(here(), "registry.example", 80)

    go(work())


def test_a_closed_connection_tells_nothing_any_more() -> None:
    async def work() -> None:
        told: list[Answer | ProbeError] = []
        async with peer(ANSWER[:10], ANSWER[10:]) as port:
            connection = Connection.begin(here(), "127.0.0.1", port)
            connection.ask("/", "x", (), lambda _: None, told.append)
            await asyncio.sleep(0.01)
            connection.close()
            await asyncio.sleep(0.05)
        assert told == []

    go(work())


def test_an_answer_that_comes_late_is_told_once() -> None:
    async def work() -> None:
        told: list[Answer | ProbeError] = []
        async with peer(ANSWER[:-1], ANSWER[-1:]) as port:
            connection = Connection.begin(here(), "127.0.0.1", port)
            connection.ask("/", "x", (), lambda _: None, told.append)
            await until(lambda: bool(told))
            await asyncio.sleep(0.05)
            assert [isinstance(one, Answer) for one in told] == [True]
            connection.close()

    go(work())


def test_an_answer_may_close_what_another_one_waits_on() -> None:
    async def work() -> None:
        told: list[Answer | ProbeError] = []
        async with peer(ANSWER) as port:
            both = [Connection.begin(here(), "127.0.0.1", port) for _ in range(2)]

            def hear(found: Answer | ProbeError) -> None:
                told.append(found)
                for connection in both:
                    connection.close()

            for connection in both:
                connection.ask("/", "x", (), lambda _: None, hear)
            await until(lambda: bool(told))
            await asyncio.sleep(0.05)
        assert len(told) == 1

    go(work())


SAME, OTHER = ANSWER, ANSWER.replace(b"ok", b"no")
IN_CHUNKS = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answers", "bodies"),
    [
        ([[SAME]] * 3, [b"ok"] * 3),
        ([[SAME], [OTHER], [SAME]], [b"ok", b"no", b"ok"]),
        ([[SAME], [SAME[:-1], b"k"], [SAME]], [b"ok"] * 3),
        ([[SAME], [SAME[:-1], b"n"], [SAME]], [b"ok", b"on", b"ok"]),
        ([[IN_CHUNKS]] * 3, [b"ok"] * 3),
    ],
    ids=["the same", "another", "in pieces", "another in pieces", "in chunks"],
)
def test_what_is_kept_of_an_answer_stands_for_the_same_bytes_and_for_no_others(
    answers: list[list[bytes]], bodies: list[bytes]
) -> None:
    async def work() -> None:
        left = iter(answers)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for pieces in left:
                await reader.readuntil(b"\r\n\r\n")
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0.02)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            connection = Connection.begin(here(), "127.0.0.1", server.sockets[0].getsockname()[1])
            assert [(await get(connection)).body for _ in answers] == bodies
            connection.close()

    go(work())


def test_what_is_kept_of_an_answer_is_still_held_to_the_cap_of_the_question() -> None:
    async def work() -> None:
        async with peer(ANSWER) as port:
            connection = Connection.begin(here(), "127.0.0.1", port)
            assert (await get(connection)).body == b"ok"

            def begin(told: Callable[[Answer | ProbeError], None]) -> None:
                connection.ask("/", "x", (), lambda _: None, told, 1)

            found = await result_of(begin)
            assert isinstance(found, ProbeError)
            assert found.failure is Failure.CONTENT

    go(work())
