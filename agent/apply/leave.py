"""`remove` as a whole: containerd as it was, the snapshotter down, our files gone. The snapshotter's root stays.

Refused while containers run on the snapshotter: they would go on, but containerd could not clean up after them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass

from agent import paths
from agent.apply import generations, recover, transaction, waits
from agent.apply.transaction import Result, Surroundings
from agent.config.model import Config
from agent.errors import AgentError, ApplyError, ContainerdError, FileError, NydusdError, ProcessError
from agent.node.observe import observe
from agent.plan.removal import removal
from agent.plan.steps import AwaitContainerd, AwaitSnapshotter, Plan, ReloadUnits, Step, UnitStep
from agent.ports import Ports

_MOUNTS = "/proc/1/mounts"
_CALL_S = 5.0
_SIZE_S = 60.0
_NEEDS_SYSTEMD = (UnitStep, ReloadUnits, AwaitContainerd, AwaitSnapshotter)


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal did."""

    plan: Plan
    result: Result
    stays: tuple[str, ...]
    """What is left on purpose, in words."""
    ended: tuple[str, ...]
    """nydusd processes that were ended, by their mount points."""


@dataclass(frozen=True, slots=True)
class Use:
    """Who uses the snapshotter's root, from the mount table of PID 1."""

    containers: tuple[str, ...]
    """Mount points of containers' root file systems."""
    images: tuple[str, ...]
    """Mount points of nydusd."""
    busy: frozenset[str] = frozenset()
    """Those of `images` that a container's root stands on."""


def remove(config: Config, ports: Ports, around: Surroundings, *, force: bool) -> Removed | None:
    """Take everything of ours off the node; None where nothing is applied. The caller holds the lock.

    Raises ApplyError NNA0411 (containers run; nothing touched), NNA0402 (put back), NNA0403, PlanError.
    """
    recover.finish(ports, jobs=True, say=around.say)
    if generations.applied(ports.files) is None:
        return None
    history = generations.history(ports.files)
    root = config.snapshotter.root
    use = in_use(ports, root)
    if use.containers and not force:
        raise ApplyError(
            "NNA0411", f"{len(use.containers)} containers run on the nydus snapshotter",
            cause="containerd could not clean up after them without it", seen=use.containers[:5],
            try_="end them (drain the node), or: nydus-agent remove --force",
        )  # fmt: skip
    records = generations.records(history)
    facts = observe(
        config, ports, probe_fence=False, probe_mirror=False, extra_paths=tuple(one.path for one in records)
    )  # fmt: skip
    plan = removal(config, facts, records)
    if not facts.systemd_running:
        plan = Plan(_files_only(plan.steps), plan.warnings, plan.notes)
    daemons = _daemons(ports, root, use)
    intention = transaction.Intention("remove", plan, None)
    result = transaction.carry_out(ports, intention, lambda: _proof(ports, root), around)
    _forget(ports, history)
    ended = _end(ports, daemons, around.say)
    return Removed(plan, result, _stays(ports, root, use, force=force), ended)


