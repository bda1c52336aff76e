"""Each fault does what it says: on the stand-in for dfdaemon itself, and by the front before any server."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.node import images, parts
from tests.node.boot import Node
from tests.node.talk import ORIGIN, REPO, ask, blob, blob_file


@pytest.fixture(scope="module", params=["stand-in", "front"])
def faulty(request: pytest.FixtureRequest) -> Iterator[tuple[parts.Faulty, str]]:
    """A part that takes faults on port 4001, and the target for a blob through it."""
    with Node() as node:
        registry = parts.start_registry(node)
        images.push(node, "reader-nydus", f"{registry.host}/reader:1")
        if request.param == "stand-in":
            yield parts.start_mirror(node), f"{ORIGIN}{REPO}/blobs/{blob()}"
        else:
            yield parts.start_front(node, 4001, 5000), f"{REPO}/blobs/{blob()}"


@pytest.fixture(autouse=True)
def well_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "faulty" in request.fixturenames:
        part, _ = request.getfixturevalue("faulty")
        part.fault()


def begin(part: parts.Faulty, target: str, timeout: float) -> tuple[http.client.HTTPConnection, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", 4001)
    connection.sock = part.unit.node.connect(4001, timeout)
    connection.request("GET", target, headers={"Range": "bytes=0-999999"})
    return connection, connection.getresponse()


def test_refuse_resets_what_is_open_and_refuses_what_is_new(faulty: tuple[parts.Faulty, str]) -> None:
    part, target = faulty
    node = part.unit.node
    with node.connect(4001) as held:
        part.fault("refuse")
        with pytest.raises(ConnectionRefusedError):
            node.connect(4001)
        with contextlib.suppress(ConnectionResetError):
            assert held.recv(1) == b""
    part.fault()
    assert ask(node, 4001, "GET", target, Range="bytes=0-9").status == 206


def test_hang_answers_nothing_until_it_ends(faulty: tuple[parts.Faulty, str]) -> None:
    part, target = faulty
    part.fault("hang")
    connection = http.client.HTTPConnection("127.0.0.1", 4001)
    connection.sock = part.unit.node.connect(4001, 1.0)
    connection.request("GET", target, headers={"Range": "bytes=0-9"})
    with pytest.raises(TimeoutError):
        connection.sock.recv(1)
    part.fault()
    connection.sock.settimeout(10)
    with connection.getresponse() as answer:
        assert (answer.status, answer.read()) == (206, blob_file()[:10])
    connection.close()


def test_hang_body_stops_half_way_until_it_ends(faulty: tuple[parts.Faulty, str]) -> None:
    part, target = faulty
    part.fault("hang_body")
    connection, answer = begin(part, target, 1.0)
    got = answer.read(500000)
    with pytest.raises(TimeoutError):
        answer.fp.raw._sock.recv(1)  # beneath http.client, which would not go on after a timeout
    part.fault()
    rest = b""
    while len(rest) < 500000:
        rest += connection.sock.recv(500000)
    assert got + rest == blob_file()[:1000000]
    answer.close()
    connection.close()


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_status_is_answered_in_place_of_the_blob(faulty: tuple[parts.Faulty, str], status: int) -> None:
    part, target = faulty
    part.fault("status", status=status)
    answer = ask(part.unit.node, 4001, "GET", target)
    assert (answer.status, answer.body, answer.headers["x-dragonfly-error-type"]) == (status, b"", "proxy")


def test_trickle_sends_at_the_rate_until_it_ends(faulty: tuple[parts.Faulty, str]) -> None:
    part, target = faulty
    part.fault("trickle", rate=20000)
    connection, answer = begin(part, target, 10)
    began = time.monotonic()
    answer.read(20000)
    took = time.monotonic() - began
    assert 0.5 < took < 3
    part.fault()
    assert len(answer.read()) == 980000
    connection.close()


def test_cut_closes_the_connection_half_way(faulty: tuple[parts.Faulty, str]) -> None:
    part, target = faulty
    part.fault("cut", share=0.25)
    connection, answer = begin(part, target, 10)
    with pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    assert caught.value.partial == blob_file()[:250000]
    connection.close()


def test_zeros_have_the_right_length_and_the_wrong_content(faulty: tuple[parts.Faulty, str]) -> None:
    part, target = faulty
    part.fault("zeros")
    answer = ask(part.unit.node, 4001, "GET", target, Range="bytes=0-9999")
    assert (answer.status, answer.body) == (206, bytes(10000))


def test_a_fault_hits_only_what_matches_and_only_so_often(faulty: tuple[parts.Faulty, str]) -> None:
    part, target = faulty
    node = part.unit.node
    part.fault("status", match="no-such-thing")
    assert ask(node, 4001, "GET", target, Range="bytes=0-9").status == 206
    before = part.stats()["hits"]
    part.fault("status", match="blobs/sha256", times=2)
    assert [ask(node, 4001, "GET", target, Range="bytes=0-9").status for _ in range(3)] == [500, 500, 206]
    assert part.stats()["hits"] - before == 2


def test_bodies_are_counted_as_they_were_sent(faulty: tuple[parts.Faulty, str]) -> None:
    part, target = faulty
    before = part.stats()
    ask(part.unit.node, 4001, "GET", target, Range="bytes=0-9999")
    part.fault("cut")
    connection, answer = begin(part, target, 10)
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    part.unit.node.wait_until(
        lambda: part.stats()["blob_bytes"] - before["blob_bytes"] == 510000, 5, "both bodies are counted"
    )
    assert part.stats()["blob_requests"] - before["blob_requests"] == 2


def test_the_ping_can_fail_while_the_data_path_works() -> None:
    with Node() as node:
        registry = parts.start_registry(node)
        mirror = parts.start_mirror(node)
        mirror.ping("503")
        assert ask(node, 4003, "GET", "/healthy").status == 503
        mirror.ping("refuse")
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            ask(node, 4003, "GET", "/healthy")
        mirror.ping("ok")
        assert ask(node, 4003, "GET", "/healthy").status == 200
        assert ask(node, 4001, "GET", f"{registry.url}/v2/").status == 200


def test_a_frozen_mirror_accepts_and_says_nothing_and_a_killed_one_refuses() -> None:
    with Node() as node:
        registry = parts.start_registry(node)
        mirror = parts.start_mirror(node)
        mirror.unit.freeze()
        with node.connect(4001, timeout=0.5) as held:
            held.sendall(f"GET {registry.url}/v2/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            with pytest.raises(TimeoutError):
                held.recv(1)
            mirror.unit.thaw()
            held.settimeout(10)
            assert held.recv(12) == b"HTTP/1.1 200"
        mirror.unit.kill()
        node.wait_until(lambda: not mirror.unit.is_active(), 5, "the mirror is dead")
        with pytest.raises(ConnectionRefusedError):
            node.connect(4001)
        mirror.start_again()
        assert ask(node, 4001, "GET", f"{registry.url}/v2/").status == 200


def test_a_raw_front_can_cut_a_tls_connection_that_it_cannot_read() -> None:
    with Node() as node:
        registry = parts.start_tls_registry(node)
        images.push(node, "reader-nydus", f"{registry.host}/reader:1", tls=True)
        front = parts.start_front(node, 5444, 5443, raw=True)
        url = f"https://{parts.REGISTRY_NAME}:5444{REPO}/blobs/{blob()}"
        fetch = f"curl --silent --output /run/got --max-time 10 --cacert {registry.ca} {url}".split()
        node.run(fetch)
        assert node.run(["sha256sum", "/run/got"]).stdout.split()[0] == blob().removeprefix("sha256:")
        front.fault("cut")
        # Partial file, TLS failure, receive failure.
        assert node.run(fetch, check=False).returncode in (18, 35, 56)
        front.fault("refuse")
        assert node.run(fetch, check=False).returncode == 7  # couldn't connect
