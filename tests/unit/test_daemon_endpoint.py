"""The local listeners: what they serve, to whom, and what they refuse."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.daemon.endpoint import Handler, HttpServer, Response
from agent.daemon.tasks import task_group
from tests.fakes.event_loop import daemons_tasks, go, until


@asynccontextmanager
async def serving(
    handler: Handler,
    broken: Callable[[Exception], None] | None = None,
    *,
    check_host: bool = True,
    lacks: Callable[[str], None] | None = None,
) -> AsyncIterator[HttpServer]:
    """A server. Its bugs end the test, if nobody is to be told of them."""
    async with task_group() as tasks:
        server = HttpServer(tasks, handler, broken or fail, check_host=check_host, lacks=lacks)
        yield server
        server.close()


def fail(error: Exception) -> None:
    raise error


def answer(path: str, query: str) -> Response | None:
    return Response(200, b"0123456789") if path == "/thing" else None


async def ask(listener: HttpServer, text: str) -> bytes:
    """Send a request as it is written (with PORT filled in); all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    with contextlib.closing(writer):
        writer.write(text.replace("PORT", str(listener.port)).encode())
        await writer.drain()
        return await reader.read()


def exchange(text: str) -> tuple[str, bytes]:
    """(head, body) of the answer to one request."""

    async def work() -> bytes:
        async with serving(answer) as listener:
            assert listener.listen_tcp("127.0.0.1", 0) == ""
            return await ask(listener, text)

    head, _, body = go(work()).partition(b"\r\n\r\n")
    return head.decode(), body


@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "localhost:PORT", "[::1]:PORT"])
def test_the_node_itself_is_answered(host: str) -> None:
    head, body = exchange(f"GET /thing HTTP/1.1\r\nHost: {host}\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Connection: close" in head
    assert body == b"0123456789"


@pytest.mark.parametrize(
    "host", ["evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.1:PORT.evil.example"]
)
def test_a_page_in_a_browser_cannot_reach_it_by_rebinding_a_name(host: str) -> None:
    assert exchange(f"GET /thing HTTP/1.1\r\nHost: {host}\r\n\r\n")[0].startswith("HTTP/1.1 421 ")


def test_a_request_without_a_host_is_not_for_us() -> None:
    assert exchange("GET /thing HTTP/1.1\r\n\r\n")[0].startswith("HTTP/1.1 421 ")


def test_head_has_the_length_and_no_body() -> None:
    head, body = exchange("HEAD /thing HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n")
    assert "Content-Length: 10" in head
    assert body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "CONNECT", "get"])
