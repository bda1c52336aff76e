"""The composition root: the only module that imports the edges.

Imports are inside the functions, because each verb and the daemon pays only for the edges that it uses
(grpcio alone costs 20 MB of memory).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent import paths
from agent.config.model import Config, Scheme

if TYPE_CHECKING:
    from agent.node.installed import ProgramPorts
    from agent.ports import (
        BenchPorts,
        Clock,
        Credentials,
        DaemonPorts,
        DragonflyPorts,
        DrillPorts,
        Files,
        HttpAnswer,
        Looked,
        PackageManager,
        Ports,
        Processes,
        RegistryTokens,
        Secret,
    )
    from agent.proof.registry_access import RegistryPorts


def root_ports(config: Config) -> Ports:
    """The ports of a root process on this node."""
    from agent.netfilter.fence import NftFence
    from agent.netfilter.sock_diag import KernelSockets, uid_of_peer
    from agent.node.machine import SystemClock
    from agent.ports import Ports
    from agent.system.containerd import ContainerdClient, SnapshotterClient
    from agent.system.files import RootFiles
    from agent.system.http import PlainHttp
    from agent.system.ledger import DiskLedger
    from agent.system.loopback import RegistryTls
    from agent.system.nydusd import NydusdApi
    from agent.system.process import ChildProcesses
    from agent.system.systemd import SystemdAlarms, SystemdUnits
    from agent.system.trial import PrivateTrials

    return Ports(
        files=RootFiles("/"),
        units=SystemdUnits(),
        containerd=ContainerdClient(config.containerd.address),
        snapshotter=SnapshotterClient(),
        nydusd=NydusdApi(),
        processes=ChildProcesses(),
        http=PlainHttp(),
        fence=NftFence(),
        tables=KernelSockets(),
        clock=SystemClock(),
        ledger=DiskLedger(paths.STATE_DIR),
        trials=PrivateTrials(paths.STATE_DIR, uid_of_peer),
        tls=RegistryTls(uid_of_peer),
        alarms=SystemdAlarms(),
        machine=os.uname().machine,
    )


def program_ports(root: str) -> ProgramPorts:
    """The ports for a look at the nydus programs, with the files below `root`."""
    from agent.node.installed import ProgramPorts
    from agent.system.files import RootFiles

    return ProgramPorts(RootFiles(root), _processes(), os.uname().machine)


def root_files(root: str) -> Files:
    """The files below `root` alone, for verbs that need nothing else."""
    from agent.system.files import RootFiles

    return RootFiles(root)


def clock() -> Clock:
    """The clock alone."""
    from agent.node.machine import SystemClock

    return SystemClock()


def credentials(config: Config, environment: Mapping[str, str], *, uid: int, home: str) -> Credentials:
    """What this user is at registries: root's is what the snapshotter reads too."""
    from agent.registry.names import docker_places
    from agent.system.credentials import DockerCredentials
    from agent.system.files import RootFiles
    from agent.system.process import ChildProcesses

    places = docker_places(config.registries.credentials, environment, uid=uid, home=home)
    return DockerCredentials(RootFiles("/"), ChildProcesses(), places, uid=uid)


def registry_tokens(config: Config, looked: Looked) -> RegistryTokens:
    """The answers to one registry's challenges, with its scheme and CA from the configuration (else as
    containerd asks it: https and the system's store, http on the loopback). ssl comes with it.
    """
    from agent.registry.names import registry_of
    from agent.system.credentials import ChallengeAnswers

    known = registry_of(config, looked.registry)
    return ChallengeAnswers(looked, secure=known.scheme is Scheme.HTTPS, ca=known.ca)


