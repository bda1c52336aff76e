"""Run in a process of its own (python3 -m tests.contract.want DIRECTORY): the whole daemon, which comes to
lack descriptors while the mirror and the origin, in another process, are well. Prints one JSON object: what
it made of that.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from agent.config.model import RegistriesConfig, RegistryHost, Scheme
from agent.daemon.origins import Origins
from agent.daemon.settings import Origin
from agent.daemon.tasks import task_group
from agent.health.evidence import AgentInWant, OriginSeen
from tests.contract.beside import beside
from tests.fakes.daemon import FakeNames
from tests.fakes.event_loop import go, until
from tests.fakes.mirror import SmallMirror
from tests.unit.daemon_node import Node, running

NONE_S = 2.0


async def _surroundings(ports: int) -> None:
    """A mirror and an origin that are well; their ports are told through the descriptor."""
    origin = await asyncio.start_server(_registry, "127.0.0.1", 0)
    async with SmallMirror() as mirror:
        told = [mirror.proxy_port, mirror.ping_port, origin.sockets[0].getsockname()[1]]
        os.write(ports, json.dumps(told).encode())
        await asyncio.sleep(600)


async def _registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


@contextmanager
def _descriptors_left(count: int) -> Iterator[None]:
    """No more than so many can be opened inside."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)  # the lowest that is not in use
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def _daemon(root: Path, mirror: SmallMirror, origin: int) -> dict[str, object]:
    node = Node(root, mirror)
    host = RegistryHost(host=f"127.0.0.1:{origin}", scheme=Scheme.HTTP)
    node.config = replace(node.config, registries=RegistriesConfig(hosts=(host,)))
    async with running(node):
        await until(lambda: node.is_("healthy", "mirror")() and bool(node.status["mirror"]["canary_ok"]))
        not_accepted = await _not_accepted(node)
        with _descriptors_left(0):
            await asyncio.sleep(NONE_S)
        found = await _made(node)
    return {**found, "not_accepted": not_accepted}


async def _not_accepted(node: Node) -> dict[str, object]:
    """Only accept() fails, between two canaries, and is tried again after a second: until then canaries can
    be sent, and their way back is not taken.
    """
    first = await _canaries(node)
    while await _canaries(node) == first:
        await asyncio.sleep(0.005)
    with socket.socket() as caller:
        with _descriptors_left(0):
            caller.connect(("127.0.0.1", node.config.endpoint.port))
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)
    return await _made(node)


async def _canaries(node: Node) -> float:
    return _counted((await node.get_local("/metrics"))[1], 'canaries_total{result="ok"}')


async def _made(node: Node) -> dict[str, object]:
    """What the daemon has made of it until now."""
    _, metrics = await node.get_local("/metrics")
    status = node.status
    return {
        "health_state": status["health_state"],
        "route": status["route"],
        "told": node.condition("AgentInWant"),
        "changes": [entry["to"] for entry in status["history"]],
        "raised": status["fence"]["raised"],
        "pings_wanted": _counted(metrics, 'pings_total{result="want"}'),
        "wanted": sum(_counted(metrics, f'{kind}_total{{result="want"}}') for kind in ("pings", "canaries")),
        "not_taken": sum(
            _counted(metrics, f'canaries_total{{result="{how}"}}') for how in ("silent", "want")
        ),
    }


def _counted(metrics: str, series: str) -> float:
    name = f"nydus_agent_{series} "
    return float(next(line for line in metrics.splitlines() if line.startswith(name)).removeprefix(name))


async def _asked(port: int) -> list[object]:
    """What an origin that is well is called, with a descriptor and without one."""
    seen: list[OriginSeen | AgentInWant] = []
    async with task_group() as tasks:
        origins = Origins(
            tasks, (Origin("127.0.0.1", port, tls=False),), FakeNames(), seen.append, lambda: False
        )
        tasks.create_task(origins.run(), name="origins")
        await until(lambda: len(seen) == 1)
        with _descriptors_left(0):
            origins.ask()
            await until(lambda: len(seen) == 2)
    return [type(event).__name__ if isinstance(event, AgentInWant) else event.good for event in seen]


def main(root: Path) -> dict[str, object]:
    """Both, beside surroundings that lack nothing."""
    with beside(lambda ports: asyncio.run(_surroundings(ports))) as (_, (proxy, ping, origin)):
        found = go(_daemon(root, SmallMirror(proxy, ping), origin))
        return {**found, "origin": go(_asked(origin))}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
