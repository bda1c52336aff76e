"""What this machine needs before a stage can run: Debian packages, toolchains, a Python environment."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.node import cache

_BASE = ("mmdebstrap", "debian-archive-keyring", "python3-venv", "ca-certificates", "util-linux")
_NODE = (
    "systemd-container", "iproute2", "nftables", "fuse3", "jq", "openssl", "git", "strace",
    "gcc", "g++", "libc6-dev", "make", "pkg-config", "cmake", "clang", "libclang-dev",
    "protobuf-compiler", "libprotobuf-dev",
)  # fmt: skip


class HostError(Exception):
    """This machine lacks something that could not be installed; the message says what and what to do."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler that is taken as found, or installed from Debian where it is not there."""

    name: str
    minimum: tuple[int, int]
    version: tuple[str, ...]
    package: str
    why: str


TOOLCHAINS = (
    Toolchain(
        "go", (1, 24), ("go", "version"), "golang-go", "it builds the snapshotter and crictl as tool modules"
    ),
    Toolchain(
        "cargo", (1, 88), ("cargo", "--version"), "cargo", "it builds nydusd and dfdaemon from their crates"
    ),
)


def prepare(*, nodes: bool) -> None:
    """Packages and toolchains; `nodes` also those that boot nodes and build their parts. Raises HostError."""
    if os.geteuid() != 0:
        raise HostError("needs root (node roots, namespaces, mounts): run it with sudo")
    if shutil.which("apt-get") is None:
        raise HostError("needs a Debian machine (apt-get)")
    _install(_missing(_BASE + (_NODE if nodes else ())))
    if nodes:
        for toolchain in TOOLCHAINS:
            _need(toolchain)


def environment() -> dict[str, str]:
    """The environment of all stages: the tests' Python first in PATH, toolchains where sudo does not look for
    them.
    """
    python = cache.make("venv", platform.python_version())
    usual = (Path("/usr/local/go/bin"), Path.home() / ".cargo/bin")
    path = [
        str(python / "bin"),
        os.environ.get("PATH", ""),
        *(str(place) for place in usual if place.is_dir()),
    ]
    # Debian's Go never fetches a newer toolchain by itself, but a module may ask for one.
    return {
        **os.environ,
        "PATH": ":".join(path),
        "GOTOOLCHAIN": "auto",
        "SUITE": "trixie",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _missing(packages: tuple[str, ...]) -> list[str]:
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Abbrev}\n", *packages],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False, timeout=60,
    )  # fmt: skip
    there = {line.split()[0] for line in listed.stdout.splitlines() if line.split()[1:] == ["ii"]}
    return [package for package in packages if package not in there]


def _install(packages: list[str]) -> None:
    if not packages:
        return
    print(f"installing {len(packages)} Debian packages: {' '.join(packages)}", flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "--quiet", "--option=Acquire::Retries=5", "--option=DPkg::Lock::Timeout=300",
             *command],
            env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
            check=False, timeout=1800,
        )  # fmt: skip
        if done.returncode != 0:
            raise HostError(f"apt-get {command[0]} failed:\n{done.stdout[-3000:]}")


def _need(toolchain: Toolchain) -> None:
    if _version(toolchain) is None:
        _install([toolchain.package])
    found = _version(toolchain)
    if found is None or found < toolchain.minimum:
        wanted = ".".join(map(str, toolchain.minimum))
        seen = "none was found" if found is None else f"{'.'.join(map(str, found))} is what is here"
        raise HostError(f"needs {toolchain.name} {wanted} or newer in PATH ({toolchain.why}); {seen}")


def _version(toolchain: Toolchain) -> tuple[int, int] | None:
    usual = f"{os.environ.get('PATH', '')}:/usr/local/go/bin:{Path.home()}/.cargo/bin"
    program = shutil.which(toolchain.version[0], path=usual)
    if program is None:
        return None
    told = subprocess.run(
        [program, *toolchain.version[1:]], capture_output=True, text=True, check=False, timeout=60
    ).stdout
    found = re.search(r"(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else None
