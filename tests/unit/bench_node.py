"""A node for a bench: a containerd that pulls, a nydusd with a cache, a dfdaemon with a store, all of them
counters.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from agent import paths
from agent.bench.cases import Case
from agent.bench.figures import ImagePair, Measured
from agent.commands.bench.images import Admission
from agent.commands.bench.rounds import Rounds
from agent.commands.bench.starts import PLAIN_NAMESPACE, WantedStart
from agent.config.model import Config
from agent.errors import ProcessError
from agent.ports import (
    BenchPorts,
    Credential,
    Finished,
    HttpAnswer,
    ImageRecord,
    NydusdInfo,
    PeerTask,
    ProgramEnd,
    Timed,
)
from tests.fakes.bench import FakeCaches, FakeDrawing, FakeHostsRoom, FakePeerStore, FakePrograms
from tests.fakes.clock import FakeClock
from tests.fakes.containerd import STOCK_PLUGINS, FakeContainerd, digest_of, nydus_plugin
from tests.fakes.files import FakeFiles
from tests.fakes.http import FakeHttp, Request
from tests.fakes.ledger import FakeLedger
from tests.fakes.nydusd import FakeNydusd
from tests.fakes.processes import FakeProcesses
from tests.unit.small_registries import SmallRegistries

PLAIN, LAZY = "registry.test/app:1", "registry.test/app:1-nydus"
PAIR = ImagePair(PLAIN, LAZY)
BLOB = b"blob"
HEX = digest_of(BLOB).removeprefix("sha256:")
SOCKET = "/var/lib/containerd-nydus/socket/one/api.sock"
NEEDED, WHOLE = 10_000_000, 60_000_000
WANTED = WantedStart(("python3", "-V"), "", 2, 30.0, "/run/dfdaemon.sock")


class _Store(FakeContainerd):
    """Images appear when they are pulled."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__((*STOCK_PLUGINS, nydus_plugin("/run/n.sock", "/var/lib/containerd-nydus")))
        self.late_s = 0.0
        """How long after a removal what nobody needs is collected."""
        self._clock, self._due, self._up_at = clock, dict[tuple[str, str], float](), 0.0

    def pull(
        self, name: str, runtime: str, *, credential: Credential | None = None, deadline_s: float
    ) -> None:
        super().pull(name, runtime, credential=credential, deadline_s=deadline_s)
        if not any(one.name == name for one in self.namespace_images.get("k8s.io", ())):
            self.unpack(self.put_image(name, layers=(b"bootstrap",), lazy=(BLOB,)), "nydus")

    def forget(self, namespace: str, snapshotter: str) -> None:
        """An image was removed."""
        self._due[namespace, snapshotter] = self._clock.monotonic() + self.late_s
        self._collect()

    def down_for(self, seconds: float) -> None:
        """It is being restarted."""
        self.up, self._up_at = False, self._clock.monotonic() + seconds

    def _need_up(self, method: str) -> None:
        self.up = self.up or self._clock.monotonic() >= self._up_at
        super()._need_up(method)
        self._collect()

    def _collect(self) -> None:
        for place in [place for place, due in self._due.items() if self._clock.monotonic() >= due]:
            del self._due[place]
            self._collected(*place)

    def _collected(self, namespace: str, snapshotter: str) -> None:
        """What nothing else needs goes."""
        if not self.namespace_images.get(namespace):
            self.snapshots.pop((snapshotter, namespace), None)
            self.blobs = {key: blob for key, blob in self.blobs.items() if key[0] != namespace}


class FakeRoute:
    """The route; `stuck` is why it cannot be moved to the origin, `away` why it does not come back."""

    def __init__(self) -> None:
        self.at_origin = False
        self.stuck = self.away = ""

    def origin(self, seconds: int) -> str:
        self.at_origin = not self.stuck
        return self.stuck

    def mirror(self, seconds: float) -> str:
        self.at_origin = False
        return self.away

    def release(self) -> str:
        self.at_origin = False
        return ""