def test_nothing_can_be_changed_through_it(method: str) -> None:
    assert exchange(f"{method} /thing HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n")[0].startswith(
        "HTTP/1.1 405 "
    )


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /other HTTP/1.1", 404),
        ("GET /../thing HTTP/1.1", 404),
        ("GET http://127.0.0.1:PORT/thing HTTP/1.1", 200),
        ("GET //[ HTTP/1.1", 400),
        ("GET /thing", 400),
        ("GET /thing HTTP/2.0", 400),
        ("\x16\x03\x01", 400),
    ],
)
def test_odd_request_lines(request_line: str, status: int) -> None:
    assert exchange(f"{request_line}\r\nHost: localhost:PORT\r\n\r\n")[0].startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=8-", 206, b"89"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-12", 416, b""),
        ("bytes=-3", 200, b"0123456789"),
        ("bytes=0-1,4-5", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_dragonfly_may_ask_for_ranges(wanted: str, status: int, body: bytes) -> None:
    head, found = exchange(f"GET /thing HTTP/1.1\r\nHost: localhost:PORT\r\nRange: {wanted}\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert found == body
    assert ("Content-Range" in head) == (status != 200)


def test_a_header_without_an_end_is_given_up() -> None:
    assert exchange("GET /thing HTTP/1.1\r\nX: " + "x" * 20_000) == ("", b"")


@pytest.mark.real_time
async def test_a_client_that_says_nothing_is_given_up_and_many_do_no_harm() -> None:
    async with serving(answer) as listener:
        assert listener.listen_tcp("127.0.0.1", 0) == ""
        silent = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(100)]
        async with asyncio.timeout(60):
            ended = [await reader.read() for reader, _ in silent]
        assert ended == [b""] * 100
        assert b"200 OK" in await ask(listener, "GET /thing HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n")
        for _, writer in silent:
            writer.close()


@pytest.mark.real_time
async def test_a_port_that_is_taken_is_a_reason_and_not_an_end() -> None:
    async with serving(answer) as first, serving(answer) as second:
        assert first.listen_tcp("127.0.0.1", 0) == ""
        assert first.port is not None
        port = first.port
        assert second.listen_tcp("127.0.0.1", port) == "in use"
        assert second.port is None
        first.close()
        assert second.listen_tcp("127.0.0.1", port) == ""


@pytest.mark.real_time
async def test_the_unix_socket_is_for_the_owner_and_the_group_and_survives_a_stale_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "api.sock"
    for _ in range(2):
        async with serving(answer, check_host=False) as listener:
            listener.listen_unix(str(path))
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET /thing HTTP/1.1\r\n\r\n")
            assert (await reader.read()).endswith(b"0123456789")
            writer.close()
        path.touch()


@pytest.mark.parametrize("first", ["\u00b2", "9" * 5000])
@pytest.mark.real_time
async def test_a_range_that_is_no_number_is_ignored_and_logs_nothing(first: str) -> None:
    told: list[Exception] = []
    async with serving(answer, told.append) as listener:
        listener.listen_tcp("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        request = f"GET /thing HTTP/1.1\r\nHost: localhost:{listener.port}\r\nRange: bytes={first}-\r\n\r\n"
        writer.write(request.encode("latin-1"))
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
    assert told == []


@pytest.mark.real_time
async def test_who_holds_many_connections_does_not_keep_the_mirrors_canary_out() -> None:
    lacked: list[str] = []
    async with serving(answer, lacks=lacked.append) as listener:
        listener.listen_tcp("127.0.0.1", 0)
        held = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(100)]
        found = await ask(listener, "GET /thing HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n")
        for _, writer in held:
            writer.close()
    assert found.endswith(b"0123456789")
    assert lacked == ["somebody holds all connections that the endpoint has"], "a canary may have been ended"


@pytest.mark.real_time
async def test_who_asks_and_never_reads_does_not_keep_a_connection_of_the_daemon_open() -> None:
    asked = asyncio.Event()

    def large(_path: str, _query: str) -> Response:
        asked.set()
        return Response(200, bytes(16 << 20))

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with serving(large) as listener:
        listener.listen_tcp("127.0.0.1", 0)
        before = descriptors()
        with socket.create_connection(("127.0.0.1", int(listener.port or 0))) as client:
            client.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{listener.port}\r\n\r\n".encode())
            await asked.wait()
            end = asyncio.get_running_loop().time() + 60
            while descriptors() > before + 1 and asyncio.get_running_loop().time() < end:
                await asyncio.sleep(0.05)
            assert descriptors() == before + 1, "the client's own"


@pytest.mark.real_time
async def test_a_bug_in_one_answer_is_told_and_ends_nothing_but_that_connection() -> None:
    def buggy(path: str, query: str) -> Response | None:
        if path == "/bug":
            raise RuntimeError("a bug")
        return answer(path, query)

    told: list[Exception] = []
    async with serving(buggy, told.append) as listener:
        listener.listen_tcp("127.0.0.1", 0)
        nothing = await ask(listener, "GET /bug HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n")
        after = await ask(listener, "GET /thing HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n")
    assert (nothing, after.startswith(b"HTTP/1.1 200 OK\r\n")) == (b"", True)
    assert [str(error) for error in told] == ["a bug"]


@pytest.mark.real_time
async def test_a_request_may_come_in_pieces() -> None:
    async with serving(answer, check_host=False) as listener:
        listener.listen_tcp("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        for piece in (b"GET /thing ", b"HTTP/1.1\r\n", b"\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        assert (await reader.read()).endswith(b"0123456789")
        writer.close()
    assert daemons_tasks() == []


async def test_without_a_descriptor_it_rests_for_a_second_and_then_takes_who_has_waited() -> None:
    lacked: list[str] = []
    clock = asyncio.get_running_loop().time
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(answer, check_host=False, lacks=lacked.append) as listener:
        listener.listen_tcp("127.0.0.1", 0)
        with socket.socket() as client:
            client.setblocking(False)
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                client.connect_ex(("127.0.0.1", int(listener.port or 0)))
                await until(lambda: bool(lacked))
                began = clock()
                await asyncio.sleep(0.3)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            client.sendall(b"GET /thing HTTP/1.1\r\n\r\n")
            found = await asyncio.get_running_loop().sock_recv(client, 4096)
            took_s = clock() - began
    assert lacked == ["no connection can be taken: Too many open files"]
    assert 0.9 < took_s < 1.1
    assert found.endswith(b"0123456789")
