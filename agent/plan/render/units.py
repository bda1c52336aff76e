"""The unit of the snapshotter.

One text for systemd 252 (bookworm) and newer: settings that 252 does not know are not used.
"""

from __future__ import annotations

from agent import paths


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
