"""What a bench does with an image that is on the node already, because CRI has it for somebody's pods.

A cold start needs it gone. An image that no container uses is what the kubelet's garbage collection takes at
any time, so where the operator says so, and its registry still has the very same one under all its names, it
is removed and pulled again at the end. Every other image is left alone.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable
from dataclasses import replace

import structlog

from agent import paths
from agent.apply import leftovers
from agent.apply.leftovers import Away, Leftovers
from agent.catalogue import Message
from agent.commands.bench.images import Admission, Layers, layers_of
from agent.commands.bench.starts import PLAIN_NAMESPACE, StartImage, ctr
from agent.config.model import Config, ContainerdMode
from agent.errors import AgentError, ContainerdError, FileError, PortError
from agent.node import waits
from agent.node.images import NAMESPACE, PINNED
from agent.ports import BenchPorts, ImageRecord
from agent.registry.names import image_parts

_CALL_S = 10.0
_REMOVE_S = 60.0
_SNAPSHOTTERS = "io.containerd.snapshotter.v1"
_BY_EVERY_PULL = {"io.cri-containerd.image"}
"""Labels that CRI gives each image (internal/cri/labels)."""
_SHOWN = 13
"""Digits of a container's id that crictl shows."""


class Presence:
    """The images that CRI has, and those of them that were taken away for a while."""

    def __init__(
        self,
        ports: BenchPorts,
        config: Config,
        admit: Callable[[str], Admission],
        deadline_s: float,
        *,
        allowed: bool,
    ) -> None:
        """`allowed`: the operator has said that images may be taken away; `deadline_s`: of one pull."""
        self._ports, self._config, self._admit = ports, config, admit
        self._deadline_s, self._allowed = deadline_s, allowed
        self._taken: list[Away] = []
        """Names that must come back in this run: those that can be pulled, and ids, which come with them."""
        self._leftovers = Leftovers()

    def make_room(self, image: StartImage, *, nydus: bool) -> str:
        """Take an image away where it is there and may go; "" = it is not there (any more), else why it
        stays.

        Raises ContainerdError, ProcessError, FileError, AgentError NNA1701 where something of it stays.
        """
        records = self._records(image.name)
        if not records:
            return ""
        why = self._held(records)
        if not why:
            why = self._moved(records) if self._allowed else "--take-away was not given"
        if why:
            return f"it is on the node already, and not taken away: {why}"
        layers = layers_of(self._ports.containerd, NAMESPACE, image.name)
        names = [one.name for one in records]
        structlog.get_logger().info(
            f"the bench takes {image.name} away; `crictl pull {image.name}` brings it back",
            message_id=Message.BENCH,
        )
        lazy = nydus and self._config.containerd.mode is ContainerdMode.RUNTIME_CLASS
        taken = [Away(one.name, one.digest, paths.RUNTIME if lazy else "") for one in records]
        away = filter(_can_be_pulled, taken)
        self._note(replace(self._leftovers, away=(*self._leftovers.away, *away)))
        self._taken += taken
        argv = [*ctr(self._config, NAMESPACE), "images", "rm", "--sync"]
        self._ports.processes.run([*argv, *names], deadline_s=_REMOVE_S)
        if nydus:
            image.wait_gone(layers)
        for blob in layers.lazy:
            self._ports.caches.remove_blob(posixpath.join(self._config.snapshotter.root, "cache"), blob)
        return ""

    def resume(self) -> list[str]:
        """Bring back what a bench that was killed has taken away; what cannot be had, and what else it has
        left, is told. The caller holds the lock. Raises FileError.
        """
        self._leftovers = leftovers.settled(self._ports.files, self._ports.containerd)
        left = [f"{one.what}: {one.try_}" for one in Leftovers(pulled=self._leftovers.pulled).problems()]
        self._taken += self._leftovers.away
        return left + self.bring_back()

    def pulls(self, name: str) -> None:
        """CRI is about to pull an image: one that is new to it, or one that was taken away.

        Raises FileError.
        """
        if any(one.name == name for one in self._leftovers.away):
            return
        self._note(replace(self._leftovers, pulled=tuple(dict.fromkeys((*self._leftovers.pulled, name)))))

    def forgot(self, name: str) -> None:
        """It is gone again. Raises FileError."""
        self._note(
            replace(self._leftovers, pulled=tuple(one for one in self._leftovers.pulled if one != name))
        )

    def _note(self, left: Leftovers) -> None:
        if left != self._leftovers:
            left = replace(left, pid=self._ports.ledger.holder())
            leftovers.write(self._ports.files, left)
            self._leftovers = left

    def bring_back(self) -> list[str]:
        """Pull again what was taken away; what is not as it was is told. After containerd's restart CRI
        answers some seconds later than the rest.
        """
        taken, self._taken = self._taken, []
        if not taken:
            return []
        containerd = self._ports.containerd
        with contextlib.suppress(ContainerdError):
            waits.poll(self._ports.clock, waits.ANSWER_S, lambda: containerd.cri_status(deadline_s=_CALL_S))
        failed: dict[str, str] = {}
        for one in filter(_can_be_pulled, taken):
            try:
                who = self._admit(one.name).credential
                containerd.pull(one.name, one.runtime, credential=who, deadline_s=self._deadline_s)
            except PortError as error:
                failed[one.name] = f"it cannot be pulled again: {error.cause or error.what}"
        now: dict[str, str] = {}
        try:
            now = {one.name: one.digest for one in containerd.images(NAMESPACE, deadline_s=_CALL_S)}
        except ContainerdError as error:
            failed = {one.name: error.cause or error.what for one in taken}
        told = []
        try:
            self._note(
                replace(
                    self._leftovers, away=tuple(one for one in self._leftovers.away if one.name not in now)
                )
            )
        except FileError as error:
            told.append(f"{error.what}: {error.cause}")
        return told + [
            f"{one.name} was on the node before: {failed.get(one.name, 'it is another image now')} (crictl "
            f"pull)"
            for one in taken
            if now.get(one.name) != one.digest
        ]

    def _records(self, name: str) -> tuple[ImageRecord, ...]:
        records = self._ports.containerd.images(NAMESPACE, deadline_s=_CALL_S)
        digests = {one.digest for one in records if one.name == name}
        return tuple(one for one in records if one.digest in digests)

    def _held(self, records: tuple[ImageRecord, ...]) -> str:
        """Who on this node needs it, so that it may not go whatever the operator says; "" = nobody."""
        containerd = self._ports.containerd
        try:
            layers = layers_of(containerd, NAMESPACE, records[0].name)
        except AgentError as error:
            return error.cause
        return self._used(layers) or _marked(records) or self._shared(records, layers)

    def _used(self, layers: Layers) -> str:
        containerd = self._ports.containerd
        for plugin in containerd.plugins(deadline_s=_CALL_S):
            if plugin.type != _SNAPSHOTTERS or plugin.init_err:
                continue
            parents = containerd.snapshot_parents(plugin.id, NAMESPACE, deadline_s=_CALL_S)
            users = sorted(key for key, parent in parents.items() if parent in layers.chains - {key})
            users = [key for key in users if key not in layers.chains]
            if users:
                who = "another image" if users[0].startswith("sha256:") else f"container {users[0][:_SHOWN]}"
                return f"{who} uses it"
        return ""

    def _shared(self, records: tuple[ImageRecord, ...], layers: Layers) -> str:
        """Content is shared by images, and by namespaces: what others have, no removal takes away."""
        containerd = self._ports.containerd
        for other in containerd.images(NAMESPACE, deadline_s=_CALL_S):
            if other.digest == records[0].digest:
                continue
            try:
                parts = len(layers.digests & layers_of(containerd, NAMESPACE, other.name).digests)
            except AgentError:
                continue  # what of it is there cannot be told, and is looked for again when ours is gone
            if parts:
                return f"{other.name} shares {parts} of its parts"
        for space in containerd.namespaces(deadline_s=_CALL_S):
            if space in (NAMESPACE, PLAIN_NAMESPACE):
                continue
            if parts := len(layers.digests & containerd.digests(space, deadline_s=_CALL_S)):
                return f"{parts} of its parts are in containerd's namespace {space} too"
        return ""

    def _moved(self, records: tuple[ImageRecord, ...]) -> str:
        """What cannot be had again under the same name must not go."""
        named = list(filter(_can_be_pulled, records))
        for one in named:
            try:
                digest = self._admit(one.name).digest()
            except PortError as error:
                return f"its registry does not tell what {one.name} is: {error.cause or error.what}"
            if digest != one.digest:
                return f"its registry has {digest or 'nothing'} as {one.name} now, the node {one.digest}"
        return "" if named else "it has no name that could be pulled again"


def _can_be_pulled(one: Away | ImageRecord) -> bool:
    """Whether this is one of an image's names, not its id."""
    return bool(image_parts(one.name)[1])


def _marked(records: tuple[ImageRecord, ...]) -> str:
    """Pins and labels of others do not come back with a pull."""
    for one in records:
        if one.labels.get(PINNED[0]) == PINNED[1]:
            return "CRI has it pinned"
        strange = sorted(set(one.labels) - _BY_EVERY_PULL)
        if strange:
            return f"somebody has given it the label {strange[0]}, which no pull brings back"
    return ""
