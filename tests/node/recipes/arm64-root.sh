#!/bin/bash
# A Debian node of trixie for arm64, made while qemu emulates it (see ../emulation.py): as root.sh, without what its tests
# do not use. What an emulated processor is slow at is left out or done by this machine's own: Python's byte code, which
# is the same for all, is made by the Python of BUILD_ROOT, and the certificates are only put together.
# Called with OUT (empty directory to fill), WORK (scratch) and BUILD_ROOT (a root of trixie) in the environment.
set -euo pipefail
packages=(
    systemd systemd-sysv dbus udev kmod procps iproute2 nftables curl fuse3 util-linux-extra
    containerd runc
    python3 python3-grpcio python3-protobuf python3-pystemd python3-watchdog python3-structlog python3-requests
    python3-nftables python3-tomlkit
)
cat >"$WORK/skip" <<'HOOK'
#!/bin/sh
set -eu
for path in /usr/bin/py3compile /usr/sbin/update-ca-certificates; do
    chroot "$1" dpkg-divert --quiet --local --rename --add "$path"
    ln -s /bin/true "$1$path"
done
HOOK
cat >"$WORK/make-up" <<'HOOK'
#!/bin/sh
set -eu
for path in /usr/bin/py3compile /usr/sbin/update-ca-certificates; do
    rm "$1$path"
    chroot "$1" dpkg-divert --quiet --local --rename --remove "$path"
done
cat "$1"/usr/share/ca-certificates/mozilla/*.crt >"$1/etc/ssl/certs/ca-certificates.crt"
unshare --mount --propagation private sh -euc '
    mount --bind "$1" "$BUILD_ROOT/mnt"
    exec chroot "$BUILD_ROOT" python3 -m compileall -q -s /mnt -p / /mnt/usr/lib/python3 /mnt/usr/lib/python3.13
' compile "$1"
HOOK
chmod +x "$WORK/skip" "$WORK/make-up"
# (What mmdebstrap looks for is Debian's registration of qemu, which is not the one here.)
mmdebstrap --architectures=arm64 --skip=check/qemu --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "5"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --essential-hook="$WORK/skip" --customize-hook="$WORK/make-up" \
    --customize-hook='echo node >"$1/etc/hostname"' \
    --customize-hook='printf "127.0.0.1 localhost node\n::1 localhost\n" >"$1/etc/hosts"' \
    --customize-hook='rm -rf "$1"/etc/resolv.conf "$1"/var/lib/apt/lists/*' \
    --customize-hook='chroot "$1" systemctl mask systemd-modules-load.service systemd-udevd.service console-getty.service getty@.service systemd-networkd-wait-online.service systemd-resolved.service' \
    --customize-hook='chroot "$1" systemctl set-default multi-user.target' \
    trixie "$OUT"
