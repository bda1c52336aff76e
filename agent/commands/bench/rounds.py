"""The order of a bench: a start of each image that does not count, then rounds without Dragonfly, then rounds
with it, so that what changes with time on a busy node meets all cases of a block alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from agent.bench.cases import Case, CaseResult, CaseRun, came_from, is_cached, why_never
from agent.bench.figures import ImagePair, Measured
from agent.commands.bench.images import Admission, Layers
from agent.commands.bench.mirror import BenchPeer, NodeCounters
from agent.commands.bench.presence import Presence
from agent.commands.bench.starts import PLAIN_SNAPSHOTTER, StartImage, WantedStart, shared
from agent.config.model import Config, ContainerdMode
from agent.errors import AgentError, ContainerdError, FileError
from agent.node import waits
from agent.ports import BenchPorts

_CALL_S = 10.0
_LEAST = 1 << 30
_KUBELET = "/var/lib/kubelet"
_KUBELET_ACTS = 0.15
"""Of a disk's size, free: imageGCHighThresholdPercent 85, and evictionHard's imagefs.available (kubelet's
defaults).
"""

INTERRUPTED = "somebody stopped it"
_PIN_ROOM_S = 60
_RETURN_ROOM_S = 60.0
_NO_IMAGE = {True: "no nydus image was named", False: "no plain image was named"}


@dataclass
class CaseTally:
    """What was measured of a pair so far, and why something was not."""

    runs: dict[Case, list[CaseRun]] = field(default_factory=dict)
    reasons: dict[Case, str] = field(default_factory=dict)

    def add(self, case: Case, run: CaseRun) -> None:
        """One more run."""
        self.runs.setdefault(case, []).append(run)

    def refuse(self, why: str, *cases: Case) -> None:
        """Why some cases are not run."""
        self.reasons.update(dict.fromkeys(cases, why))

    def results(self, cut: str) -> tuple[CaseResult, ...]:
        """In the chart's order; `cut`: why the rest was not measured."""
        late = f"the bench was ended before it: {cut}" if cut else ""
        return tuple(
            CaseResult(case, tuple(self.runs.get(case, ())), self.reasons.get(case, late)) for case in Case
        )


class BenchRoute(Protocol):
    """Where reads go, as far as the bench may move them (`agent.commands.bench.mirror`)."""

    def origin(self, seconds: int) -> str:
        """Reads of the whole node go to the origin for at most so long; "" or why they do not."""

    def mirror(self, seconds: float) -> str:
        """Reads go back to the mirror within so long; "" or why they do not."""

    def release(self) -> str:
        """Nothing of ours moves reads any more; "" or why that could not be told."""


