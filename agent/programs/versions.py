"""What programs say of themselves: the architecture in their first bytes, the version that they print.

Nothing here runs anything.
"""

from __future__ import annotations

import re

from agent.facts.node import Arch, Binary, Facts, Unknown, Version

_NUMBERS = re.compile(r"v?([0-9]+\.[0-9]+(?:\.[0-9]+)?)")
_NYDUS = re.compile(r"Version:\s*(\S+)")
_COMMIT = re.compile(r"Git Commit:\s*(.+)")
_CRATE = re.compile(r"nydus-storage-([0-9]+\.[0-9]+\.[0-9]+)")

CRATE_PATTERN = "nydus-storage-[0-9]+[.][0-9]+[.][0-9]+"
"""grep -E pattern of a path that a build from crates leaves in the program (its panic messages)."""

_CRATES: dict[str, Version] = {"0.6.2": (2, 2, 0)}
"""nydus-storage in the lock file of a nydus-rs crate -> version of that crate; 2.2.0 is the latest that there
is.
"""

ELF_HEADER = 20
"""Bytes that `elf_architecture` needs."""

_ELF_MACHINES = {0x3E: Arch.AMD64, 0xB7: Arch.ARM64}  # EM_X86_64, EM_AARCH64
_KERNEL_MACHINES = {"x86_64": Arch.AMD64, "aarch64": Arch.ARM64}


def architecture(machine: str) -> Arch:
    """By the kernel's name of a machine, such as "x86_64" (uname(2))."""
    return _KERNEL_MACHINES.get(machine, Arch.OTHER)


def elf_architecture(head: bytes) -> Arch:
    """The architecture of a program with these first bytes; OTHER for anything that is neither ELF nor
    script.
    """
    if head.startswith(b"#!"):
        return Arch.SCRIPT
    if len(head) < ELF_HEADER or not head.startswith(b"\x7fELF") or head[4] != 2:  # EI_CLASS: 64 bits
        return Arch.OTHER
    if head[5] != 1:  # EI_DATA: little-endian
        return Arch.OTHER
    return _ELF_MACHINES.get(int.from_bytes(head[18:20], "little"), Arch.OTHER)


def parsed(text: str) -> Version | Unknown:
    """The first version number in a text: "v0.16.1" -> (0, 16, 1)."""
    match = _NUMBERS.search(text)
    if match is None:
        return Unknown(f"no version in {text[:60]!r}")
    return tuple(int(part) for part in match[1].split("."))


def nydus(output: str) -> tuple[Version | Unknown, str]:
    """nydusd's and nydus-image's `--version`: "Version: \\tv2.3.8", "unknown" where it was built outside of
    git.
    """
    match = _NYDUS.search(output)
    if match is None:
        return Unknown("--version printed no version"), ""
    return parsed(match[1]), match[1]


def commit(output: str) -> str:
    """The commit that nydusd names, "" where it names none: read as the snapshotter reads it (its
    pkg/daemon/daemon.go, GetDaemonGitCommit), on stdout alone.
    """
    match = _COMMIT.search(output)
    return match[1].strip() if match is not None else ""


def crate(known_versions: str) -> tuple[Version | Unknown, str]:
    """The version of a build from crates, by what grep found in the program."""
    match = _CRATE.search(known_versions)
    if match is None:
        return Unknown("built outside of git, and not from crates"), "unknown"
    known = _CRATES.get(match[1])
    if known is None:
        return Unknown(f"built from crates (nydus-storage {match[1]})"), f"nydus-storage {match[1]}"
    return known, f"{'.'.join(map(str, known))} (crate)"


def snapshotter(output: str) -> tuple[Version | Unknown, str]:
    """containerd-nydus-grpc's `--version`; distributions build it without a version, then it says
    "unknown".
    """
    return nydus(output)


def containerd(output: str) -> tuple[Version | Unknown, str]:
    """`containerd --version`: "containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6"."""
    fields = output.split()
    text = fields[2] if len(fields) > 2 else ""
    return parsed(text), text


def package(text: str) -> tuple[Version | Unknown, str]:
    """A Debian version: epoch and revision are dropped ("1:0.13.4-2.1+b10" -> 0.13.4)."""
    upstream = text.strip().rpartition(":")[2].partition("-")[0]
    return parsed(upstream), upstream


def known_versions(facts: Facts) -> tuple[tuple[str, str], ...]:
    """(program, version) of all that was found on the node."""
    named = (
        ("nydusd", facts.nydusd), ("nydus-image", facts.nydus_image), ("snapshotter", facts.snapshotter),
        ("containerd", facts.containerd),
    )  # fmt: skip
    return tuple((name, shown_version(fact)) for name, fact in named if isinstance(fact, Binary))


def shown_version(fact: Binary) -> str:
    """A version for people."""
    if isinstance(fact.version, Unknown):
        return fact.version_text or "of unknown version"
    return ".".join(map(str, fact.version))
