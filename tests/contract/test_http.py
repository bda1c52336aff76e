"""Http: the contract on the fake and on a real server, what lies and hangs look like on the wire, and the
daemon's own socket.
"""

from __future__ import annotations

import abc
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import HttpError
from agent.ports import Http
from agent.system.http import PlainHttp, read_status
from tests.contract.server import Script, answering, serving
from tests.contract.waiting import ENDS_S
from tests.fakes.http import FakeHttp, answer


class HttpWorld(abc.ABC):
    """The port under test and a server with one object."""

    port: Http
    url: str
    """Answers 200, body b"hello", header X-Some: Thing."""
    proxy: str
    """A forward proxy that answers 203 to everything."""
    unix_socket: str
    """Answers 200, body b"unix"."""
    nobody: str
    """A URL where nobody listens."""

    @abc.abstractmethod
    def proxied(self) -> str:
        """The target that the proxy was asked for."""


class HttpContract:
    """Run by a class that has a fixture `world`."""

    def test_status_headers_and_body_come_back(self, world: HttpWorld) -> None:
        found = world.port.get(world.url, deadline_s=5)
        assert (found.status, found.body, found.headers["x-some"]) == (200, b"hello", "Thing")

    def test_an_answer_over_the_cap_is_an_error(self, world: HttpWorld) -> None:
        assert world.port.get(world.url, deadline_s=5, body_cap=5).body == b"hello"
        with pytest.raises(HttpError) as caught:
            world.port.get(world.url, deadline_s=5, body_cap=4)
        assert caught.value.code == "NNA0821"

    def test_a_refused_connection_is_an_error(self, world: HttpWorld) -> None:
        with pytest.raises(HttpError) as caught:
            world.port.get(world.nobody, deadline_s=5)
        assert caught.value.code == "NNA0821"
        with pytest.raises(HttpError):
            world.port.get("http://x/", deadline_s=5, unix_socket=world.unix_socket + ".none")
        with pytest.raises(HttpError):
            world.port.get("http://x/", deadline_s=5, proxy=world.nobody)

    def test_a_proxy_is_asked_for_the_whole_url(self, world: HttpWorld) -> None:
        assert (
            world.port.get("http://registry.test:5000/v2/?a=b", deadline_s=5, proxy=world.proxy).status == 203
        )
        assert world.proxied() == "http://registry.test:5000/v2/?a=b"

    def test_a_unix_socket_is_asked(self, world: HttpWorld) -> None:
        assert world.port.get("http://any/path", deadline_s=5, unix_socket=world.unix_socket).body == b"unix"


class _FakeWorld(HttpWorld):
    def __init__(self) -> None:
        self.port = self.fake = FakeHttp()
        self.url, self.proxy, self.unix_socket = (
            "http://127.0.0.1:5000/a",
            "http://127.0.0.1:4001",
            "/run/a.sock",
        )
        self.nobody = "http://127.0.0.1:1/"
        self.fake.on(self.url, answer(200, b"hello", x_some="Thing"))
        self.fake.on("http://", answer(203), via=self.proxy)
        self.fake.on("http://", answer(200, b"unix"), via=self.unix_socket)

    def proxied(self) -> str:
        return next(request.url for request in reversed(self.fake.asked) if request.proxy == self.proxy)


class _WireWorld(HttpWorld):
    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.port = PlainHttp()
        self.url = stack.enter_context(serving(answering("200 OK", b"hello", "X-Some: Thing"))).url + "/a"
        self._proxy = stack.enter_context(serving(answering("203 Non-Authoritative", b"")))
        self.proxy = self._proxy.url
        self.unix_socket = str(directory / "a.sock")
        stack.enter_context(serving(answering("200 OK", b"unix"), self.unix_socket))
        with serving(answering("200 OK", b"")) as gone:
            self.nobody = gone.url

    def proxied(self) -> str:
        return self._proxy.heads[-1].split()[1].decode()


class TestFake(HttpContract):
    @pytest.fixture
    def world(self) -> HttpWorld:
        return _FakeWorld()


