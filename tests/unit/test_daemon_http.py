"""Connections of probes: what can be asked on them, and what their ends do, on real sockets of the
loopback.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import pytest

from agent.daemon.http_client import BODY_CAP, Connection, ProbeError
from agent.health.evidence import Failure
from tests.fakes.free_port import free_port

pytestmark = pytest.mark.real_time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def get(connection: Connection, cap: int = BODY_CAP) -> bytes:
    """The answer's body. Raises ProbeError."""
    body = bytearray()
    await connection.body(await connection.ask("/", "x"), body.extend, cap)
    return bytes(body)


@asynccontextmanager
async def peer(
    *pieces: bytes, then: Callable[[asyncio.StreamWriter], object] = lambda _: None
) -> AsyncIterator[int]:
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


async def test_one_connection_carries_one_question_after_the_other() -> None:
    async with peer(ANSWER) as port:
        connection = Connection("127.0.0.1", port)
        for _ in range(3):
            assert await get(connection) == b"ok"
            assert connection.idle
        connection.close()
        assert not connection.idle


@pytest.mark.parametrize("at", [1, 17, 20, 37, 39, len(ANSWER) - 1])
async def test_an_answer_may_come_in_pieces(at: int) -> None:
    async with peer(ANSWER[:at], ANSWER[at:]) as port:
        connection = Connection("127.0.0.1", port)
        assert await get(connection) == b"ok"
        assert connection.idle
        connection.close()


@pytest.mark.parametrize(
    "then",
    [
        lambda writer: writer.close(),
        lambda writer: writer.transport.abort(),
        lambda writer: writer.write(b"more"),
    ],
    ids=["closed", "reset", "unasked bytes"],
)
async def test_what_the_mirror_does_to_an_idle_connection_is_known_before_the_next_question(
    then: Callable[[asyncio.StreamWriter], object],
) -> None:
    async with peer(ANSWER, then=then) as port:
        connection = Connection("127.0.0.1", port)
        assert await get(connection) == b"ok"
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not connection.idle:
                break
        assert not connection.idle
        connection.close()


@pytest.mark.real_time
async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    pieces = (b"HTTP/1.0 200 OK\r\n\r\n", b"all ", b"of it")
    async with peer(*pieces, then=lambda writer: writer.close()) as port:
        with closing(Connection("127.0.0.1", port)) as connection:
            assert await get(connection) == b"all of it"


@pytest.mark.real_time
async def test_an_answer_that_has_no_body_by_its_status_is_not_waited_for() -> None:
    async with peer(b"HTTP/1.1 204 No Content\r\n\r\n") as port:
        with closing(Connection("127.0.0.1", port)) as connection:
            async with asyncio.timeout(10):
                assert await get(connection) == b""


async def test_a_refused_connection_is_told_as_refused() -> None:
    port = free_port()
    ways: tuple[Callable[[Connection], Awaitable[object]], ...] = (Connection.connect, get)
    for connect in ways:
        with pytest.raises(ProbeError) as refused, closing(Connection("127.0.0.1", port)) as connection:
            await connect(connection)
        assert refused.value.failure is Failure.REFUSED


async def test_a_name_is_never_resolved_on_the_loop() -> None:
    with pytest.raises(ProbeError, match="not an address"):
        Connection("registry.example", 80)


async def test_who_gives_up_waits_for_nothing_and_the_descriptor_can_be_used_again() -> None:
    async with peer(ANSWER[:10]) as port:
        connection = Connection("127.0.0.1", port)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await get(connection)
        number = connection._socket.fileno()
        connection.close()
        again = Connection("127.0.0.1", port)
        assert again._socket.fileno() == number
        assert asyncio.get_running_loop().remove_reader(number) is False
        again.close()


@pytest.mark.real_time
async def test_the_end_of_an_idle_connection_is_waited_for() -> None:
    async with peer(ANSWER, then=lambda writer: writer.transport.abort()) as port:
        with closing(Connection("127.0.0.1", port)) as connection:
            await get(connection)
            async with asyncio.timeout(10):
                assert await connection.end() in ("end of file", "Connection reset by peer")


async def test_a_body_may_be_as_long_as_its_cap_and_no_longer() -> None:
    in_chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
    without_length = b"HTTP/1.0 200 OK\r\n\r\nok"
    for answer in (ANSWER, in_chunks, without_length):
        async with peer(answer, then=lambda writer: writer.close()) as port:
            with closing(Connection("127.0.0.1", port)) as connection:
                assert await get(connection, 2) == b"ok"
            with closing(Connection("127.0.0.1", port)) as connection:
                with pytest.raises(ProbeError) as failed:
                    await get(connection, 1)
                assert failed.value.failure is Failure.CONTENT