def registry_ports(config: Config, environment: Mapping[str, str]) -> RegistryPorts:
    """What root's verbs ask registries with."""
    from urllib.parse import urlsplit

    from agent.proof.registry_access import RegistryPorts
    from agent.registry.names import ACCEPTED, api_host_of, registry_of
    from agent.system.http import ask

    accepted = ", ".join((*ACCEPTED, "*/*"))

    def head(registry: str, path: str, authorization: Secret, deadline_s: float) -> HttpAnswer:
        known = registry_of(config, registry)
        url = urlsplit(f"{known.scheme.value}://{api_host_of(registry)}{path}")
        headers = {"Accept": accepted, **({"Authorization": authorization.reveal()} if authorization else {})}
        return ask(url, headers, deadline_s=deadline_s, method="HEAD", ca=known.ca)

    found = credentials(config, environment, uid=0, home="/root")
    return RegistryPorts(found, lambda looked: registry_tokens(config, looked), head)


def package_manager(root: str) -> PackageManager:
    """dpkg's lock below `root`."""
    from agent.system.ledger import DpkgFrontend

    return DpkgFrontend(root)


def agents_answer(socket: str) -> bytes:
    """What the daemon answers to /status on this unix socket. Raises HttpError."""
    from agent.system.http import read_status

    return read_status(socket)


def drill_ports() -> DrillPorts:
    """The ports of a drill; structlog writes to the journal from now on."""
    from agent.netfilter.cgroups import CgroupTree
    from agent.netfilter.drill import NftDrill
    from agent.node.machine import SystemClock
    from agent.ports import DrillPorts
    from agent.system import journal
    from agent.system.ledger import DiskLedger

    journal.configure()
    cgroups = CgroupTree()
    return DrillPorts(NftDrill(cgroups), cgroups, DiskLedger(paths.STATE_DIR), SystemClock())


def bench_ports(config: Config) -> BenchPorts:
    """The ports of a bench; structlog writes to the journal from now on."""
    from agent.ports import BenchPorts
    from agent.system import journal
    from agent.system.bench_tools import DfdaemonStore, MatplotlibDrawing, NodeCaches, RunHosts
    from agent.system.followed import TimedChildren

    journal.configure()
    root = root_ports(config)
    return BenchPorts(
        root.files, root.containerd, root.nydusd, root.processes, root.http, TimedChildren(), NodeCaches(),
        DfdaemonStore(), MatplotlibDrawing(), RunHosts(paths.BENCH_HOSTS), root.ledger, root.clock,
    )  # fmt: skip


def dragonfly_ports() -> DragonflyPorts:
    """The ports of a look at the dfdaemon that runs."""
    from agent.dragonfly.command_line import environment_of
    from agent.netfilter.sock_diag import KernelSockets, ProcHolders
    from agent.ports import DragonflyPorts
    from agent.system.files import RootFiles
    from agent.system.http import PlainHttp
    from agent.system.systemd import SystemdUnits

    return DragonflyPorts(
        tables=KernelSockets(),
        holders=ProcHolders(environment_of),
        units=SystemdUnits(),
        http=PlainHttp(),
        files_of=lambda pid: RootFiles(f"/proc/{pid}/root"),
    )


def daemon_ports(environment: Mapping[str, str]) -> DaemonPorts:
    """The ports of the resident daemon; from now on structlog writes to the journal, no page that
    was used leaves the memory, and what is freed does.
    """
    from agent.netfilter.cgroups import CgroupProcesses, CgroupTree
    from agent.netfilter.fence import NftFence
    from agent.netfilter.sock_diag import KernelSockets
    from agent.ports import DaemonPorts
    from agent.system import journal, resident
    from agent.system.journal import UnitJournal
    from agent.system.ledger import DiskLedger
    from agent.system.resident import InotifyWatch, SystemdNotify, SystemNames

    journal.configure()
    resident.lock_memory()
    resident.return_memory()
    cgroups = CgroupTree()
    return DaemonPorts(
        fence=NftFence(cgroups=cgroups),
        notify=SystemdNotify(environment),
        watch=InotifyWatch("/"),
        cgroups=cgroups,
        tables=KernelSockets(),
        names=SystemNames(),
        journal=UnitJournal(paths.SNAPSHOTTER_UNIT),
        mirror_processes=CgroupProcesses(cgroups),
        changer=DiskLedger(paths.STATE_DIR).holder,
        processes=_processes,
    )


def _processes() -> Processes:
    from agent.system.process import ChildProcesses

    return ChildProcesses()
