"""The relay of a real read: it passes on what the mirror sends, byte by byte, and counts exactly that."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from agent.errors import HttpError
from agent.netfilter.sock_diag import uid_of_peer
from agent.system.http import PlainHttp
from agent.system.loopback import Relay
from tests.contract.server import serving
from tests.fakes.free_port import free_port

TASK = b"X-Dragonfly-Task-Id: abc\r\n"
BLOB = "http://registry.test/v2/x/blobs/sha256:1"


def answers(
    body: bytes, *, status: bytes = b"206 Partial Content", headers: bytes = b""
) -> Callable[..., None]:
    def script(connection: socket.socket, _head: bytes) -> None:
        head = (
            b"HTTP/1.1 "
            + status
            + b"\r\nContent-Length: "
            + str(len(body)).encode()
            + b"\r\n"
            + headers
            + b"\r\n"
        )
        connection.sendall(head)  # the body comes in a packet of its own
        connection.sendall(body)

    return script


def relay_to(port: int) -> Relay:
    return Relay(("127.0.0.1", port), uid_of_peer)


def place_of(relay: Relay) -> tuple[str, int]:
    host, _, port = relay.url.removeprefix("http://").rpartition(":")
    return host, int(port)


def get(relay: Relay, cap: int = 1 << 22) -> tuple[int, bytes]:
    found = PlainHttp().get(BLOB, deadline_s=10, proxy=relay.url, body_cap=cap)
    return found.status, found.body


def test_bytes_of_a_task_are_passed_on_unchanged_and_counted() -> None:
    body = os.urandom(3 << 20)
    with (
        serving(answers(body, headers=TASK)) as mirror,
        relay_to(mirror.port) as relay,
    ):
        assert get(relay) == (206, body)
        assert get(relay) == (206, body)
    assert (relay.relayed, relay.tasks) == (2 * len(body), 2 * len(body))
    assert dict(relay.answers) == {"206": 2}
    assert mirror.heads[0].startswith(b"GET http://registry.test/v2/x/blobs/sha256:1 HTTP/1.1\r\n")


def test_bytes_that_were_only_forwarded_are_no_bytes_of_a_task() -> None:
    with serving(answers(b"x" * 1000)) as mirror, relay_to(mirror.port) as relay:
        get(relay)
    assert (relay.relayed, relay.tasks) == (1000, 0)


def test_the_text_of_a_refusal_is_no_data() -> None:
    script = answers(b"slow down", status=b"429 Too Many Requests", headers=TASK)
    with serving(script) as mirror, relay_to(mirror.port) as relay:
        assert get(relay) == (429, b"slow down")
    assert (relay.relayed, relay.tasks) == (0, 0)
    assert dict(relay.answers) == {"429": 1}


def test_a_body_that_is_cut_is_cut_for_the_reader_too_and_counted_as_far_as_it_came() -> None:
    def script(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(
            b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\n" + TASK + b"\r\n" + b"y" * 400
        )

    with serving(script) as mirror, relay_to(mirror.port) as relay:
        with pytest.raises(HttpError):
            get(relay)
        assert relay.tasks == 400


def test_a_mirror_that_is_gone_is_told_as_refused() -> None:
    with relay_to(free_port()) as relay:
        with pytest.raises(HttpError):
            get(relay)
        assert dict(relay.answers) == {"refused": 1}


def test_what_is_inside_of_a_tunnel_is_counted_but_not_as_a_task() -> None:
    def script(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        asked = connection.recv(100)
        connection.sendall(asked * 10)

    with serving(script) as mirror, relay_to(mirror.port) as relay:
        with socket.create_connection(place_of(relay), 10) as client:
            client.sendall(b"CONNECT registry.test:443 HTTP/1.1\r\nHost: registry.test:443\r\n\r\n")
            assert client.recv(100) == b"HTTP/1.1 200 OK\r\n\r\n"
            client.sendall(b"hello")
            got = b""
            while piece := client.recv(100):
                got += piece
        assert got == b"hello" * 10
    assert relay.relayed == len(b"HTTP/1.1 200 OK\r\n\r\n") + 50
    assert relay.tasks == 0


OTHER_USER = """
import os, socket, sys
os.setuid(65534)
host, (relay, source, times, waits) = sys.argv[1], map(int, sys.argv[2:])
for _ in range(times):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind(("127.0.0.1", source))
    client.connect((host, relay))
    try:
        client.sendall(b"GET http://a/ HTTP/1.1\\r\\n\\r\\n")
        assert not waits or client.recv(100) == b""
    except ConnectionError:
        pass
    client.close()
"""


@pytest.mark.parametrize(
    ("as_roots", "times", "waits"),
    [(False, 1, 1), (False, 50, 0), (True, 1, 1)],
    ids=["plainly", "with a socket that is closed, of which the kernel tells uid 0", "from a port of root's"],
)
def test_another_user_cannot_add_to_the_count(as_roots: bool, times: int, waits: int) -> None:
    with (
        serving(answers(b"z" * 1000, headers=TASK)) as mirror,
        socket.create_server(("127.0.0.1", 0)) as other,
        relay_to(mirror.port) as relay,
        socket.socket() as roots,
    ):
        roots.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        roots.bind(("127.0.0.1", 0))
        roots.connect(other.getsockname())
        source = roots.getsockname()[1] if as_roots else 0
        argv = [*map(str, place_of(relay)), str(source), str(times), str(waits)]
        subprocess.run([sys.executable, "-c", OTHER_USER, *argv], timeout=30, check=True)
        assert get(relay) == (206, b"z" * 1000)  # the queue is worked off in order
    assert len(mirror.heads) == 1
    assert relay.tasks == 1000


def test_a_mirror_cannot_fill_the_result_with_words_of_its_own() -> None:
    script = answers(b"", status=b"9" * 5000)
    with (
        serving(script) as mirror,
        relay_to(mirror.port) as relay,
        pytest.raises(HttpError),
    ):
        get(relay)
    assert dict(relay.answers) == {"none": 1}


def test_after_its_end_nobody_listens() -> None:
    with serving(answers(b"")) as mirror, relay_to(mirror.port) as relay:
        place = place_of(relay)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place, 5)


def test_thousands_of_another_users_sockets_make_a_read_no_slower() -> None:
    argv = [sys.executable, "-m", "tests.node.inside.sockets", "many", "--port", "4001", "--count", "20000"]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE, user="nobody") as crowd,
        serving(answers(b"z" * 1000, headers=TASK)) as mirror,
        relay_to(mirror.port) as relay,
    ):
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == b"held\n"
        began = time.monotonic()
        for _ in range(100):
            get(relay)
        took_s = time.monotonic() - began
        crowd.terminate()
    print(f"100 requests beside 20,000 sockets: {took_s:.2f} s")
    assert took_s < 2
