"""`remove` as a whole: containerd as it was, the snapshotter down, our files gone. The snapshotter's root
stays.

Refused while containers run on the snapshotter: they would go on, but containerd could not clean up after
them.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from agent import paths
from agent.apply import change, recover, services
from agent.apply.change import Surroundings
from agent.config.model import Config
from agent.errors import AgentError, ApplyError, ContainerdError, FileError, ProcessError
from agent.facts.node import Facts
from agent.node import waits
from agent.node.installed import versions_here
from agent.node.observe import observe
from agent.plan import mounts
from agent.plan.removal import named_after, removal
from agent.ports import Ports
from agent.programs.versions import Project
from agent.proof.checks_runtime import image_file_system
from agent.records import generations
from agent.steps import (
    AwaitContainerd,
    AwaitSnapshotter,
    Plan,
    ReloadUnits,
    UnitStep,
    UnitVerb,
    UnpackImage,
    refuse,
)

_CALL_S = 5.0
_SIZE_S = 60.0
_NEEDS_SYSTEMD = (UnitStep, ReloadUnits, AwaitContainerd, AwaitSnapshotter, UnpackImage)


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal did."""

    plan: Plan
    stays: tuple[str, ...]
    """What is left on purpose, in words."""
    ended: tuple[str, ...]
    """nydusd processes that were ended, by their mount points."""


def remove_setup(config: Config, ports: Ports, around: Surroundings, *, force: bool) -> Removed | None:
    """Take everything of ours off the node; None where nothing is applied. The caller holds the lock.

    Raises ApplyError NNA0411 (containers run; nothing touched), NNA0402 (put back), NNA0403, PlanError.
    """
    recover.finish(ports, jobs=True, say=around.say)
    if generations.applied(ports.files) is None:
        return None
    history = generations.history(ports.files)
    config = generations.in_force(ports.files, config)  # what is to be removed, whatever is wanted by now
    root = config.snapshotter.root
    use = services.in_use(ports, root)
    if use.containers and not force:
        raise ApplyError(
            "NNA0411", f"{len(use.containers)} containers run on the nydus snapshotter",
            cause="containerd could not clean up after them without it", seen=use.containers[:5],
            try_="end them (drain the node), or: nydus-agent remove --force",
        )  # fmt: skip
    facts, plan = _plan(config, ports, history)
    if not facts.systemd_running:
        plan = files_only(plan)
    if use.containers:
        refuse(mounts.ending_refusals(plan, facts))
    goes_on = named_after(config, facts, plan)
    # Where containerd goes on with the snapshotter that it had before us, its images need what serves them.
    idle = () if goes_on else services.idle(ports, root, use)
    intention = change.Intention("remove", plan, None, root=root)
    change.carry_out(ports, intention, lambda: _proof(ports, "" if goes_on else root), around)
    ended = services.end(ports, idle, around.say)
    stays = (*_stays(ports, root, use, force=force), *_programs(ports))
    return Removed(plan, stays, ended)


def remove_files(config: Config, ports: Ports, around: Surroundings) -> None:
    """The same at boot, before the runtimes start: files only. The caller holds the lock, the journal is
    closed.

    Raises ApplyError NNA0402, NNA0403, PlanError.
    """
    plan = plan_removal(config, ports)
    intention = change.Intention("remove", files_only(plan), None, root=config.snapshotter.root)
    change.carry_out(ports, intention, lambda: None, around)
    disable = (paths.SNAPSHOTTER_UNIT, UnitVerb.DISABLE)
    if any(isinstance(step, UnitStep) and (step.unit, step.verb) == disable for step in plan.steps):
        services.disable_at_boot(ports, paths.SNAPSHOTTER_UNIT)
    elif any(isinstance(step, ReloadUnits) for step in plan.steps):
        services.read_again_at_boot(ports)


def plan_removal(config: Config, ports: Ports) -> Plan:
    """What a removal would do. `config` is the one in force. Raises PlanError, ApplyError, FileError."""
    return _plan(config, ports, generations.history(ports.files))[1]


def _plan(config: Config, ports: Ports, history: tuple[generations.Generation, ...]) -> tuple[Facts, Plan]:
    records = generations.records(history)
    extra = (*(one.path for one in records), paths.PACKAGED_UNIT_FILE)
    facts = observe(config, ports, probe_fence=False, probe_mirror=False, extra_paths=extra)
    return facts, removal(config, facts, records, generations.former_unit(history))


def files_only(plan: Plan) -> Plan:
    """For a node on which nothing runs that would have to be restarted: an image is being built, or it
    boots.
    """
    steps = tuple(step for step in plan.steps if not isinstance(step, _NEEDS_SYSTEMD))
    return Plan(steps, plan.warnings, plan.notes)


def _proof(ports: Ports, root: str) -> AgentError | None:
    """containerd answers, and its CRI does not use the snapshotter at `root` ("": it may) any more."""
    try:
        if not ports.units.running():
            return None
        server = waits.containerd(ports, 0, waits.ANSWER_S)
        points = ports.containerd.image_fs_info(deadline_s=_CALL_S).mountpoints
    except ApplyError as error:
        return error
    except ContainerdError:
        return None  # CRI is not part of every containerd; that it answers is what was there before
    if root and image_file_system(points, root, server.version):
        cause = f"its image file system is {points[0]}"
        return ApplyError("NNA0407", "containerd still uses the snapshotter", cause=cause)
    return None


def _stays(ports: Ports, root: str, use: services.Use, *, force: bool) -> tuple[str, ...]:
    found = []
    if posixpath.basename(root) in ports.files.listdir(posixpath.dirname(root)):
        # First the images, through containerd: its database still names their snapshots, and a root that was
        # wiped behind its back makes pulls fail when a snapshotter comes again
        # (containerd/nydus-snapshotter#631, #680).
        when = "once the containers on it have ended" if use.containers else "to clear it"
        what = "images and snapshots, which containerd's database refers to"
        found.append(f"{root}{_size(ports, root)}: {what}; {when}: crictl rmi --prune && rm -rf {root}")
    if force and use.busy:
        found.append(
            f"{len(use.busy)} nydusd processes: running containers stand on them; kill them when these have "
            f"ended"
        )
    if force and use.containers:
        found.append(f"{len(use.containers)} containers run on; containerd cannot clean up after them")
    return tuple(found)


def _programs(ports: Ports) -> tuple[str, ...]:
    try:
        packages = [
            project.package(version) for project in Project for version in versions_here(ports.files, project)
        ]
    except FileError as error:
        return (f"{paths.PROGRAMS}, which could not be looked at: {error}",)
    return (
        (f"{' '.join(packages)}: programs, for the next apply; sudo apt purge takes them",)
        if packages
        else ()
    )


def _size(ports: Ports, root: str) -> str:
    try:
        finished = ports.processes.run(["du", "-sx", "--block-size=1M", root], deadline_s=_SIZE_S)
        return f" ({int(finished.stdout.split()[0])} MiB)"
    except (ProcessError, ValueError, IndexError):
        return ""
