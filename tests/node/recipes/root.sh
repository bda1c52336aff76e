#!/bin/bash
# A Debian node: SUITE (trixie, bookworm) with systemd, containerd, runc, CNI plugins, a registry, Debian's
# nydus-snapshotter where there is one, skopeo, and the packages that ours depends on (a node under test has no network,
# so apt must find them installed).
# Called with OUT (empty directory to fill), WORK (scratch) and SUITE in the environment.
set -euo pipefail
packages=(
    systemd systemd-sysv dbus libpam-systemd udev kmod procps iproute2 nftables ca-certificates curl openssl fuse3 psmisc
    containerd runc containernetworking-plugins docker-registry skopeo
    python3 python3-grpcio python3-protobuf python3-pystemd python3-watchdog python3-structlog python3-requests
    python3-nftables python3-tomlkit python3-prometheus-client python3-pytest sysstat strace
)
if [ "$SUITE" != bookworm ]; then packages+=(nydus-snapshotter); fi
mmdebstrap --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "5"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='echo node >"$1/etc/hostname"' \
    --customize-hook='printf "127.0.0.1 localhost node\n::1 localhost\n" >"$1/etc/hosts"' \
    --customize-hook='rm -rf "$1"/etc/resolv.conf "$1"/var/lib/apt/lists/*' \
    --customize-hook='chroot "$1" systemctl mask systemd-modules-load.service systemd-udevd.service console-getty.service getty@.service systemd-networkd-wait-online.service systemd-resolved.service' \
    --customize-hook='chroot "$1" systemctl disable docker-registry.service' \
    --customize-hook='chroot "$1" systemctl set-default multi-user.target' \
    "$SUITE" "$OUT"