class BenchNode:
    """Everything is well: the cases that one node can give are given."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.containerd, self.nydusd, self.programs = _Store(self.clock), FakeNydusd(), FakePrograms()
        self.caches, self.peer, self.route = FakeCaches(), FakePeerStore(), FakeRoute()
        self.processes, self.http, self.ledger, self.drawing = (
            FakeProcesses(),
            FakeHttp(),
            FakeLedger(),
            FakeDrawing(),
        )
        self.files = FakeFiles()
        self.hosts, self.registries = FakeHostsRoom(), SmallRegistries(FakeFiles())
        self.traffic = {"BACK_TO_SOURCE": 0, "REMOTE_PEER": 0, "LOCAL_PEER": 0}
        self.peer_has_it = False
        self.stopped = False
        self.lazy = LAZY
        self.stays = ""
        """Why no image can be removed."""
        self.told: list[str] = []
        self.containerd.registry = {LAZY}
        self.programs.act("pull", self._pull)
        self.programs.act("run", self.run)
        self.processes.on("ctr")
        for namespace in (PLAIN_NAMESPACE, "k8s.io"):
            ctr = ("ctr", "--address", "/run/containerd/containerd.sock", "--namespace", namespace)
            self.processes.act(*ctr, "images", "rm", by=self._remove)
            self.processes.act(*ctr, "namespaces", "rm", by=self._remove_namespace)
        self.http.on("http://127.0.0.1:4002/metrics", self.metrics)

    @property
    def ports(self) -> BenchPorts:
        return BenchPorts(self.files, self.containerd, self.nydusd, self.processes, self.http, self.programs,
                          self.caches, self.peer, self.drawing, self.hosts, self.ledger,
                          self.clock)  # fmt: skip

    def rounds(self, wanted: WantedStart = WANTED, config: Config | None = None) -> Rounds:
        config = config or Config()
        admit = partial(Admission, self.registries.ports, config)
        return Rounds(self.ports, admit, config, wanted, self.route, self.told.append, lambda: self.stopped)

    def measure(self, wanted: WantedStart = WANTED, pair: ImagePair = PAIR) -> Measured:
        return self.rounds(wanted).measure(pair)

    def left(self) -> list[str]:
        """What a bench may not leave."""
        images = [one.name for group in self.containerd.namespace_images.values() for one in group]
        kept = [
            *filter(None, [self.hosts.held]),
            *images,
            *self.caches.names,
            *map(str, self.containerd.snapshots),
        ]
        kept += [path for path in self.files.files if path == paths.BENCH]
        return kept + (["pin"] if self.route.at_origin else []) + ([PLAIN_NAMESPACE] * self._is_made())

    def _is_made(self) -> bool:
        return PLAIN_NAMESPACE in self.containerd.namespace_images

    def _pull(self, argv: tuple[str, ...]) -> Timed:
        record: ImageRecord = self.containerd.put_image(
            argv[-1], layers=(b"plain",), namespace=PLAIN_NAMESPACE
        )
        self.containerd.unpack(record, "overlayfs", PLAIN_NAMESPACE)
        return Timed(ProgramEnd.ITSELF, 0, 0.1, 2.0, ())

    def run(self, argv: tuple[str, ...]) -> Timed:
        """A container that says its line and ends."""
        if self.lazy in argv:
            self._read()
        return Timed(ProgramEnd.ITSELF, 0, 0.2, 0.5, ("Python 3.13.5",))

    def serve(self) -> None:
        """A nydusd for the nydus image, which has fetched nothing yet."""
        config = {"backend": {"registry": {"host": "registry.test", "repo": "app"}}}
        if SOCKET not in self.nydusd.daemons:
            self.nydusd.daemons[SOCKET] = NydusdInfo(SOCKET, "one", "2.4.4", "RUNNING", 1, (("/", config),))
            self.nydusd.metrics[SOCKET] = {"read_amount_total": 0}

    def mark(self, label: str, value: str) -> None:
        """Give the images in CRI's namespace a label."""
        images = self.containerd.namespace_images["k8s.io"]
        images[:] = [replace(one, labels={**one.labels, label: value}) for one in images]

    def _read(self) -> None:
        self.serve()
        if self.caches.names:
            return
        self.caches.names = {f"{HEX}.blob.data", f"{HEX}.blob.meta"}
        read = self.nydusd.metrics[SOCKET]["read_amount_total"]
        assert isinstance(read, int)
        self.nydusd.metrics[SOCKET] = {"read_amount_total": read + NEEDED}
        if self.route.at_origin:
            return
        if self.peer.kept:
            self.traffic["LOCAL_PEER"] += NEEDED
            return
        self.traffic["REMOTE_PEER" if self.peer_has_it else "BACK_TO_SOURCE"] += WHOLE
        self.peer.kept["t"] = PeerTask("t", WHOLE, finished=True, headers=(digest_of(BLOB),))

    def _remove(self, argv: tuple[str, ...], _stdin: bytes) -> Finished:
        namespace, images = argv[4], self.containerd.namespace_images
        if self.stays:
            raise ProcessError("NNA0221", "ctr failed", cause=self.stays)
        images[namespace] = [one for one in images[namespace] if one.name not in argv]
        self.containerd.forget(namespace, "overlayfs" if namespace == PLAIN_NAMESPACE else "nydus")
        if namespace != PLAIN_NAMESPACE:
            self.nydusd.daemons.pop(SOCKET, None)
        return Finished(argv, 0, "", "")

    def _remove_namespace(self, argv: tuple[str, ...], _stdin: bytes) -> Finished:
        del self.containerd.namespace_images[PLAIN_NAMESPACE]
        return Finished(argv, 0, "", "")

    def metrics(self, _request: Request) -> HttpAnswer:
        """What dfdaemon tells of itself."""
        lines = [
            f'dragonfly_client_download_traffic{{type="{name}"}} {value}'
            for name, value in self.traffic.items()
        ]
        return HttpAnswer(200, {}, "\n".join(lines).encode())


def reasons(measured: Measured) -> dict[Case, str]:
    """Why cases were not run."""
    return {result.case: result.not_run for result in measured.results if not result.runs}


def counts(measured: Measured) -> dict[Case, int]:
    """How often the others were."""
    return {result.case: len(result.runs) for result in measured.results if result.runs}
