"""A light stand-in for dfdaemon: its proxy, health and metrics ports, without peers and without a cache.

Behaves as dfdaemon 1.5.10 where tests look (dragonfly-client/src/proxy/mod.rs, health/mod.rs,
metric/src/lib.rs): absolute-form requests are forwarded, origin-form ones go to the registry in
X-Dragonfly-Registry (or ?ns=); GETs that a rule matches, or with X-Dragonfly-Use-P2P: true, carry the
X-Dragonfly-Task-… headers and count as traffic. Two things differ: nothing is kept, so every read goes to the
origin; and CONNECT is a plain tunnel, where dfdaemon puts itself in the middle of the TLS connection. With
`--peers A=B` what it is asked of A it fetches from B, as dfdaemon has from peers what the origin may not give
any more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from tests.node.inside import odd
from tests.node.inside.faults import Switchboard
from tests.node.inside.relay import Connection, Door, GoneError, Log, Request, Upstream, UpstreamError, reset

_PREFIX = "dragonfly_client_"


@dataclass(frozen=True)
class Rule:
    """A proxy rule of dfdaemon: GETs whose URL matches are fetched as tasks, by TLS if `use_tls`."""

    regex: str
    use_tls: bool


class Metrics:
    """Counters under dfdaemon's names; as there, a series exists from its first count on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[str, int] = {}

    def add(self, name: str, labels: str = "", by: int = 1) -> None:
        key = f"{_PREFIX}{name}{{{labels}}}" if labels else f"{_PREFIX}{name}"
        with self._lock:
            self._series[key] = self._series.get(key, 0) + by

    def text(self) -> str:
        with self._lock:
            series = sorted(self._series.items())
        lines, seen = [], set()
        for key, value in series:
            name = key.partition("{")[0]
            if name not in seen:
                seen.add(name)
                lines += [f"# HELP {name} Counter of the stand-in.", f"# TYPE {name} counter"]
            lines.append(f"{key} {value}")
        return "\n".join(lines) + "\n"


class Mirror:
    """The proxy port."""

    def __init__(
        self,
        rules: list[Rule],
        registry: str,
        peers: dict[tuple[str, int], tuple[str, int]],
        log: TaskLog,
        board: Switchboard,
        metrics: Metrics,
    ) -> None:
        self.rules = rules
        self.peers = peers
        self.registry = registry
        self.log = log
        self.board = board
        self.metrics = metrics

    def serve(self, client: socket.socket) -> None:
        try:
            Connection(client, self.board, self.log).serve(self.route, self._tunnel)
        except (UpstreamError, GoneError, OSError, ValueError):
            # dfdaemon, too, ends the connection without a status and counts a failure.
            self.metrics.add("proxy_request_failure_total")
            raise GoneError from None

    def route(self, request: Request) -> Upstream | None:
        absolute = request.target.startswith(("http://", "https://"))
        scheme = urlsplit(request.target).scheme if absolute else "http"
        self.metrics.add("proxy_request_total", f'method="{request.method}",scheme="{scheme}"')
        if request.method == "CONNECT":
            return None
        url = request.target if absolute else self._registry_of(request) + request.target
        parts = urlsplit(url)
        rule = next((rule for rule in self.rules if re.search(rule.regex, url.partition("?")[0])), None)
        asked = (request.header("X-Dragonfly-Use-P2P") or "").lower() == "true"
        task = request.method == "GET" and (rule is not None or asked)
        tls = parts.scheme == "https" or (task and rule is not None and rule.use_tls)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.hostname or ""
        headers = [(name, value) for name, value in request.headers if name.lower() != "host"]
        headers.insert(0, ("Host", host if parts.port in (None, 443 if tls else 80) else f"{host}:{port}"))
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        host, port = self.peers.get((host, port), (host, port))
        upstream = Upstream(host, port, tls, target or "/", url, headers, via="task" if task else "forward")
        if task:
            upstream.as_task = True
            upstream.answer_headers = self._task_headers(url)
        return upstream

    def _registry_of(self, request: Request) -> str:
        named = request.header("X-Dragonfly-Registry")
        if named is not None:
            return named
        namespace = parse_qs(urlsplit(request.target).query).get("ns")
        return f"https://{namespace[0]}" if namespace else self.registry

    def _task_headers(self, url: str) -> list[tuple[str, str]]:
        self.metrics.add("proxy_request_via_dfdaemon_total")
        headers = [("X-Dragonfly-Task-Id", task_id(url)), ("X-Dragonfly-Server-Ip", "127.0.0.1")]
        if task_id(url) in self.log.finished:
            headers.append(("X-Dragonfly-Task-Download-Finished", "true"))
        return headers

    def _tunnel(self, connection: Connection, request: Request) -> None:
        host, _, port = request.target.rpartition(":")
        connection.send_head(200, [], "OK")
        sent = connection.tunnel(host, int(port))
        self.log.write(
            f"https://{request.target}", sent, method="CONNECT", via="tunnel", status=200, fault="none"
        )
        raise GoneError


