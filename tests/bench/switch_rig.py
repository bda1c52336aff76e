"""The stage of `make bench-switch`: one node on which two containers read cold files all the time, each from
a mount of its own, and what is timed about an outage of the mirror.

The registry stands behind a front that logs: what arrives there was asked of the origin directly, because the
stand-in for dfdaemon fetches around the front (as dfdaemon has from peers what the registry may not give any
more).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.node import images, parts, scene
from tests.node.boot import Node, NodeError

REGISTRY = "127.0.0.1:5000"
IMAGES = ("cold-a-nydus", "cold-b-nydus")
PAUSE_MS = 12
"""Between two reads of a reader: with a read of 3 to 6 ms about 60 reads a second, of 6000 until files run
out.
"""
SITE = """\
[fleet]
return_window_s = 0
"""
_RESERVE = 700
"""An outage does not begin when a reader has fewer files left than this: it might run out of cold ones."""
_SERVED_S = 15.0
_MENDED_S = 75.0
_BACK_S, _COLD = 15.0, 0.8
_STUCK_MS = 1000.0
"""No reader rests this long between two reads: the one that it is at counts with the time that it has taken
so far.
"""
_TOLD = ("mode", "health_state", "health_reason", "route", "route_reason", "symptoms", "origins")
_BENCH_CONF = "/etc/nydus-agent/conf.d/60-bench.toml"


@dataclass(frozen=True)
class Fault:
    """What breaks the mirror. `prelude` is what must be so before the clock starts (a read that is in a
    body).
    """

    name: str
    begin: Callable[[Rig], None]
    end: Callable[[Rig], None]
    prelude: Callable[[Rig], None] | None = None


@dataclass(frozen=True)
class Outage:
    """What one outage cost. Milliseconds from just before the fault, except where it is said."""

    first: float
    """Until the end of the first read that only the origin can have served: it began when the fault was in
    force, and every request to the mirror was hit."""
    in_flight: float | None
    """Until the end of the last read that was in flight when the fault came; None where none was."""
    slowest: float
    """The longest read of the outage, from its own beginning."""
    routed: float | None
    """Until the route was origin, by the daemon's own record; None where it stayed."""
    window: float
    """The daemon's window for pings when the fault came."""
    direct: int
    """Requests for blobs that came to the origin directly meanwhile."""


