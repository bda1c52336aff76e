"""What programs say of themselves, the architecture in their first bytes and the version that they print, and
which versions are known not to work, alone or together. Nothing here runs anything.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from agent import paths
from agent.config.forms import is_release
from agent.config.model import Config, DaemonMode
from agent.facts.node import Arch, Binary, Facts, Unknown, Version

_NUMBERS = re.compile(r"v?([0-9]{1,9}\.[0-9]{1,9}(?:\.[0-9]{1,9})?)")
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
    """nydusd's, nydus-image's and the snapshotter's `--version`: "Version: \\tv2.3.8", "unknown" where it was
    built outside of git, as distributions do.
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


def containerd(output: str) -> tuple[Version | Unknown, str]:
    """`containerd --version`: "containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6"."""
    fields = output.split()
    text = fields[2] if len(fields) > 2 else ""
    return parsed(text), text


def package(text: str) -> tuple[Version | Unknown, str]:
    """A Debian version: epoch and revision are dropped ("1:0.13.4-2.1+b10" -> 0.13.4)."""
    upstream = text.strip().rpartition(":")[2].partition("-")[0]
    return parsed(upstream), upstream


def known_versions(facts: Facts) -> dict[str, str]:
    """Program -> version, of all that was found on the node."""
    named = (
        ("nydusd", facts.nydusd), ("nydus-image", facts.nydus_image), ("snapshotter", facts.snapshotter),
        ("containerd", facts.containerd),
    )  # fmt: skip
    return {name: shown_version(fact) for name, fact in named if isinstance(fact, Binary)}


def shown_version(fact: Binary) -> str:
    """A version for people."""
    if isinstance(fact.version, Unknown):
        return fact.version_text or "of unknown version"
    return spelled(fact.version)


MIRRORS_GONE: Version = (2, 3, 5)
"""nydusd drops `mirrors` silently from here on (dragonflyoss/nydus#1723)."""
MIRRORS_NOT_WRITTEN: Version = (0, 16)
"""The snapshotter no longer passes `mirrors` on from here on, and rewrites host and scheme per registry
instead (containerd/nydus-snapshotter#736)."""
ASKS_FOR_COMMIT: Version = (0, 15, 4)
"""A snapshotter from here on does not start beside a living nydusd whose --version names no git commit (its
pkg/filesystem/fs.go, NewFileSystem)."""
USE_HTTP: Version = (2, 1, 0)
"""Older nydusd have neither `use_http` (dragonflyoss/nydus#759) nor `mirrors` (#736)."""
OTHER_PROGRAM: Version = (3,)
"""nydus 3 is another program, `nydus`, with another configuration (the upstream branch v3)."""
OTHER_ARCHIVE: Version = (0, 13, 6)
"""Before, upstream's archives are named and laid out otherwise, and built for x86-64 only."""
RENEWS: Version = (0, 15, 14)
"""A snapshotter from here on gives running nydusd new credentials (`remote.auth.credential_renewal_interval`,
containerd/nydus-snapshotter#718). 0.15.12 and 0.15.13 have the key, and renew only what new mounts get."""
TAKES_CREDENTIALS: Version = (2, 4, 1)
"""nydusd from here on takes them (PUT /api/v1/config with `registry_auth`; dragonflyoss/nydus beba83c4)."""
_NO_COUNTER = ((0, 15, 12), (0, 15, 15))
_LOST_SHARED: Version = (0, 15, 4)


@dataclass(frozen=True, slots=True)
class Pair:
    """What is to be used; None: not of this choice, or not known."""

    nydus: Version | None = None
    snapshotter: Version | None = None
    daemon_mode: DaemonMode = DaemonMode.DEDICATED


def pair_on_node(config: Config, facts: Facts) -> Pair:
    """What is on the node, as the configuration uses it."""
    return Pair(version_of(facts.nydusd), version_of(facts.snapshotter), config.snapshotter.daemon_mode)


def version_of(fact: Binary | None | Unknown) -> Version | None:
    """A program's version, where it is there and tells one."""
    return fact.version if isinstance(fact, Binary) and isinstance(fact.version, tuple) else None


def refused(pair: Pair) -> tuple[str, ...]:
    """Why these versions cannot work, each a sentence; empty: nothing is known against them."""
    reasons = []
    if pair.nydus is not None and pair.nydus >= OTHER_PROGRAM:
        reasons.append(
            f"nydus {spelled(pair.nydus)} is another program with another configuration, not known here"
        )
    if pair.nydus is not None and pair.nydus < USE_HTTP:
        reasons.append(f"nydusd {spelled(pair.nydus)} knows no use_http (it came with {spelled(USE_HTTP)})")
    if pair.snapshotter is not None and pair.snapshotter < OTHER_ARCHIVE:
        reasons.append(
            f"the archive of snapshotter {spelled(pair.snapshotter)} has another name and layout, and is for "
            f"x86-64 only (changed in {spelled(OTHER_ARCHIVE)})"
        )
    return tuple(reasons)


