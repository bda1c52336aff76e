"""The snapshotter's config.toml and its unit.

The former has keys that 0.13.4 and 0.16.1 both read (config/config.go there), or that are written only for a
snapshotter that has them. The unit is one text for systemd 252 (bookworm) and newer: settings that 252 does
not know are not used.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

from agent import paths
from agent.config.model import Config
from agent.containerd.view import quoted
from agent.facts.node import METRICS_PORTS, Binary, Facts, FileFact
from agent.plan.mounts import renewal_interval_s


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
        renewal=_RENEWAL.format(seconds=interval) if (interval := renewal_interval_s(config, facts)) else "",
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


def snapshotter_unit(
    program: str, ca_bundle: str, containerd: str = paths.CONTAINERD_UNIT, credentials: str = ""
) -> bytes:
    """nydus-snapshotter.service. `ca_bundle` is a file with CAs of private registries, "" for none;
    `credentials` is as in the configuration, `registries.credentials`.
    """
    authorities = ""
    if ca_bundle:
        # OpenSSL and Go read both; nydusd before v2.4.3 has no setting for a CA.
        authorities = f'Environment="SSL_CERT_FILE={ca_bundle}" "SSL_CERT_DIR=/etc/ssl/certs"\n'
    return _UNIT.format(
        mark=paths.MARK,
        program=program.replace("%", "%%"),
        config=paths.SNAPSHOTTER_CONFIG,
        authorities=authorities,
        credentials=_credentials(credentials),
        containerd=containerd,
    ).encode()


def _credentials(credentials: str) -> str:
    """Where docker's configuration is, by name: no secret gets into the unit. The snapshotter reads it for
    each mount (containerd/nydus-snapshotter, pkg/auth/docker.go), so a file that is replaced counts from the
    next mount on.
    """
    if credentials.startswith("/"):
        return (
            f"# Who we are at "
            f"registries.\nEnvironment=DOCKER_CONFIG={credentials.removesuffix('/config.json')}\n"
        )
    return _FROM_SYSTEMD.format(name=credentials) if credentials else ""


_FROM_SYSTEMD = """\
# Who we are at registries. The second line is what counts where the credential is gone: the snapshotter
# must start.
LoadCredential=config.json:{name}
SetCredential=config.json:{{}}
Environment=DOCKER_CONFIG=%d
"""

_UNIT = """\
# {mark}; changes are seen as drift and are replaced by the next apply. Use a drop-in.
[Unit]
Description=Nydus snapshotter for containerd
Documentation=man:nydus-agent(8) https://github.com/containerd/nydus-snapshotter
After=network.target local-fs.target
Before={containerd}
# containerd needs it for every pod: giving up for good would be worse than a try each second.
StartLimitIntervalSec=0
# What is undone at boot is undone by files alone, when systemd has read this unit: it must not be started
# then.
ConditionPathExists={config}

[Service]
Type=simple
Environment=HOME=/root
# Loopback is never behind a proxy: nydusd obeys HTTP_PROXY, also for the mirror itself.
Environment=NO_PROXY=127.0.0.1,localhost,::1 no_proxy=127.0.0.1,localhost,::1
{authorities}{credentials}ExecStart={program} --config {config}
Restart=always
RestartSec=1
# nydusd processes are children: they serve the roots of running containers and must outlive a restart.
KillMode=process
OOMScoreAdjust=-999
# One nydusd killed for want of memory must not take the snapshotter down.
OOMPolicy=continue
TasksMax=infinity
StandardOutput=journal
StandardError=journal
# nydusd tells here why reads failed, and nydus-agent acts on it: the journal must not be silent for longer
# than a second. While the mirror is fenced each read of a blob makes a line or two, which would else drive
# all other logs out of the journal. (journald allows 4 to 6 times the burst where there is room on the
# disk.)
LogRateLimitIntervalSec=1s
LogRateLimitBurst=500

[Install]
WantedBy=multi-user.target
"""
