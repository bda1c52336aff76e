"""The images of a bench: pulled, started with a clock beside them, and gone again. Nothing that was on the
node before is touched: a plain image lives in a namespace of our own, a nydus image is new to CRI's, or is
started as it is.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent import paths
from agent.commands.bench.images import Admission, Layers, layers_of
from agent.config.model import Config, ContainerdMode
from agent.errors import AgentError, ContainerdError, ContainerdUnavailableError, NydusdError, ProcessError
from agent.node.images import NAMESPACE
from agent.ports import BenchPorts, ProgramEnd, Timed
from agent.proof.checks_nydusd import backend_of
from agent.registry.names import image_parts

PLAIN_NAMESPACE = "nydus-agent-bench"
"""Of plain images: ours alone, so all that is in it may go."""
PLAIN_SNAPSHOTTER = "overlayfs"
CONTAINER = "nydus-agent-bench"

_CALL_S = 10.0
_REMOVE_S = 60.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class WantedStart:
    """What is started, and how a container is known to be ready."""

    command: tuple[str, ...]
    """() = the image's own."""
    ready: str
    """A regular expression of a line; "" = it ends with 0, and was ready at its first output."""
    repetitions: int
    deadline_s: float
    """Of one pull, and of one run."""
    peer_socket: str
    """dfdaemon's."""
    take_away: bool = False
    """Images that are on the node already may go for a while, where nobody needs them."""


@dataclass(frozen=True, slots=True)
class Started:
    """One pull and start; seconds from the beginning of the pull."""

    pull_s: float
    output_s: float | None
    ready_s: float


@dataclass(frozen=True, slots=True)
class NodeBefore:
    """What was on the node before us."""

    names: frozenset[str]
    """Of images in the namespace of the one that is measured."""
    digests: frozenset[str]
    """Blobs in all namespaces: containerd shares them."""
    snapshots: frozenset[str]
    cached: frozenset[str]
    """Names in nydusd's cache."""


def ctr(config: Config, namespace: str) -> tuple[str, ...]:
    """ctr(8) as it asks this node's containerd."""
    return ("ctr", "--address", config.containerd.address, "--namespace", namespace)


