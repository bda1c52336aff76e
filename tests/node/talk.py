"""Single HTTP requests to a node's ports, for tests that look at every byte of the answer."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from tests.node import images
from tests.node.boot import Node

REPO = "/v2/reader"
ORIGIN = "http://127.0.0.1:5000"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def ask(node: Node, port: int, method: str, target: str, **headers: str) -> Answer:
    """One request on a connection of its own; header names with _ for -.

    Raises http.client's errors and OSError.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.sock = node.connect(port, timeout=20)
    try:
        return ask_on(connection, method, target, **headers)
    finally:
        connection.close()


def ask_on(connection: http.client.HTTPConnection, method: str, target: str, **headers: str) -> Answer:
    connection.request(
        method, target, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    with connection.getresponse() as answer:
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())


def blob() -> str:
    return images.image("reader-nydus").blob


def blob_file() -> bytes:
    return (images.made() / "layout" / "blobs" / "sha256" / blob().removeprefix("sha256:")).read_bytes()