@dataclass
class Rig:
    """The stage. `reads`, `errors` count over its whole life; `cold` are the mirror's blob requests for each
    read while all was well.
    """

    node: Node
    registry: parts.Registry
    front: parts.Faulty
    mirror: parts.Mirror
    refs: tuple[str, ...]
    credentials: str = ""
    reads: int = 0
    errors: list[str] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    fenced: bool = True
    """Whether the agent runs and its fence is the switch."""
    watches: bool | None = None
    """Whether the agent reads symptoms; None before the first look."""
    _readers: list[scene.Reader] = field(default_factory=list)
    _counted: list[int] = field(default_factory=list)
    _direct_at: int = 0
    _pulled: bool = False

    # The agent

    def status(self) -> dict[str, Any]:
        """What the daemon published last, read without a program on the node."""
        status: dict[str, Any] = json.loads(self.node.inside("/run/nydus-agent/status.json").read_text())
        return status

    def fresh_agent(self) -> None:
        """A daemon without memory of former outages: stopped (the fence is lifted), started, the mirror
        healthy.
        """
        self.stop_agent()  # which removes what it published
        self.node.run(["systemctl", "start", "nydus-agent"])
        self.wait(self._is_ready, 30, "the agent is ready and the mirror healthy")
        if self.watches is not False:
            self.watches = self._begins_to_watch(5)

    def stop_agent(self) -> None:
        self.node.run("systemctl stop nydus-agent; systemctl reset-failed nydus-agent 2>/dev/null || true")

    def _is_ready(self) -> bool:
        try:
            status = self.status()
        except (OSError, ValueError):
            return False
        return bool(
            status["mode"] == "fence" and status["health_state"] == "healthy" and status["route"] == "mirror"
        )

    def _begins_to_watch(self, deadline_s: float) -> bool:
        deadline = time.monotonic() + deadline_s
        while not self.status()["symptoms"]["watching"]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def configure(self, toml: str) -> None:
        """Replace the bench's own drop-in and apply it. Raises NodeError with what `apply` said."""
        self.node.write(_BENCH_CONF, toml)
        done = scene.agent(self.node, "apply", check=False, timeout=180)
        if done.returncode not in (0, 3):  # 3: mounts that run keep their former configuration
            raise NodeError(f"apply: {done.returncode}\n{done.stdout}{done.stderr}")

    # The readers

    def start_readers(self) -> None:
        """Both mounts anew, with nothing in their caches, and a reader on each."""
        self.stop_readers()
        if self._pulled:
            scene.forget(self.node, *self.refs)
        self._pulled = True
        for number, ref in enumerate(self.refs):
            scene.pull(self.node, ref, credentials=self.credentials)
            self._readers.append(
                scene.Reader(
                    self.node, ref, pause_ms=PAUSE_MS, files=images.COLD_FILES, name=f"reader-{number}"
                )
            )
        self._counted = [0] * len(self._readers)
        for reader in self._readers:
            reader.wait_for(10, 60)

    def forgotten(self) -> None:
        """Somebody else has removed the images."""
        self._pulled = False

    def stop_readers(self) -> None:
        self.count_errors()
        for reader in self._readers:
            reader.__exit__()
        self._readers = []
        self._counted = []

    def count_errors(self) -> int:
        """Read errors since the last call."""
        found: list[str] = []
        for number, reader in enumerate(self._readers):
            new = reader.reads()[self._counted[number] :]
            self._counted[number] += len(new)
            self.reads += len(new)
            found += [read.error for read in new if read.error]
        self.errors += found
        return len(found)

    def all_reads(self) -> list[list[scene.Read]]:
        """Each reader's reads since its mount was made."""
        return [reader.reads() for reader in self._readers]

    def ended_since(self, at: float) -> list[list[scene.Read]]:
        """Each reader's reads that ended at or after `at`."""
        return [_ended(reader.reads(), at) for reader in self._readers]

    def wait(self, done: Callable[[], bool], deadline_s: float, what: str) -> None:
        """As the node's `wait_until`, but asked each 10 ms and naming the daemon's state."""
        deadline = time.monotonic() + deadline_s
        while not done():
            if time.monotonic() > deadline:
                seen = {key: value for key, value in self.status().items() if key in _TOLD}
                raise NodeError(f"not within {deadline_s:g} s: {what}: {json.dumps(seen)}")
            time.sleep(0.01)

    # One outage

    def settle(self) -> None:
        """Reads go through the mirror, and each reader has cold files left."""
        if self.fenced:
            # first: an image is pulled through the mirror, where the origin is down only so
            self.fresh_agent()
        if not self._readers or min(self._left()) < _RESERVE:
            self.start_readers()
        # nydusd's `mirrors` come back by its own health check, a second later.
        deadline = time.monotonic() + _BACK_S
        while (share := self._cold_share()) < _COLD and time.monotonic() < deadline:
            pass
        self.cold.append(share)

    def _cold_share(self) -> float:
        """Requests for blobs that reach the mirror, for each read, while each reader does eight."""
        asked, seen = self.mirror.stats()["blob_requests"], time.time()
        self.wait(lambda: min(map(len, self.ended_since(seen))) >= 8, 30, "the readers read")
        reads = sum(map(len, self.ended_since(seen)))
        return (self.mirror.stats()["blob_requests"] - asked) / reads

    def _left(self) -> list[int]:
        return [images.COLD_FILES - len(reader.reads()) for reader in self._readers]

    def outage(self, fault: Fault, *, served: int = 3, deadline_s: float = _SERVED_S) -> Outage:
        """Break the mirror until each reader was served `served` times from the origin, then mend it."""
        self.settle()
        self.direct()
        if fault.prelude is not None:
            fault.prelude(self)
        window = float(self.status().get("window_ms", 600)) if self.fenced else 0.0
        began = time.time()
        fault.begin(self)
        in_force = time.time()
        try:
            with contextlib.suppress(NodeError):  # then it shows as a read that took all the time
                self.wait(
                    lambda: self.served_since(in_force) >= served,
                    deadline_s,
                    f"{fault.name}: reads are served",
                )
            found = self._measure(began, in_force, window)
        finally:
            fault.end(self)
        mended = time.time()
        self.wait(lambda: self.served_since(mended) >= 1, _MENDED_S, f"{fault.name} is over: reads go on")
        self.count_errors()
        return found

    def served_since(self, since: float) -> int:
        """Reads without an error that began at or after `since`, of the reader that had fewest."""
        return min(
            sum(not read.error and read.at >= since for read in reads) for reads in self.ended_since(since)
        )

    def _measure(self, began: float, in_force: float, window: float) -> Outage:
        reads = [read for each in self.ended_since(began) for read in each]
        first = min(
            (read.end for read in reads if read.at >= in_force and not read.error), default=time.time()
        )
        stuck = [(time.time() - each[-1].end) * 1000 for each in self.all_reads()]
        cut = [read.end for read in reads if read.at < began]
        routed = None
        if self.fenced:
            status = self.status()
            routed = (status["route_since"] - began) * 1000 if status["route"] == "origin" else None
        return Outage(
            (first - began) * 1000,
            (max(cut) - began) * 1000 if cut else None,
            max([read.ms for read in reads] + [wait for wait in stuck if wait > _STUCK_MS]),
            routed,
            window,
            self.direct(),
        )

    def direct(self) -> int:
        """Blob requests that came to the origin directly since the last call."""
        now = self.front.stats()["blob_requests"]
        new, self._direct_at = now - self._direct_at, now
        return new