def mirrors(pair: Pair) -> tuple[str, ...]:
    """Why the mirrors dialect cannot work with these versions."""
    reasons = []
    if pair.nydus is not None and pair.nydus >= MIRRORS_GONE:
        reasons.append(
            f"nydusd {spelled(pair.nydus)} ignores mirrors silently (removed in {spelled(MIRRORS_GONE)})"
        )
    if pair.snapshotter is not None and pair.snapshotter >= MIRRORS_NOT_WRITTEN:
        reasons.append(
            f"snapshotter {spelled(pair.snapshotter)} does not pass mirrors on (since "
            f"{spelled(MIRRORS_NOT_WRITTEN)})"
        )
    return tuple(reasons)


def cautions(pair: Pair) -> tuple[str, ...]:
    """What works, but not well, each a sentence with the version that is better."""
    reasons = []
    snapshotter = pair.snapshotter
    if snapshotter is not None and _NO_COUNTER[0] <= snapshotter <= _NO_COUNTER[1]:
        reasons.append(
            f"snapshotter {spelled(snapshotter)} may unlink blobs that are in use, and may fail to start a "
            "pod for want of a counter (containerd/nydus-snapshotter#687, #762; mended after 0.15.15)"
        )
    if snapshotter is not None and snapshotter >= _LOST_SHARED and pair.daemon_mode is DaemonMode.SHARED:
        reasons.append(
            f"snapshotter {spelled(snapshotter)} in shared mode may not find its living nydusd again when "
            f"it restarts"
        )
    return tuple(reasons)


def spelled(version: Version) -> str:
    """(2, 4, 4) -> "2.4.4"."""
    return ".".join(map(str, version))


NAMED_IN = (paths.SNAPSHOTTER_CONFIG, paths.SNAPSHOTTER_UNIT_FILE)
"""Files of a node that name the programs in use by their paths."""


class ProgramName(enum.StrEnum):
    """The programs that a node needs of upstream's archives."""

    NYDUSD = "nydusd"
    NYDUS_IMAGE = "nydus-image"
    SNAPSHOTTER = "containerd-nydus-grpc"


class Project(enum.StrEnum):
    """What upstream releases as one archive, and what is one package here."""

    NYDUS = "nydus"
    SNAPSHOTTER = "nydus-snapshotter"

    @property
    def programs(self) -> tuple[ProgramName, ...]:
        """The programs that are taken out of the archive; the first is the one that the project is for."""
        return _PROGRAMS[self]

    def package(self, version: str) -> str:
        """The name of the Debian package: each version has its own, so that several lie side by side."""
        return f"{self}-programs-{version}"

    def directory(self, version: str) -> str:
        """Where the package has its programs."""
        return f"{paths.PROGRAMS}/{self}-{version}"

    def version_in(self, name: str) -> str:
        """The version of a directory of this project, such as "nydus-2.4.4"; "" for any other name."""
        version = name.removeprefix(f"{self}-")
        return version if version != name and is_release(version) else ""

    def url(self, version: str, arch: Arch) -> str:
        """Where upstream publishes the archive."""
        return _URLS[self].format(tag=f"v{version}", arch=arch.value)


_PROGRAMS = {
    Project.NYDUS: (ProgramName.NYDUSD, ProgramName.NYDUS_IMAGE),
    Project.SNAPSHOTTER: (ProgramName.SNAPSHOTTER,),
}
_URLS = {
    Project.NYDUS: (
        "https://github.com/dragonflyoss/nydus/releases/download/{tag}/nydus-static-{tag}-linux-{arch}.tgz"
    ),
    Project.SNAPSHOTTER: (
        "https://github.com/containerd/nydus-snapshotter/releases/download/{tag}/"
        "nydus-snapshotter-{tag}-linux-{arch}.tar.gz"
    ),
}


def package_of(path: str) -> str:
    """The package that a program belongs to, by its path; "" for a program that is in none."""
    name = path.removeprefix(f"{paths.PROGRAMS}/")
    if name == path:
        return ""
    directory = name.partition("/")[0]
    known = ((project, project.version_in(directory)) for project in Project)
    return next((project.package(version) for project, version in known if version), "")


def order(version: str) -> tuple[tuple[int, ...], bool, tuple[int, ...]]:
    """What versions are sorted by: the numbers; 2.4.0-rc.1 is older than 2.4.0."""
    numbers, _, rest = version.partition("-")
    return tuple(map(int, numbers.split("."))), not rest, tuple(map(int, re.findall(r"[0-9]+", rest)))


def numbers(version: str) -> tuple[int, ...]:
    """(2, 4, 4) of "2.4.4", and (2, 4, 0) of "2.4.0-rc.1"."""
    return order(version)[0]
