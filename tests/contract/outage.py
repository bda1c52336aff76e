"""Run in a process of its own (python3 -m tests.contract.outage DIRECTORY): the whole daemon, on its own loop
and with the real fence, and a small mirror that dies once everything is well. Prints one JSON object: what
the way to the origin took.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from agent.netfilter.fence import NftFence
from tests.contract.beside import beside
from tests.contract.netns import own_network

_LOOK_S, _DEADLINE_S = 0.01, 60.0


def main(root: Path) -> dict[str, object]:
    """The outage.

    The modules of the daemon are imported behind the fork of the mirror, which needs none of them.
    """
    with own_network(), closing(NftFence(61234)) as fence, beside(_mirror) as (child, ports):
        return _outage(root, fence, child, *ports)


def _mirror(ports: int) -> None:
    """A small mirror; its ports (proxy, ping) are told through the descriptor."""
    import asyncio

    from tests.fakes.mirror import SmallMirror

    async def serve() -> None:
        async with SmallMirror() as mirror:
            os.write(ports, json.dumps([mirror.proxy_port, mirror.ping_port]).encode())
            await asyncio.sleep(600)

    asyncio.run(serve())


def _outage(root: Path, fence: NftFence, mirror: int, proxy_port: int, ping_port: int) -> dict[str, object]:
    import asyncio

    from agent.config.model import Config, EndpointConfig, FleetConfig, MirrorConfig
    from agent.daemon.service import Service
    from agent.daemon.settings import Places
    from tests.fakes.daemon import FakeDaemonPorts

    places = Places.below(str(root))
    for place in (places.status, places.effective):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(places.effective).write_text(json.dumps({"switch": "fence", "reasons": ["for this test"]}))
    fakes, found = FakeDaemonPorts(), dict[str, object]()
    fakes.tables.held = {proxy_port: 0, ping_port: 0}
    url = f"http://127.0.0.1:{proxy_port}"
    config = Config(
        mirror=MirrorConfig(url=url, ping_url=f"http://127.0.0.1:{ping_port}/healthy"),
        endpoint=EndpointConfig(port=14003),
        fleet=FleetConfig(return_window_s=0),
    )

    async def story() -> None:
        """What happens to the daemon while it runs."""
        await _until(lambda: _status(places.status).get("health_state") == "healthy")
        before, descriptors = set(sys.modules), set(os.listdir("/proc/self/fd"))
        threads = threading.active_count()
        started = time.monotonic()
        os.kill(mirror, signal.SIGKILL)
        fakes.tables.held.clear()
        await _until(lambda: bool(fence.fenced()))
        found["took_s"] = time.monotonic() - started
        await _until(lambda: _status(places.status).get("route") == "origin")
        found["imported"] = sorted(set(sys.modules) - before)
        found["opened"] = len(set(os.listdir("/proc/self/fd")) - descriptors)
        found["threads"] = threading.active_count() - threads
        os.kill(os.getpid(), signal.SIGTERM)

    async def life() -> None:
        told = asyncio.create_task(story())
        await Service(lambda: config, replace(fakes.ports(), fence=fence), places).run()
        await told
        found["left"] = len(asyncio.all_tasks()) > 1

    asyncio.run(life())
    fakes.close()
    return found


def _status(path: str) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        return {}
    return found


async def _until(done: Callable[[], bool]) -> None:
    import asyncio

    async with asyncio.timeout(_DEADLINE_S):
        while not done():
            await asyncio.sleep(_LOOK_S)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
