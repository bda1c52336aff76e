"""Run in a process of its own (python3 -m tests.contract.outage DIRECTORY): the whole daemon with the real fence and a
small mirror that dies once everything is well. Prints one JSON object: what the way to the origin took.
"""

from __future__ import annotations

import asyncio
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

from agent.adapters.fence import NftFence
from agent.commands import daemon as verb
from tests.contract.netns import own_network


def main(root: Path) -> dict[str, object]:
    """The outage. The modules of the daemon are imported here and not above, as the daemon's verb does it."""
    with own_network(), closing(NftFence(61234)) as fence:
        return asyncio.run(_outage(root, fence))


async def _outage(root: Path, fence: NftFence) -> dict[str, object]:
    from agent.config.model import Config, EndpointConfig, FleetConfig, MirrorConfig
    from agent.daemon.service import Service
    from agent.daemon.settings import Places
    from tests.fakes.daemon import FakeDaemonPorts
    from tests.fakes.mirror import SmallMirror

    places = Places.below(str(root))
    for place in (places.status, places.effective):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(places.effective).write_text(json.dumps({"switch": "fence", "reasons": ["for this test"]}))
    fakes = FakeDaemonPorts()
    async with SmallMirror() as mirror:
        fakes.tables.held = {mirror.proxy_port: 0, mirror.ping_port: 0}
        config = Config(
            mirror=MirrorConfig(url=mirror.url, ping_url=mirror.ping_url),
            endpoint=EndpointConfig(port=14003),
            fleet=FleetConfig(return_window_s=0),
        )
        service = Service(lambda: config, replace(fakes.ports(), fence=fence), places)
        running = asyncio.create_task(service.run())
        await _until(lambda: _status(places.status).get("verdict") == "healthy")
        before, descriptors = set(sys.modules), set(os.listdir("/proc/self/fd"))
        threads = threading.active_count()
        started = time.monotonic()
        await mirror.die()
        fakes.tables.held.clear()
        await _until(lambda: bool(fence.fenced()))
        took_s = time.monotonic() - started
        await _until(lambda: _status(places.status).get("route") == "origin")
        found = {
            "took_s": took_s,
            "imported": sorted(set(sys.modules) - before),
            "opened": len(set(os.listdir("/proc/self/fd")) - descriptors),
            "threads": threading.active_count() - threads,
        }
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 5)
        fakes.watch.close()
        return found


def _status(path: str) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        return {}
    return found


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not done():
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    verb._without_openssl()
    print(json.dumps(main(Path(sys.argv[1]))))
