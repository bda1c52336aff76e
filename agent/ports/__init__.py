"""The Protocols between the program and the outside. Adapters implement them, tests/fakes too, and one
contract test runs on both. Every call that can wait takes a deadline in seconds; every error is a subclass of
`errors.PortError`.
"""

from __future__ import annotations

from agent.ports.node import (
    Cgroups,
    Clock,
    Files,
    Finished,
    Machine,
    PackageManager,
    Processes,
    RunningProgram,
    SocketHolder,
    SocketHolders,
    SocketTables,
    Units,
)  # fmt: skip
from agent.ports.services import (
    Containerd,
    Credentials,
    Http,
    HttpAnswer,
    ImageFsInfo,
    ImageRecord,
    Nydusd,
    NydusdInfo,
    PeerStore,
    PeerTask,
    RegistryTokens,
    SnapshotterSocket,
    Tls,
    TlsSight,
)  # fmt: skip
from agent.ports.switch import (
    DaemonPorts,
    Drill,
    DrillKind,
    DrillScope,
    Fence,
    Holders,
    Journal,
    JournalLine,
    ListenerProcesses,
    Names,
    Notify,
    Released,
    Struck,
    Watch,
)  # fmt: skip
from agent.ports.verbs import (
    Alarm,
    Alarms,
    BenchPorts,
    Caches,
    DragonflyPorts,
    Drawing,
    DrillPorts,
    HostsRoom,
    Ledger,
    Ports,
    ProgramEnd,
    Timed,
    TimedPrograms,
    Trial,
    Trials,
)  # fmt: skip
from agent.registry.credential import Credential, Looked, Secret

__all__ = [
    "Alarm", "Alarms", "BenchPorts", "Caches", "Cgroups", "Clock", "Containerd", "Credential",
    "Credentials", "DaemonPorts", "DragonflyPorts", "Drawing", "Drill", "DrillKind", "DrillPorts",
    "DrillScope", "Fence", "Files", "Finished", "Holders", "HostsRoom", "Http", "HttpAnswer",
    "ImageFsInfo", "ImageRecord", "Journal", "JournalLine", "Ledger", "ListenerProcesses", "Looked",
    "Machine", "Names", "Notify", "Nydusd", "NydusdInfo", "PackageManager", "PeerStore", "PeerTask",
    "Ports", "Processes", "ProgramEnd", "RegistryTokens", "Released", "RunningProgram", "Secret",
    "SnapshotterSocket", "SocketHolder", "SocketHolders", "SocketTables", "Struck", "Timed",
    "TimedPrograms", "Tls", "TlsSight", "Trial", "Trials", "Units", "Watch",
]  # fmt: skip