class TaskLog(Log):
    """The log, which also feeds the traffic counter and knows what was fetched before."""

    def __init__(self, path: str | None, metrics: Metrics) -> None:
        super().__init__(path)
        self.finished: set[str] = set()
        self._metrics = metrics

    def write(self, url: str, sent: int, **entry: object) -> None:
        super().write(url, sent, **entry)
        if entry.get("via") == "task" and sent:
            self._metrics.add("download_traffic", 'type="BACK_TO_SOURCE"', sent)
            self.finished.add(task_id(url))


def task_id(url: str) -> str:
    """What dfdaemon calls the task: a blob's own digest, so that registries share; else a hash of the URL."""
    blob = re.search(r"/blobs/sha256:([0-9a-f]{64})$", url.partition("?")[0])
    return blob.group(1) if blob else hashlib.sha256(url.partition("?")[0].encode()).hexdigest()


class Small:
    """The health and the metrics port: one known path each, 404 for all else."""

    def __init__(self, board: Switchboard, metrics: Metrics) -> None:
        self._board = board
        self._metrics = metrics

    def health(self, client: socket.socket) -> None:
        for method, path in _requests(client):
            while self._board.ping == "hang":
                time.sleep(0.05)
            if self._board.ping == "refuse":
                reset(client)
                return
            if self._board.ping == "odd":
                odd.answer(client, odd.OF_A_PING)
                return
            found = method == "GET" and path == "/healthy"
            _answer(client, 503 if found and self._board.ping != "ok" else 200 if found else 404, b"")

    def metrics(self, client: socket.socket) -> None:
        for method, path in _requests(client):
            if self._board.ping == "odd":
                odd.answer(client, odd.OF_METRICS)
                return
            found = method == "GET" and path == "/metrics"
            _answer(
                client,
                200 if found else 404,
                self._metrics.text().encode() if found else b"",
                "text/plain; charset=utf-8",
            )


def _requests(client: socket.socket) -> Iterator[tuple[str, str]]:
    reader = client.makefile("rb")
    while line := reader.readline(8192):
        method, path, _ = line.decode("latin-1").split(" ", 2)
        while reader.readline(8192).strip():
            pass
        yield method, path.partition("?")[0]


def _answer(client: socket.socket, status: int, body: bytes, content_type: str | None = None) -> None:
    reason = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}[status]
    kind = f"content-type: {content_type}\r\n" if content_type and status == 200 else ""
    client.sendall(f"HTTP/1.1 {status} {reason}\r\n{kind}content-length: {len(body)}\r\n\r\n".encode() + body)


def _peers(text: str) -> dict[tuple[str, int], tuple[str, int]]:
    if not text:
        return {}
    (host, _, port), (other, _, other_port) = (side.rpartition(":") for side in text.split("="))
    return {(host, int(port)): (other, int(other_port))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--ports", default="4001,4002,4003", help="proxy, metrics, health")
    parser.add_argument("--rules", default='[{"regex": "blobs/sha256.*"}]', help="JSON, as in dfdaemon.yaml")
    parser.add_argument(
        "--registry", default="https://index.docker.io", help="for origin-form requests without a header"
    )
    parser.add_argument(
        "--peers", default="", help="HOST:PORT=HOST:PORT: fetch what is asked of the first elsewhere"
    )
    parser.add_argument("--log", help="a file for one JSON line a request")
    parser.add_argument("--control", help="a unix socket for faults")
    options = parser.parse_args()
    metrics = Metrics()
    log = TaskLog(options.log, metrics)
    board = Switchboard(lambda: {**log.totals, "odd": odd.turns.total()})
    rules = [Rule(rule["regex"], rule.get("useTLS", False)) for rule in json.loads(options.rules)]
    mirror = Mirror(rules, options.registry, _peers(options.peers), log, board, metrics)
    small = Small(board, metrics)
    serves = (mirror.serve, small.metrics, small.health)
    doors = [
        Door((options.address, int(port)), serve)
        for port, serve in zip(options.ports.split(","), serves, strict=True)
    ]
    board.on_change.append(doors[0].on_fault)
    if options.control:
        board.serve(options.control)
    for door in reversed(doors):  # the proxy's last: who finds it open finds all that belongs to it
        door.open()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
