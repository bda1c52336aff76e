"""In what the download child runs: a transient unit of systemd, or where that does not run, bare limits. PURE.

The child is handed open files, so it needs no path that it could write to and no right at all. Only the network is left
to it, and of that not the link-local part.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from agent.artifacts.lock import ARCHIVE_CAP

FILE_CAP = ARCHIVE_CAP
"""Bytes of one file: the lock allows no larger archive, and no larger program."""
_MEMORY = 512 << 20
"""The window of ranges is 32 MB, Python with TLS 50."""
_OPEN_FILES = 256
FALLBACK_ID = 65519
"""A user that is nobody's: the last one of those that systemd gives to dynamic users, where systemd does not run."""

PROPERTIES = (
    "Type=exec",
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateUsers=yes",
    "PrivateIPC=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RemoveIPC=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    # Names are asked over UDP and TCP; no socket of this node can be opened.
    "RestrictAddressFamilies=AF_INET AF_INET6",
    # One word each: systemd-run of 257 takes a name such as these only where it is the whole value.
    "IPAddressDeny=link-local",
    "IPAddressDeny=multicast",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    # What root has there is root's to read anyway; these are not even seen.
    "InaccessiblePaths=-/etc/nydus-agent -/var/lib/nydus-agent -/run/nydus-agent -/run/containerd -/run/dbus",
    # It has files and wants no directory, not even a private one.
    "ReadOnlyPaths=-/tmp -/var/tmp -/dev/shm -/dev/mqueue",
    "UMask=0077",
    "KeyringMode=private",
    "LimitCORE=0",
    f"LimitFSIZE={FILE_CAP}",
    f"LimitNOFILE={_OPEN_FILES}",
    f"MemoryMax={_MEMORY}",
    "MemorySwapMax=0",
    "TasksMax=32",
    "OOMScoreAdjust=500",
    "Nice=5",
    "KillMode=control-group",
    "TimeoutStopSec=2",
)
"""As in a unit file's [Service]. `systemd-analyze security` rates them in the package's tests."""


def transient(unit: str, deadline_s: float, name_servers: Sequence[str], argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in a unit of this name, for `deadline_s` at most."""
    properties = [*PROPERTIES, f"RuntimeMaxSec={deadline_s:.1f}"]
    # Without the zone of resolv.conf ("fe80::1%eth0"): a filter by address has none, and systemd refuses it.
    allowed = sorted({address for server in name_servers if _is_link_local(address := server.partition("%")[0])})
    # GCE's own, NodeLocal DNSCache: without them no name has an address.
    properties += [f"IPAddressAllow={server}" for server in allowed]
    command = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={unit}"]
    command += ["--description=Fetch and check programs of nydus"]
    return [*command, *(f"--property={one}" for one in properties), "--", *argv]


def bare(argv: Sequence[str]) -> list[str]:
    """The command where systemd does not run (a container, an image that is being built)."""
    user = ["setpriv", f"--reuid={FALLBACK_ID}", f"--regid={FALLBACK_ID}", "--clear-groups", "--no-new-privs"]
    user += ["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--pdeathsig=KILL", "--"]
    limits = ["prlimit", "--core=0:0", f"--fsize={FILE_CAP}:{FILE_CAP}", f"--nofile={_OPEN_FILES}:{_OPEN_FILES}"]
    return [*user, *limits, f"--data={_MEMORY}:{_MEMORY}", "--", *argv]


def _is_link_local(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_link_local
    except ValueError:
        return False