class StartImage:
    """An image, plain or nydus."""

    def __init__(
        self, ports: BenchPorts, config: Config, admission: Admission, wanted: WantedStart,
        stopped: Callable[[], bool],
        *, nydus: bool,
    ) -> None:  # fmt: skip
        self.name = admission.name
        self.namespace = NAMESPACE if nydus else PLAIN_NAMESPACE
        self.snapshotter = paths.PROXY_PLUGIN if nydus else PLAIN_SNAPSHOTTER
        self._nydus = nydus
        self._ports, self._config, self._wanted, self._stopped = ports, config, wanted, stopped
        self._admission = admission
        self._cache = posixpath.join(config.snapshotter.root, "cache")
        self._before: NodeBefore | None = None
        self._ctr = ctr(config, self.namespace)

    def is_here(self) -> bool:
        """Whether containerd knows it in its namespace. Raises ContainerdError."""
        return any(
            one.name == self.name for one in self._ports.containerd.images(self.namespace, deadline_s=_CALL_S)
        )

    def remember(self) -> NodeBefore:
        """Remember what is there now, of others, so that it stays. Raises ContainerdError, FileError."""
        containerd = self._ports.containerd
        names = frozenset(one.name for one in containerd.images(self.namespace, deadline_s=_CALL_S)) - {
            self.name
        }
        spaces = [space for space in containerd.namespaces(deadline_s=_CALL_S) if space != PLAIN_NAMESPACE]
        digests = [containerd.digests(space, deadline_s=_CALL_S) for space in spaces]
        cached = self._ports.caches.cached(self._cache) if self._nydus else frozenset[str]()
        kept = names if self._nydus else frozenset[str]()
        self._before = NodeBefore(kept, frozenset[str]().union(*digests), self._snapshots(), cached)
        return self._before

    def layers(self) -> Layers:
        """Of the image as it is on the node. Raises ContainerdError, AgentError NNA1701."""
        return layers_of(self._ports.containerd, self.namespace, self.name)

    def start(self, *, pull: bool = True) -> Started:
        """Pull it and start a container. Raises AgentError NNA1701, ContainerdError, CredentialError,
        HttpError; KeyboardInterrupt where somebody stopped us.
        """
        clock = self._ports.clock
        began = clock.monotonic()
        if pull:
            self._pull()
        pull_s = clock.monotonic() - began
        argv = [
            *self._ctr,
            "run",
            "--rm",
            "--cpu-shares",
            "0",
            "--snapshotter",
            self.snapshotter,
            self.name,
            CONTAINER,
        ]
        end = [*self._ctr, "tasks", "kill", "--signal", "SIGKILL", CONTAINER]
        timed = self._timed([*argv, *self._wanted.command], ready=self._wanted.ready, end=end)
        if timed.end is not ProgramEnd.ITSELF:
            self.remove_container()
        self._judge(timed, "run", awaited=bool(self._wanted.ready))
        ready_s = timed.ready_s if self._wanted.ready or timed.output_s is None else timed.output_s
        return Started(pull_s, None if timed.output_s is None else pull_s + timed.output_s, pull_s + ready_s)

    def remove_container(self) -> None:
        """Also what a run before us left; no error where there is none."""
        for verb in (("tasks", "delete", "--force"), ("containers", "delete")):
            with contextlib.suppress(ProcessError):
                self._ports.processes.run([*self._ctr, *verb, CONTAINER], deadline_s=_CALL_S, ok=(0, 1))

    def remove(self, layers: Layers) -> None:
        """Image, snapshots and nydusd's cache of it go. Raises ContainerdError, ProcessError, FileError,
        AgentError NNA1701 where something of it stays.
        """
        self._remove_image()
        self.wait_gone(layers)
        self._remove_cache(layers)

    def discard(self) -> None:
        """Remove what was pulled, in whatever state, and wait until it is gone: what comes next may share its
        layers. Raises as `remove`.
        """
        if not self.is_here() or self._before is None:
            return
        layers = None
        with contextlib.suppress(AgentError):  # it was pulled in part
            layers = self.layers()
        self._remove_image()
        if layers is not None:
            if not shared(self._there, layers):
                # Of what others have too, more may stay than was there before.
                self.wait_gone(layers)
            self._remove_cache(layers)

    def _remove_image(self) -> None:
        """CRI keeps an image under its name, its name with a digest, and its id: those that came with our
        pull go, and no name that was there before (CRI's own RemoveImage would take all names of the image).
        """
        records = self._ports.containerd.images(self.namespace, deadline_s=_CALL_S)
        ours = {one.digest for one in records if one.name == self.name}
        names = [one.name for one in records if one.digest in ours and one.name not in self._there.names]
        if names:
            self._ports.processes.run([*self._ctr, "images", "rm", "--sync", *names], deadline_s=_REMOVE_S)

    def _remove_cache(self, layers: Layers) -> None:
        for blob in layers.lazy:
            if not any(name.startswith(blob) for name in self._there.cached):
                self._ports.caches.remove_blob(self._cache, blob)

    @property
    def _there(self) -> NodeBefore:
        assert self._before is not None, "nothing is removed before it is known what was there"
        return self._before

    def remove_namespace(self) -> None:
        """Remove the namespace of our own; CRI's is none. Raises ContainerdError, ProcessError."""
        if self._nydus or PLAIN_NAMESPACE not in self._ports.containerd.namespaces(deadline_s=_CALL_S):
            return
        leases = self._ports.processes.run(
            [*self._ctr, "leases", "ls", "-q"], deadline_s=_CALL_S
        ).stdout.split()
        if leases:  # of a pull that was cut off
            self._ports.processes.run([*self._ctr, "leases", "rm", "--sync", *leases], deadline_s=_REMOVE_S)
        with contextlib.suppress(ProcessError):  # one that is not empty yet stays; the next bench takes it
            self._ports.processes.run([*self._ctr, "namespaces", "rm", PLAIN_NAMESPACE], deadline_s=_CALL_S)

    def fetched(self) -> Mapping[str, int] | None:
        """What each nydusd that serves this image's repository has asked its backend for, by its socket;
        None: one does not tell.
        """
        nydusd, found = self._ports.nydusd, dict[str, int]()
        _, repository = image_parts(self.name)
        try:
            for socket in nydusd.sockets(self._config.snapshotter.root):
                backends = nydusd.info(socket, deadline_s=_CALL_S).backends
                if any(backend_of(config).get("repo") == repository for _, config in backends):
                    read = nydusd.backend_metrics(socket, deadline_s=_CALL_S).get("read_amount_total")
                    if not isinstance(read, int):
                        return None
                    found[socket] = read
        except NydusdError:
            return None
        return found

    def _pull(self) -> None:
        if self._nydus:
            runtime = paths.RUNTIME if self._config.containerd.mode is ContainerdMode.RUNTIME_CLASS else ""
            who, deadline_s = self._admission.credential, self._wanted.deadline_s
            self._ports.containerd.pull(self.name, runtime, credential=who, deadline_s=deadline_s)
            if self._stopped():
                raise KeyboardInterrupt
            return
        with self._ports.hosts.holding(self._admission.hosts_file()) as hosts:
            argv = [
                *self._ctr,
                "images",
                "pull",
                "--snapshotter",
                self.snapshotter,
                "--hosts-dir",
                hosts,
                self.name,
            ]
            self._judge(self._timed(argv), "pull")

    def _timed(self, argv: list[str], *, ready: str = "", end: list[str] | None = None) -> Timed:
        return self._ports.programs.run(
            argv, ready=ready, end=end or [], deadline_s=self._wanted.deadline_s, stopped=self._stopped
        )

    def _judge(self, timed: Timed, what: str, *, awaited: bool = False) -> None:
        """Raises AgentError NNA1701 where it is not what was waited for, KeyboardInterrupt."""
        if timed.end is ProgramEnd.STOPPED:
            raise KeyboardInterrupt
        if timed.end is ProgramEnd.READY or (
            timed.end is ProgramEnd.ITSELF and timed.code == 0 and not awaited
        ):
            return
        cause = f"not done within {self._wanted.deadline_s:g} s"
        if what == "run" and timed.end is ProgramEnd.DEADLINE and not awaited:
            cause += ": what never ends by itself, such as a server, needs --ready"
        if timed.end is ProgramEnd.ITSELF:
            cause = f"it ended with {timed.code}" + (
                ", and never said what was waited for" if awaited else ""
            )
        raise AgentError("NNA1701", f"the {what} of {self.name} failed", cause=cause, seen=timed.tail)

    def wait_gone(self, layers: Layers) -> None:
        """containerd collects in the background what was not collected with the image: a pull that finds a
        layer's content or its snapshot there is not cold. Raises AgentError NNA1701.
        """
        clock = self._ports.clock
        deadline = clock.monotonic() + _REMOVE_S
        while left := self._left(layers):
            if clock.monotonic() > deadline:
                cause = f"{left} stay: other images or containers need them"
                raise AgentError("NNA1701", f"{self.name} cannot be made cold", cause=cause)
            clock.sleep(_POLL_S)

    def _left(self, layers: Layers) -> str:
        """What is there of an image whose name is gone; "" = nothing."""
        if snapshots := len(layers.chains & self._snapshots()):
            return f"{snapshots} of its snapshots"
        blobs = len(layers.digests & self._ports.containerd.digests(self.namespace, deadline_s=_CALL_S))
        return f"{blobs} of its blobs" if blobs else ""

    def _snapshots(self) -> frozenset[str]:
        try:
            found = self._ports.containerd.snapshot_keys(self.snapshotter, self.namespace, deadline_s=_CALL_S)
        except ContainerdUnavailableError:  # what does not answer now may hold them all
            raise
        except ContainerdError:  # containerd does not know the snapshotter, or the namespace is not there yet
            return frozenset()
        return frozenset(key for key, _ in found)


def shared(before: NodeBefore, layers: Layers) -> str:
    """Why an image cannot be made cold: something of it was here before us and must stay; "" = it can."""
    here = len(layers.digests & before.digests) + len(layers.chains & before.snapshots)
    here += sum(any(name.startswith(blob) for name in before.cached) for blob in layers.lazy)
    return (
        f"{here} of its parts were on the node before, of other images: it cannot be made cold"
        if here
        else ""
    )