def _files_only(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Without systemd (an image is being built) nothing runs that would have to be restarted."""
    return tuple(step for step in steps if not isinstance(step, _NEEDS_SYSTEMD))


def in_use(ports: Ports, root: str) -> Use:
    """Containers and nydusd mounts on the snapshotter's root. Raises FileError."""
    fact = ports.files.read(_MOUNTS)
    containers, images, lines = [], [], []
    for line in fact.content.decode(errors="replace").splitlines() if fact is not None else ():
        fields = line.split(" ")
        if len(fields) < 4:
            continue
        _source, point, kind, options = fields[:4]
        if kind == "overlay" and f"{root}/snapshots/" in options:
            containers.append(_unescaped(point))
            lines.append(options)
        elif kind.startswith("fuse") and _unescaped(point).startswith(f"{root}/"):
            images.append(_unescaped(point))
    busy = frozenset(image for image in images if any(image in options for options in lines))
    return Use(tuple(containers), tuple(images), busy)


def _unescaped(text: str) -> str:
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _proof(ports: Ports, root: str) -> AgentError | None:
    """containerd answers, and its CRI does not use the snapshotter any more."""
    try:
        if not ports.units.running():
            return None
        waits.containerd(ports, 0, waits.ANSWER_S)
        points = ports.containerd.image_fs_info(deadline_s=_CALL_S).mountpoints
    except ApplyError as error:
        return error
    except ContainerdError:
        return None  # CRI is not part of every containerd; that it answers is what was there before
    if points and points[0] == root:
        return ApplyError("NNA0414", "containerd still uses the snapshotter", cause=f"its image file system is {root}")
    return None


def _forget(ports: Ports, history: tuple[generations.Generation, ...]) -> None:
    """Proofs of what is gone, and directories that we had made."""
    fact = ports.files.read(paths.CLIMB)
    if fact is not None:
        ports.files.remove(paths.CLIMB, expect_sha256=fact.sha256)
    made = {directory for one in generations.originals(history) for directory in one.missing}
    for directory in sorted(made, key=len, reverse=True):
        ports.files.remove_empty_directory(directory)


def _daemons(ports: Ports, root: str, use: Use) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """(pid, mount points) of nydusd processes that no container stands on; asked before their sockets go."""
    found = []
    try:
        sockets = ports.nydusd.sockets(root)
    except NydusdError:
        return ()
    for socket in sockets:
        try:
            pid = ports.nydusd.info(socket, deadline_s=_CALL_S).pid
        except NydusdError:
            continue
        mine = tuple(image for image in use.images if _belongs(ports, pid, image))
        if pid is not None and not use.busy.intersection(mine):
            found.append((pid, mine))
    return tuple(found)


def _belongs(ports: Ports, pid: int | None, mountpoint: str) -> bool:
    """Whether a nydusd was started for a mount point (its command line names it)."""
    try:
        fact = ports.files.read(f"/proc/{pid}/cmdline")
    except FileError:
        return False
    return fact is not None and mountpoint.encode() in fact.content.split(b"\0")


def _end(
    ports: Ports, daemons: tuple[tuple[int, tuple[str, ...]], ...], say: Callable[[str], None]
) -> tuple[str, ...]:
    """Unmount what nobody uses, and end the process behind it."""
    ended = []
    for pid, mountpoints in daemons:
        for mountpoint in mountpoints:
            say(f"unmounting {mountpoint}")
            _run(ports, ["umount", "--lazy", mountpoint])
            ended.append(mountpoint)
        _run(ports, ["kill", "-TERM", str(pid)])
    return tuple(ended)


def _run(ports: Ports, argv: list[str]) -> None:
    try:
        ports.processes.run(argv, deadline_s=_CALL_S, ok=(0, 1, 32))
    except ProcessError:
        return  # what is left is named by `_stays`


def _stays(ports: Ports, root: str, use: Use, *, force: bool) -> tuple[str, ...]:
    found = []
    if posixpath.basename(root) in ports.files.listdir(posixpath.dirname(root)):
        found.append(f"{root}{_size(ports, root)}: images and snapshots; containerd's database refers to them")
    if force and use.busy:
        found.append(
            f"{len(use.busy)} nydusd processes: running containers stand on them, and they end with the last one of these"
        )
    if force and use.containers:
        found.append(f"{len(use.containers)} containers run on; containerd cannot clean up after them")
    return tuple(found)


def _size(ports: Ports, root: str) -> str:
    try:
        finished = ports.processes.run(["du", "--summarize", "--one-file-system", "--block-size=1M", root], deadline_s=_SIZE_S)
        return f" ({int(finished.stdout.split()[0])} MiB)"
    except (ProcessError, ValueError, IndexError):
        return ""
