"""The snapshotter's config.toml, with keys that 0.13.4 and 0.16.1 both read (config/config.go there), or that
are written only for a snapshotter that has them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

from agent import paths
from agent.config.model import Config
from agent.containerd.keys import quoted
from agent.facts.node import Binary, Facts, FileFact
from agent.plan import renewal

METRICS_PORTS = (9110, *range(14010, 14020))
"""The first free one is used; 9110 is what upstream's sample names.

A busy port ends the snapshotter at its start.
"""


def snapshotter_config(
    config: Config, facts: Facts, programs: Mapping[str, Binary], *, registries: str
) -> bytes:
    """The text. `registries` is a directory with one hosts.toml per registry (snapshotter 0.16 and newer), or
    "".

    The versions in the first lines are on purpose: a new version of a program changes the file, and so
    restarts the snapshotter.
    """
    versions = ", ".join(
        f"{name} {program.version_text or 'of unknown version'}" for name, program in programs.items()
    )
    return _CONFIG.format(
        mark=paths.MARK,
        versions=versions,
        root=quoted(config.snapshotter.root),
        address=quoted(paths.SNAPSHOTTER_SOCKET),
        daemon_mode=quoted(config.snapshotter.daemon_mode.value),
        system=quoted(paths.SNAPSHOTTER_SYSTEM_SOCKET),
        template=quoted(paths.NYDUSD_TEMPLATE),
        nydusd=quoted(programs["nydusd"].path),
        nydus_image=quoted(programs["nydus-image"].path if "nydus-image" in programs else ""),
        level=quoted(config.snapshotter.log_level.value),
        metrics=quoted(f"127.0.0.1:{metrics_port(facts)}"),
        registries=f"mirrors_config.dir = {quoted(registries)}\n" if registries else "",
        renewal=_RENEWAL.format(seconds=interval) if (interval := renewal.interval_s(config, facts)) else "",
    ).encode()


def metrics_port(facts: Facts) -> int:
    """The port of the running configuration where it is ours and its unit runs, else the first that nobody
    uses.
    """
    busy = facts.listening if isinstance(facts.listening, tuple) else ()
    present = _present_port(facts.file(paths.SNAPSHOTTER_CONFIG))
    unit = facts.snapshotter_unit
    runs = unit is not None and getattr(unit, "active_state", "") == "active"
    if present is not None and (runs or present not in busy):
        return present
    return next((port for port in METRICS_PORTS if port not in busy), METRICS_PORTS[0])


def _present_port(fact: object) -> int | None:
    if not isinstance(fact, FileFact) or paths.MARK.encode() not in fact.content.split(b"\n", 1)[0]:
        return None
    try:
        address = tomllib.loads(fact.content.decode())["metrics"]["address"]
        host, _, port = address.rpartition(":")
        return int(port) if host == "127.0.0.1" else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


_CONFIG = """\
# {mark}; changes are seen as drift and are replaced by the next apply.
# Rendered for {versions}.
version = 1
root = {root}
address = {address}
daemon_mode = {daemon_mode}
# true would unmount the roots of running containers at every stop.
cleanup_on_close = false

[system]
enable = true
address = {system}

[daemon]
nydusd_path = {nydusd}
nydusimage_path = {nydus_image}
nydusd_config = {template}
fs_driver = "fusedev"
# A nydusd that died is started again, so that new containers work. "failover" would keep running ones too,
# but nydusd hands its mounts over only since v2.3.0 (before, the snapshotter waits for ever), lists
# directories rightly after it only since v2.3.8, and the snapshotter starts the new one without upgrade mode
# (containerd/nydus-snapshotter#784).
recover_policy = "restart"
threads_number = 4

[cgroup]
# nydusd stays in the unit's own cgroup: the fence destroys connections by it.
enable = false

[log]
level = {level}
# To the journal, where failed reads through the mirror and a fatal error at the start can be seen.
log_to_stdout = true

[metrics]
# pprof is served on this port too: loopback only.
address = {metrics}

[remote]
{registries}convert_vpc_registry = false
skip_ssl_verify = false
{renewal}
[snapshot]
enable_nydus_overlayfs = false
enable_kata_volume = false
sync_remove = false

[experimental]
enable_stargz = false
enable_referrer_detect = false
"""

_RENEWAL = """
[remote.auth]
# So often running nydusd are given what docker's configuration and its helpers say now: credentials expire.
credential_renewal_interval = "{seconds}s"
"""