class Rounds:
    """Measures pairs of images, one after the other."""

    def __init__(
        self, ports: BenchPorts, admit: Callable[[str], Admission], config: Config, wanted: WantedStart,
        route: BenchRoute, tell: Callable[[str], None], stopped: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._ports, self._config, self._wanted, self._route = ports, config, wanted, route
        self._admit = admit
        self._tell, self._stopped = tell, stopped
        self._presence = Presence(ports, config, admit, wanted.deadline_s, allowed=wanted.take_away)
        self._peer = BenchPeer(ports, config.mirror.metrics_url, wanted.peer_socket)
        self.measured: list[Measured] = []
        """Of each pair what was measured, also of one that was ended."""
        self.notes: dict[str, None] = {}
        """What was not as it should be, each once."""
        self.problems: list[str] = []
        """What could not be cleared up."""

    def resume(self) -> list[str]:
        """Bring back what a bench that was killed has taken away; what of it stays undone is told.

        Raises FileError.
        """
        return self._presence.resume()

    def measure(self, pair: ImagePair) -> Measured:
        """All cases that this node can give. Whatever happens, what was pulled is removed, and what was
        measured is kept. Raises AgentError, KeyboardInterrupt.
        """
        tally, cut = CaseTally(), ""
        images = {
            nydus: self._image(name, nydus=nydus)
            for nydus, name in ((False, pair.oci), (True, pair.nydus))
            if name
        }
        try:
            self._all(tally, images)
        except AgentError as error:
            cut = f"{error.what}: {error.cause}"
            raise
        except KeyboardInterrupt:
            cut = INTERRUPTED
            raise
        finally:
            self.measured.append(Measured(pair, tally.results(cut), cut))
            self._put_back(images.values())
        return self.measured[-1]

    def _all(self, tally: CaseTally, images: dict[bool, StartImage]) -> None:
        known: dict[bool, Layers] = {}
        for nydus in (False, True):
            cases = [case for case in Case if (case is not Case.OCI) is nydus]
            self._warm(tally, cases, images.get(nydus), known, nydus=nydus)
        self._direct(tally, images, known)
        if True in known:
            self._mirrored(tally, images[True], known[True])

    def _image(self, name: str, *, nydus: bool) -> StartImage:
        return StartImage(
            self._ports, self._config, self._admit(name), self._wanted, self._stopped, nydus=nydus
        )

    def _warm(
        self,
        tally: CaseTally,
        cases: list[Case],
        image: StartImage | None,
        known: dict[bool, Layers],
        *,
        nydus: bool,
    ) -> None:
        """One start that does not count: it shows that the command works, and what the image consists of."""
        if image is None or (nydus and self._config.containerd.mode is ContainerdMode.PLUGIN_ONLY):
            why = "in mode plugin-only CRI pulls no nydus image" if image is not None else _NO_IMAGE[nydus]
            tally.refuse(why, *cases)
            return
        full = crowded(self._ports, self._config)
        if full:
            tally.refuse(full, *cases)
            return
        stays = self._presence.make_room(image, nydus=nydus)
        if stays:
            tally.refuse(stays, *(case for case in cases if case is not Case.CACHE))
            if nydus:
                self._in_place(tally, image)
            return
        before = image.remember()
        image.remove_container()
        if nydus:
            self._presence.pulls(image.name)
        started = image.start()
        layers = image.layers()
        self._tell(f"{image.name}: a first start, which does not count: ready after {started.ready_s:.2f} s")
        why = shared(before, layers) or crowded(self._ports, self._config)
        if why:
            tally.refuse(why, *cases)
            image.discard()
        else:
            known[nydus] = layers

    def _in_place(self, tally: CaseTally, image: StartImage) -> None:
        """The one case that a nydus image of somebody's pods gives without being touched: its first start
        fills what nydusd's cache of it lacks, as any start does. Nobody asks its registry, where its name may
        mean another one.
        """
        image.remove_container()
        layers = image.layers()
        image.start(pull=False)
        self.notes[f"{image.name} was on the node: its cases leave the pull out"] = None
        for number in range(self._wanted.repetitions):
            self._cached(tally, number, image, layers, 0, pull=False)

    def _direct(self, tally: CaseTally, images: dict[bool, StartImage], known: dict[bool, Layers]) -> None:
        """Rounds in which the mirror takes no part."""
        for number in range(self._wanted.repetitions):
            if False in known:
                self._cold(images[False], known[False])
                self._count(tally, Case.OCI, number, self._run(images[False], known[False]))
            if True not in known or Case.NYDUS in tally.reasons:
                continue
            why = self._route.origin(round(2 * self._wanted.deadline_s) + _PIN_ROOM_S)
            if why:
                tally.refuse(why, Case.NYDUS)
                continue
            self._cold(images[True], known[True])
            self._count(tally, Case.NYDUS, number, self._run(images[True], known[True]))

    def _mirrored(self, tally: CaseTally, image: StartImage, layers: Layers) -> None:
        """Rounds through the mirror: without its tasks, with them, and with nydusd's own cache."""
        why = self._route.mirror(self._config.fleet.return_window_s + _RETURN_ROOM_S)
        if not why and self._peer.traffic() is None:
            why = f"no mirror tells what it brings: {self._config.mirror.metrics_url} does not answer"
        if why:
            tally.refuse(why, Case.MIRROR, Case.REMOTE, Case.LOCAL)
            self._cold(image, layers)
            cold = self._run(image, layers).counted.fetched or 0
            for number in range(self._wanted.repetitions):
                self._cached(tally, number, image, layers, cold)
            return
        self._through(image, layers)
        stays = self._peer.cannot_forget(layers)
        if stays:
            tally.refuse(stays, Case.MIRROR, Case.REMOTE)
        for number in range(self._wanted.repetitions):
            if not stays:
                self._forgotten(tally, number, image, layers)
            run = self._through(image, layers)
            self._judge(tally, number, run, Case.LOCAL)
            self._cached(tally, number, image, layers, run.counted.fetched or 0)
        if not stays:
            _explain(tally)

    def _forgotten(self, tally: CaseTally, number: int, image: StartImage, layers: Layers) -> None:
        """A start for which dfdaemon has nothing.

        One that does not forget this once may do so the next time.
        """
        try:
            self._peer.discard(layers)
        except AgentError as error:
            self._reject(tally, f"{error.what}: {error.cause}", Case.MIRROR, Case.REMOTE)
            return
        self._judge(tally, number, self._through(image, layers), Case.MIRROR, Case.REMOTE)

    def _through(self, image: StartImage, layers: Layers) -> CaseRun:
        self._cold(image, layers)
        return self._run(image, layers, settle=True)

    def _judge(self, tally: CaseTally, number: int, run: CaseRun, *wanted: Case) -> None:
        """Count a run as what its bytes say that it was."""
        was = came_from(run.counted)
        if isinstance(was, Case) and was in wanted:
            self._count(tally, was, number, run)
            return
        why = f"its data came otherwise: {was.meaning if isinstance(was, Case) else was}"
        self._reject(tally, why, *wanted)

    def _cached(
        self,
        tally: CaseTally,
        number: int,
        image: StartImage,
        layers: Layers,
        cold: int,
        *,
        pull: bool = True,
    ) -> None:
        self._drop_pages()
        run = self._run(image, layers, pull=pull)
        why = is_cached(run.counted, cold)
        if why:
            self._reject(tally, why, Case.CACHE)
        else:
            self._count(tally, Case.CACHE, number, run)

    def _reject(self, tally: CaseTally, why: str, *wanted: Case) -> None:
        for case in wanted:
            tally.reasons.setdefault(case, why)
        self.notes[f"a start that was meant as {wanted[0].label} is not counted: {why}"] = None

    def _count(self, tally: CaseTally, case: Case, number: int, run: CaseRun) -> None:
        tally.add(case, run)
        self._tell(f"[{number + 1}/{self._wanted.repetitions}] {case.label}: ready after {run.ready_s:.2f} s")

    def _cold(self, image: StartImage, layers: Layers) -> None:
        image.remove(layers)
        self._drop_pages()

    def _drop_pages(self) -> None:
        try:
            self._ports.caches.drop_pages()
        except FileError as error:
            self.notes[f"{error.what}: {error.cause}"] = None

    def _run(self, image: StartImage, layers: Layers, *, settle: bool = False, pull: bool = True) -> CaseRun:
        if self._stopped():
            raise KeyboardInterrupt
        had = self._counters(image)
        pulled = 0 if image.is_here() else layers.pulled
        started = image.start(pull=pull)
        if settle:
            self._peer.settle(self._stopped)
            if self._stopped():
                raise KeyboardInterrupt
        counted = self._counters(image).since(had, pulled)
        return CaseRun(started.pull_s, started.output_s, started.ready_s, counted)

    def _counters(self, image: StartImage) -> NodeCounters:
        return NodeCounters(image.fetched(), self._peer.traffic(), self._ports.caches.received())

    def _put_back(self, images: Iterable[StartImage]) -> None:
        """Everything is tried, whatever fails of it; `problems` keeps what failed. A containerd that is
        restarted just now is waited for: without it nothing is cleared up.
        """
        with contextlib.suppress(ContainerdError):
            containerd = self._ports.containerd
            waits.poll(
                self._ports.clock, waits.ANSWER_S, lambda: containerd.namespaces(deadline_s=waits.CALL_S)
            )
        released = self._route.release()
        self.problems += [released] if released else []
        for image in images:
            for act in (image.remove_container, partial(self._discard, image), image.remove_namespace):
                try:
                    act()
                except AgentError as error:
                    self.problems.append(f"{error.what}: {error.cause}")
        self.problems += self._presence.bring_back()

    def _discard(self, image: StartImage) -> None:
        image.discard()
        if not image.is_here():
            self._presence.forgot(image.name)


def _explain(tally: CaseTally) -> None:
    """Why one of two cases that only the bytes tell apart has no run."""
    if Case.MIRROR in tally.runs:
        tally.reasons.setdefault(Case.REMOTE, why_never(Case.REMOTE, tally.runs[Case.MIRROR]))
    elif Case.REMOTE in tally.runs:
        tally.reasons.setdefault(Case.MIRROR, why_never(Case.MIRROR, tally.runs[Case.REMOTE]))


def crowded(ports: BenchPorts, config: Config) -> str:
    """Why no image may be pulled now; "" = there is room. Raises ContainerdError, FileError."""
    kubelet = bool(ports.files.listdir(_KUBELET))
    for directory in _roots(ports, config):
        free, size = ports.caches.room(directory)
        left = f"only {free / 1e9:.1f} of {size / 1e9:.1f} GB are free below {directory}"
        if kubelet and free < _KUBELET_ACTS * size:
            return f"{left}: from 85 % on the kubelet removes images and ends pods"
        if free < _LEAST:
            return f"{left}: images could fill them"
    return ""


def _roots(ports: BenchPorts, config: Config) -> Iterator[str]:
    yield config.snapshotter.root
    for plugin in ports.containerd.plugins(deadline_s=_CALL_S):
        if plugin.id == PLAIN_SNAPSHOTTER:
            yield from (value for name, value in plugin.exports if name == "root")
