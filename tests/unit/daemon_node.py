"""A whole daemon on the loopback, with a small mirror and a fence of dictionaries, for the tests of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from agent.config.model import Config, EndpointConfig, FleetConfig, HealthConfig, MirrorConfig
from agent.daemon.service import Service
from agent.daemon.settings import Places
from agent.daemon.tasks import task_group
from agent.errors import ConfigError
from tests.fakes.daemon import FakeDaemonPorts
from tests.fakes.event_loop import daemons_tasks, until
from tests.fakes.free_port import free_port
from tests.fakes.mirror import SmallMirror

HEALTH = HealthConfig(
    interval_ms=50,
    window_ms=200,
    rise=3,
    dwell_ms=300,
    canary_interval_ms=200,
    tentative_ms=2000,
    renew_ms=200,
)


class Node:
    """A daemon with its surroundings. What root's verbs would leave is written to `root`."""

    def __init__(self, root: Path, mirror: SmallMirror) -> None:
        self.root = root
        self.mirror = mirror
        self.fakes = FakeDaemonPorts()
        self.fakes.tables.held = {mirror.proxy_port: 0, mirror.ping_port: 0}
        self.config = Config(
            mirror=MirrorConfig(url=mirror.url, ping_url=mirror.ping_url, health=HEALTH),
            endpoint=EndpointConfig(port=free_port()),
            fleet=FleetConfig(return_window_s=0),
        )
        self.config_error: ConfigError | None = None
        self.places = Places.below(str(root))
        for place in (self.places.status, self.places.effective):
            Path(place).parent.mkdir(parents=True, exist_ok=True)
        self.apply("fence")

    def load(self) -> Config:
        if self.config_error is not None:
            raise self.config_error
        return self.config

    def apply(self, switch: str, **more: object) -> None:
        """As if `apply` had set the node up."""
        document = {"switch": switch, "reasons": [f"set to {switch}"], **more}
        self.put(self.places.effective, document)

    def put(self, place: str, document: object) -> None:
        Path(place + ".new").write_text(json.dumps(document))
        Path(place + ".new").rename(place)

    @property
    def status(self) -> dict[str, Any]:
        try:
            found = json.loads(Path(self.places.status).read_bytes())
        except FileNotFoundError:
            return {}
        assert isinstance(found, dict)
        return found

    def fenced(self) -> bool:
        return bool(self.fakes.fence.fenced())

    def is_(self, health_state: str, route: str) -> Callable[[], bool]:
        return lambda: (self.status.get("health_state"), self.status.get("route")) == (health_state, route)

    def condition(self, kind: str) -> str:
        return str({item["type"]: item["status"] for item in self.status["conditions"]}[kind])

    async def get(self, path: str) -> tuple[int, str]:
        """From the TCP endpoint."""
        return await self._ask(await asyncio.open_connection("127.0.0.1", self.config.endpoint.port), path)

    async def get_local(self, path: str) -> tuple[int, str]:
        """From the unix socket."""
        return await self._ask(await asyncio.open_unix_connection(self.places.api_socket), path)

    async def _ask(
        self, pair: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str
    ) -> tuple[int, str]:
        reader, writer = pair
        with closing(writer):
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.config.endpoint.port}\r\n\r\n".encode()
            )
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body.decode("utf-8", "replace")


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[Node]:
    """The daemon runs inside. It ends by SIGTERM, as systemd does it, and leaves nothing behind in the loop;
    what ends it otherwise ends the test.
    """
    try:
        async with task_group() as tasks:
            daemon = tasks.create_task(Service(node.load, node.fakes.ports(), node.places).run())
            await until(lambda: "READY=1" in node.fakes.notify.sent)
            yield node
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(60):
                await daemon
        assert daemons_tasks() == []
    finally:
        node.fakes.close()


@asynccontextmanager
async def until_killed(node: Node) -> AsyncIterator[None]:
    """The daemon runs inside; it ends without a word, as by kill -9."""
    async with task_group() as tasks:
        tasks.create_task(Service(node.load, node.fakes.ports(), node.places).run())
        await until(lambda: "READY=1" in node.fakes.notify.sent)
        yield
    node.fakes.close()


def fresh(place: Path) -> Path:
    """A node's root, for work that may be run again."""
    return Path(tempfile.mkdtemp(dir=place))


@asynccontextmanager
async def healthy(place: Path) -> AsyncIterator[Node]:
    async with SmallMirror() as mirror, running(Node(fresh(place), mirror)) as node:
        await until(node.is_("healthy", "mirror"))
        yield node