class TestWire(HttpContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[HttpWorld]:
        with contextlib.ExitStack() as stack:
            yield _WireWorld(tmp_path, stack)


def expect_error(script: Script, code: str, *, deadline_s: float = 5) -> HttpError:
    with serving(script) as server, pytest.raises(HttpError) as caught:
        PlainHttp().get(server.url, deadline_s=deadline_s)
    assert caught.value.code == code
    return caught.value


def _raw(data: bytes) -> Script:
    return lambda connection, _head: connection.sendall(data)


def _then_silence(data: bytes) -> Script:
    def script(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(data)
        connection.recv(1)  # until the client gives up

    return script


def _trickle(head: bytes) -> Script:
    def script(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(head)
        while True:  # until the client gives up
            connection.sendall(b"x")
            time.sleep(0.02)

    return script


@pytest.mark.parametrize(
    "script",
    [
        _then_silence(b""),
        _then_silence(b"HTTP/1.1 200 OK\r\nContent-Le"),
        _then_silence(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        _trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        _trickle(b"HTTP/1.1 200 OK\r\nX: "),
    ],
    ids=["silence", "half a head", "half a body", "trickled body", "trickled head"],
)
def test_whatever_hangs_the_deadline_ends_it(script: Script) -> None:
    started = time.monotonic()
    expect_error(script, "NNA0821", deadline_s=0.4)
    assert time.monotonic() - started < ENDS_S


def test_a_listener_that_never_accepts_ends_at_the_deadline() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with pytest.raises(HttpError) as caught:
            PlainHttp().get(f"http://127.0.0.1:{listener.getsockname()[1]}/", deadline_s=0.3)
    assert caught.value.code == "NNA0821"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"",
    ],
    ids=["ssh", "cut body", "cut chunks", "no chunk", "tls", "too many headers", "closed"],
)
def test_what_is_not_a_whole_answer_is_an_error(data: bytes) -> None:
    with serving(_raw(data)) as server, pytest.raises(HttpError) as caught:
        PlainHttp().get(server.url, deadline_s=5)
    assert caught.value.code in ("NNA0821", "NNA0821")


def test_chunks_are_put_together() -> None:
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    with serving(_raw(chunks)) as server:
        assert PlainHttp().get(server.url, deadline_s=5).body == b"hello!"


def test_an_endless_body_ends_at_the_cap() -> None:
    def endless(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    expect_error(endless, "NNA0821")


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with serving(answering("302 Found", b"", "Location: /elsewhere")) as server:
        found = PlainHttp().get(server.url, deadline_s=5)
        assert (found.status, found.headers["location"]) == (302, "/elsewhere")
        assert len(server.heads) == 1


def test_a_proxy_of_the_environment_is_not_used() -> None:
    with serving(answering("200 OK", b"direct")) as server, serving(answering("200 OK", b"proxy")) as proxy:
        os.environ["http_proxy"] = proxy.url
        try:
            assert PlainHttp().get(server.url, deadline_s=5).body == b"direct"
        finally:
            del os.environ["http_proxy"]


def test_the_registry_is_named_and_our_headers_are_sent() -> None:
    with serving(answering("200 OK", b"")) as proxy:
        PlainHttp().get(
            "http://registry.test:5000/v2/",
            deadline_s=5,
            proxy=proxy.url,
            headers={"X-Dragonfly-Use-P2P": "true"},
        )
        lines = proxy.heads[0].decode().splitlines()
    assert "Host: registry.test:5000" in lines
    assert "X-Dragonfly-Use-P2P: true" in lines
    assert "Connection: close" in lines


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://168.63.129.16/metadata",
        "http://[fd00:ec2::254]/latest",
        "https://127.0.0.1/",
        "ftp://127.0.0.1/",
        "http:///nohost",
        "http://127.0.0.1:port/",
        "http://user:password@127.0.0.1/",
    ],
)
def test_urls_that_are_not_ours_to_ask_are_refused(url: str) -> None:
    asked: list[bytes] = []
    with serving(lambda _connection, head: asked.append(head)) as proxy:
        for via in ("", proxy.url):
            with pytest.raises(HttpError) as caught:
                PlainHttp().get(url, deadline_s=2, proxy=via)
            assert caught.value.code == "NNA0825"
            assert "password" not in str(caught.value)
    assert asked == []


def test_a_header_cannot_smuggle_a_second_request() -> None:
    with serving(answering("200 OK", b"")) as server, pytest.raises(HttpError) as caught:
        PlainHttp().get(server.url, deadline_s=5, headers={"X": "a\r\nGET / HTTP/1.1"})
    assert caught.value.code == "NNA0825"


def test_a_name_is_resolved_and_one_without_address_is_an_error() -> None:
    with serving(answering("200 OK", b"by name")) as server:
        assert PlainHttp().get(f"http://localhost:{server.port}/", deadline_s=5).body == b"by name"
    with pytest.raises(HttpError) as caught:
        PlainHttp().get("http://no-such-name.invalid/", deadline_s=5)
    assert caught.value.code == "NNA0821"


def test_nothing_is_left_open() -> None:
    before = (len(os.listdir("/proc/self/fd")), threading.active_count())
    expect_error(_raw(b"rubbish\r\n\r\n"), "NNA0821")
    expect_error(_then_silence(b"HTTP/1.1 200 OK\r\n"), "NNA0821", deadline_s=0.2)
    with serving(answering("200 OK", b"x")) as server:
        PlainHttp().get(server.url, deadline_s=5)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_the_daemons_answer_is_had_over_its_socket(tmp_path: Path) -> None:
    place = str(tmp_path / "api.sock")
    with serving(answering("200 OK", b'{"kind": "DaemonStatus"}'), place) as server:
        assert read_status(place) == b'{"kind": "DaemonStatus"}'
    assert server.heads[0].startswith(b"GET /status HTTP/1.1\r\n")


def test_a_link_to_somebody_elses_socket_is_not_followed(tmp_path: Path) -> None:
    other, place = str(tmp_path / "other.sock"), tmp_path / "api.sock"
    place.symlink_to(other)
    with serving(answering("200 OK", b"{}"), other) as server, pytest.raises(HttpError):
        read_status(str(place))
    assert server.heads == []


def test_where_nobody_answers_that_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(HttpError, match="No such file"):
        read_status(str(tmp_path / "api.sock"))
    (tmp_path / "file").touch()
    with pytest.raises(HttpError, match="is not a socket"):
        read_status(str(tmp_path / "file"))
    with socket.socket(socket.AF_UNIX) as left:  # as after kill -9
        left.bind(str(tmp_path / "left.sock"))
    with pytest.raises(HttpError, match="refused"):
        read_status(str(tmp_path / "left.sock"))


def test_a_daemon_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    place = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as hangs:
        hangs.bind(place)
        hangs.listen()
        started = time.monotonic()
        with pytest.raises(HttpError):
            read_status(place)
    assert time.monotonic() - started < ENDS_S


def test_an_error_is_no_status(tmp_path: Path) -> None:
    place = str(tmp_path / "api.sock")
    with serving(answering("404 Not Found", b"nothing here\n"), place), pytest.raises(HttpError, match="404"):
        read_status(place)
