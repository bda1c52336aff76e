"""Where our files lie on a node. Names only; nothing here reads or writes.

Owners: /etc/nydus-agent and /var/lib/nydus-agent are root's, /run/nydus-agent is the daemon user's. Root code
never follows a symlink below a directory that is not root's.
"""

from __future__ import annotations

MARK = "Managed by nydus-agent"
"""In the first line of every file that is ours from the first byte (where the format has comments)."""

CONFIG_FILE = "/etc/nydus-agent/agent.toml"
CONF_D = "/etc/nydus-agent/conf.d"

STATE_DIR = "/var/lib/nydus-agent"
GENERATIONS = "/var/lib/nydus-agent/generations"  # accepted states with their undo records, 0700
PROOF = "/var/lib/nydus-agent/proof.json"  # last proof, 0644, no secrets
EXPECTED = "/var/lib/nydus-agent/expected.json"  # paths of what was applied, for the daemon to watch, 0644
DRIFT = "/var/lib/nydus-agent/drift.json"  # what root found changed by others, 0644, no secrets
REPAIRS = "/var/lib/nydus-agent/repairs.json"  # repairs of late, so that one that is always undone stops
REPLACED = "/var/lib/nydus-agent/replaced"  # what a repair has overwritten last, each 0600
EFFECTIVE = (
    "/var/lib/nydus-agent/effective.json"  # what "auto" came to; the daemon reads its mode there, 0644
)
UNCONFIRMED = "/var/lib/nydus-agent/unconfirmed.json"  # the change that waits for `confirm`, 0644
TAKEN_BACK = "/var/lib/nydus-agent/taken-back.json"  # the last one that was not confirmed, 0644
RESTARTS = "/var/lib/nydus-agent/restarts.json"  # when we restarted containerd and the snapshotter, 0600
BENCH = "/var/lib/nydus-agent/bench.json"  # what a bench has still to undo, 0644
PIN = "/var/lib/nydus-agent/pin.json"  # `route pin`, 0644, read by the daemon

PROGRAMS = (
    "/usr/lib/nydus-agent/programs"  # a directory of each package of programs, named by project and version
)

RUN_DIR = "/run/nydus-agent"
STATUS = "/run/nydus-agent/status.json"  # the daemon's last published status
MEMORY = (
    "/run/nydus-agent/memory.json"  # what the daemon knows of the mirror, for its next run; nobody else's
)
API_SOCKET = "/run/nydus-agent/api.sock"  # /status and /metrics
BENCH_HOSTS = (
    "/run/nydus-agent-bench"  # while `bench` pulls a plain image: its registry's hosts.toml, root's, 0700
)
REQUESTS = "/run/nydus-agent/request"  # a file here asks for an inspection; existence only, never read

NYDUSD_TEMPLATE = "/etc/nydus/nydusd-config.json"
SNAPSHOTTER_CONFIG = "/etc/nydus/snapshotter.toml"
CA_BUNDLE = "/etc/nydus/registry-cas.pem"  # CAs of private registries, for nydusd and the snapshotter
REGISTRIES_D = "/etc/nydus/registries.d"  # scheme and CA per registry, for snapshotters from 0.16 on
SNAPSHOTTER_UNIT = "nydus-snapshotter.service"
SNAPSHOTTER_UNIT_FILE = "/etc/systemd/system/nydus-snapshotter.service"
PACKAGED_UNIT_FILE = "/usr/lib/systemd/system/nydus-snapshotter.service"
"""Where a package puts a unit that ours, in /etc, goes before. (Debian 13's nydus-snapshotter brings
none.)
"""
SNAPSHOTTER_SOCKET = "/run/containerd-nydus/containerd-nydus-grpc.sock"
SNAPSHOTTER_SYSTEM_SOCKET = "/run/containerd-nydus/system.sock"

CERTS_D = "/etc/containerd/certs.d"
CONTAINERD_UNIT = "containerd.service"
RUNTIME_UNITS = (
    CONTAINERD_UNIT,
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
)
"""Units that run a containerd; recovery is ordered before all of them."""
PROXY_PLUGIN = "nydus"  # the snapshotter's name in containerd
PROBE_NAMESPACE = "nydus-agent-probe"
"""containerd's namespace for the snapshot of check 7: ours alone, so it may be deleted even where a crash
left it.
"""
RUNTIME = "nydus"  # CRI's runtime handler in mode runtime-class

AGENT_UNIT = "nydus-agent.service"
INSPECT_UNIT = "nydus-agent-inspect.service"
REPAIR_UNIT = "nydus-agent-repair.service"
PROGRAM = "/usr/bin/nydus-agent"
USER = "nydus-agent"