def _ended(reads: Sequence[scene.Read], at: float) -> list[scene.Read]:
    # The newest reads are few: looked at from the end.
    found = []
    for read in reversed(reads):
        if read.end < at:
            break
        found.append(read)
    return found[::-1]


@contextmanager
def staged(*, dialect: str = "proxy", snapshotter: str = "0.16.1", more: Sequence[str] = ()) -> Iterator[Rig]:
    """The stage; `more` are further images for its registry. In the `mirrors` dialect the registry asks for
    credentials, because nydusd 2.2.0 goes around a mirror for one that does not.
    """
    with Node(snapshotter=snapshotter) as node:
        closed = dialect == "mirrors"
        registry = (
            parts.start_auth_registry(node, port=5009) if closed else parts.start_registry(node, port=5009)
        )
        front = parts.start_front(node, 5000, 5009)
        mirror = parts.start_mirror(node, peers=f"{REGISTRY}=127.0.0.1:5009")
        for name in (*IMAGES, *more):
            images.push(
                node, name, f"{registry.host}/{name}:1", user=registry.user, password=registry.password
            )
        images.load_pause(node)
        if closed:
            registry.host = REGISTRY
            scene.docker_login(node, registry)
        scene.install(node, _site(dialect))
        credentials = f"{registry.user}:{registry.password}" if closed else ""
        rig = Rig(
            node, registry, front, mirror, tuple(f"{REGISTRY}/{name}:1" for name in IMAGES), credentials
        )
        try:
            yield rig
        finally:
            rig.stop_readers()


def _site(dialect: str) -> str:
    mirror = (
        f'[mirror]\ndialect = "mirrors"\nregistry = "http://{REGISTRY}"\n' if dialect == "mirrors" else ""
    )
    host = f'[[registries.hosts]]\nhost = "{REGISTRY}"\nscheme = "http"\n'
    return f"[apply]\non_install = true\n{SITE}{mirror}{host}"
