"""The stand-in for dfdaemon behaves as the real one where tests look: the same tests on both."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator

import pytest

from tests.node import images, parts
from tests.node.boot import Node
from tests.node.talk import ORIGIN, REPO, ask, ask_on, blob, blob_file


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
        value
        for name, value in parts.scrape(node).items()
        if name.startswith("dragonfly_client_download_traffic{")
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
def test_a_range_of_a_blob_comes_as_exactly_that_range(
    node: Node, wanted: str, start: int, end: int | None
) -> None:
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
        answer = ask_on(
            connection, "GET", f"{ORIGIN}{REPO}/blobs/{blob()}", Range=f"bytes={start}-{start + 9}"
        )
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


def test_the_stand_in_has_from_peers_what_the_registry_gives_no_more() -> None:
    with Node() as node:
        registry = parts.start_registry(node)
        images.push(node, "reader-nydus", f"{registry.host}/reader:1")
        parts.start_mirror(node, peers=f"127.0.0.1:9={registry.host}")
        answer = ask(node, 4001, "GET", f"http://127.0.0.1:9{REPO}/blobs/{blob()}", Range="bytes=7-16")
        assert (answer.status, answer.body) == (206, blob_file()[7:17])
