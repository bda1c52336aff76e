"""The stand-in for dfdaemon behaves as the real one where tests look, and each fault does what it says."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.node import images, parts
from tests.node.boot import Node

REPO = "/v2/reader"
ORIGIN = "http://127.0.0.1:5000"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def ask(node: Node, port: int, method: str, target: str, **headers: str) -> Answer:
    """One request on a connection of its own; header names with _ for -. Raises http.client's errors and OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.sock = node.connect(port, timeout=20)
    try:
        return ask_on(connection, method, target, **headers)
    finally:
        connection.close()


def ask_on(connection: http.client.HTTPConnection, method: str, target: str, **headers: str) -> Answer:
    connection.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
    with connection.getresponse() as answer:
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())


def blob() -> str:
    return images.image("reader-nydus").blob


def blob_file() -> bytes:
    return (images.made() / "layout" / "blobs" / "sha256" / blob().removeprefix("sha256:")).read_bytes()


# The same tests on the real one and on the stand-in


@pytest.fixture(scope="module", params=["dfdaemon", "stand-in"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node with an http and an https registry and the mirror on 4001, one rule for blobs."""
    shares = parts.dragonfly_shares() if request.param == "dfdaemon" else {}
    with Node(shares=shares) as made:
        registry = parts.start_registry(made)
        parts.start_tls_registry(made)
        images.push(made, "reader-nydus", f"{registry.host}/reader:1")
        if request.param == "dfdaemon":
            parts.start_dfdaemon(made)
        else:
            parts.start_mirror(made)
        yield made


def traffic(node: Node) -> float:
    return sum(
        value for name, value in parts.scrape(node).items() if name.startswith("dragonfly_client_download_traffic{")
    )


def series(node: Node, name: str) -> float:
    return parts.scrape(node).get(f"dragonfly_client_{name}", 0)


@pytest.mark.parametrize(
    ("target", "headers"),
    [(f"{ORIGIN}{REPO}", {}), (REPO, {"X_Dragonfly_Registry": ORIGIN})],
    ids=["proxy form", "mirror form"],
)
def test_a_blob_comes_whole_and_is_marked_as_a_task(node: Node, target: str, headers: dict[str, str]) -> None:
    answer = ask(node, 4001, "GET", f"{target}/blobs/{blob()}", **headers)
    assert answer.status == 200
    assert f"sha256:{hashlib.sha256(answer.body).hexdigest()}" == blob()
    assert answer.headers["x-dragonfly-task-id"] == blob().removeprefix("sha256:")
    assert answer.headers["x-dragonfly-server-ip"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=1000-4999", 1000, 5000), ("bytes=5000000-", 5000000, None)],
)
def test_a_range_of_a_blob_comes_as_exactly_that_range(node: Node, wanted: str, start: int, end: int | None) -> None:
    answer = ask(node, 4001, "GET", f"{ORIGIN}{REPO}/blobs/{blob()}", Range=wanted)
    whole = blob_file()
    assert answer.status == 206
    assert answer.body == whole[start:end]
    last = (end or len(whole)) - 1
    assert answer.headers["content-range"] == f"bytes {start}-{last}/{len(whole)}"
    assert answer.headers["content-length"] == str(last - start + 1)
    assert "x-dragonfly-task-id" in answer.headers


def test_a_range_beyond_the_blob_is_an_error_of_the_mirror(node: Node) -> None:
    answer = ask(node, 4001, "GET", f"{ORIGIN}{REPO}/blobs/{blob()}", Range="bytes=99999999999-")
    assert (answer.status, answer.headers["x-dragonfly-error-type"]) == (500, "dfdaemon")


def test_what_was_fetched_before_is_marked_as_finished(node: Node) -> None:
    ask(node, 4001, "GET", f"{ORIGIN}{REPO}/blobs/{blob()}")
    answer = ask(node, 4001, "GET", f"{ORIGIN}{REPO}/blobs/{blob()}", Range="bytes=0-9")
    assert answer.headers["x-dragonfly-task-download-finished"] == "true"


def test_only_gets_that_match_or_ask_for_it_are_tasks(node: Node) -> None:
    manifest = f"{ORIGIN}{REPO}/manifests/{images.image('reader-nydus').manifest}"
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    head = ask(node, 4001, "HEAD", f"{ORIGIN}{REPO}/blobs/{blob()}")
    assert (head.status, head.headers["content-length"]) == (200, str(len(blob_file())))
    assert "x-dragonfly-task-id" not in head.headers
    plain = ask(node, 4001, "GET", manifest, **accept)
    assert plain.status == 200
    assert "x-dragonfly-task-id" not in plain.headers
    asked = ask(node, 4001, "GET", manifest, X_Dragonfly_Use_P2P="true", **accept)
    assert asked.status == 200
    assert asked.body == plain.body
    assert "x-dragonfly-task-id" in asked.headers


def test_the_origins_own_errors_are_told_as_the_backends(node: Node) -> None:
    missing = ask(node, 4001, "GET", f"{ORIGIN}{REPO}/blobs/sha256:{'0' * 64}")
    assert (missing.status, missing.body, missing.headers["x-dragonfly-error-type"]) == (404, b"", "backend")
    forwarded = ask(node, 4001, "GET", f"{ORIGIN}{REPO}/manifests/none")
    assert forwarded.status == 404
    assert b"MANIFEST_UNKNOWN" in forwarded.body
    assert "x-dragonfly-error-type" not in forwarded.headers


def test_an_origin_that_is_down_is_a_500_for_a_blob_and_a_closed_connection_for_the_rest(node: Node) -> None:
    task = ask(node, 4001, "GET", f"http://127.0.0.1:9{REPO}/blobs/sha256:{'1' * 64}")
    assert (task.status, task.headers["x-dragonfly-error-type"]) == (500, "backend")
    failures = series(node, "proxy_request_failure_total")
    with pytest.raises(http.client.RemoteDisconnected):
        ask(node, 4001, "GET", "http://127.0.0.1:9/v2/")
    assert series(node, "proxy_request_failure_total") == failures + 1


def test_plain_http_to_a_tls_registry_is_answered_by_that_registry_with_400(node: Node) -> None:
    other = f"sha256:{'2' * 64}"
    task = ask(node, 4001, "GET", f"http://{parts.REGISTRY_NAME}:5443{REPO}/blobs/{other}")
    assert (task.status, task.headers["x-dragonfly-error-type"]) == (400, "backend")
    assert ask(node, 4001, "GET", f"http://{parts.REGISTRY_NAME}:5443/v2/").status == 400


def test_a_registry_named_with_https_is_asked_by_tls_without_checking_its_certificate(node: Node) -> None:
    registry = {"X_Dragonfly_Registry": f"https://{parts.REGISTRY_NAME}:5443"}
    assert ask(node, 4001, "GET", "/v2/", **registry).body == b"{}"
    answer = ask(node, 4001, "GET", f"{REPO}/blobs/{blob()}", Range="bytes=7-16", **registry)
    assert (answer.status, answer.body) == (206, blob_file()[7:17])


def test_a_registry_that_is_no_url_ends_the_connection(node: Node) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        ask(node, 4001, "GET", "/v2/", X_Dragonfly_Registry="not a url")


def test_a_connection_serves_many_requests(node: Node) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", 4001)
    connection.sock = used = node.connect(4001)
    for start in (0, 1000, 2000):
        answer = ask_on(connection, "GET", f"{ORIGIN}{REPO}/blobs/{blob()}", Range=f"bytes={start}-{start + 9}")
        assert answer.body == blob_file()[start : start + 10]
        assert connection.sock is used
    connection.close()


def test_uploads_pass_through(node: Node) -> None:
    answer = ask(node, 4001, "POST", f"{ORIGIN}{REPO}/blobs/uploads/", Content_Length="0")
    assert answer.status == 202
    assert answer.headers["location"].startswith(f"{ORIGIN}{REPO}/blobs/uploads/")


def test_the_counters_that_proofs_read_grow_with_the_bytes(node: Node) -> None:
    bytes_before, tasks = traffic(node), series(node, "proxy_request_via_dfdaemon_total")
    requests = series(node, 'proxy_request_total{method="GET",scheme="http"}')
    ask(node, 4001, "GET", f"{ORIGIN}{REPO}/blobs/{blob()}", Range="bytes=0-1999999")
    ask(node, 4001, "GET", f"{ORIGIN}/v2/")
    assert traffic(node) >= bytes_before + 2000000
    assert series(node, "proxy_request_via_dfdaemon_total") == tasks + 1
    assert series(node, 'proxy_request_total{method="GET",scheme="http"}') == requests + 2
    answer = ask(node, 4002, "GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert ask(node, 4002, "GET", "/").status == 404


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/healthy", 200), ("HEAD", "/healthy", 404), ("POST", "/healthy", 404), ("GET", "/", 404)],
)
def test_the_health_port_knows_one_request_only(node: Node, method: str, target: str, status: int) -> None:
    answer = ask(node, 4003, method, target)
    assert (answer.status, answer.body) == (status, b"")


@pytest.mark.parametrize("kind", ["dfdaemon", "stand-in"])
def test_a_tls_rule_fetches_blobs_by_tls_and_leaves_the_rest(kind: str) -> None:
    rules = [{"regex": "blobs/sha256.*", "useTLS": True}]
    with Node(shares=parts.dragonfly_shares() if kind == "dfdaemon" else {}) as node:
        registry = parts.start_tls_registry(node)
        images.push(node, "reader-nydus", f"{registry.host}/reader:1", tls=True)
        if kind == "dfdaemon":
            parts.start_dfdaemon(node, rules=rules)
        else:
            parts.start_mirror(node, rules=rules)
        answer = ask(node, 4001, "GET", f"http://{registry.host}{REPO}/blobs/{blob()}", Range="bytes=7-16")
        assert (answer.status, answer.body) == (206, blob_file()[7:17])
        assert ask(node, 4001, "GET", f"http://{registry.host}/v2/").status == 400


# Faults: on the stand-in itself, and by the front before any server


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
    part.fault("status", match="blobs/sha256", times=2)
    assert [ask(node, 4001, "GET", target, Range="bytes=0-9").status for _ in range(3)] == [500, 500, 206]


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
        fetch = ["curl", "--silent", "--output", "/run/got", "--max-time", "10", "--cacert", registry.ca or "", url]
        node.run(fetch)
        assert node.run(["sha256sum", "/run/got"]).stdout.split()[0] == blob().removeprefix("sha256:")
        front.fault("cut")
        assert node.run(fetch, check=False).returncode in (18, 35, 56)  # partial file, TLS failure, receive failure
        front.fault("refuse")
        assert node.run(fetch, check=False).returncode == 7  # couldn't connect
