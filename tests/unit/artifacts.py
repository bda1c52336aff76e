"""Locks and artifacts for tests: small programs that look like ELF, and what a lock says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

from agent.artifacts.lock import Artifact, ArtifactName, Lock, Program
from agent.node.facts import Arch

NOW = datetime(2026, 11, 27, 17, 40, tzinfo=UTC)
_MACHINES = {Arch.AMD64: b"\x3e\0", Arch.ARM64: b"\xb7\0"}


def elf(text: bytes, arch: Arch = Arch.AMD64) -> bytes:
    """A program by its first bytes; `text` tells one from another."""
    return b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\0" + _MACHINES[arch] + b"\x01\0\0\0" + text


def program(name: str, content: bytes) -> Program:
    return Program(name, len(content), hashlib.sha256(content).hexdigest())


def artifact(
    name: ArtifactName = ArtifactName.NYDUS,
    version: str = "v2.4.4",
    arch: Arch = Arch.AMD64,
    programs: Mapping[str, bytes] | None = None,
) -> Artifact:
    """An artifact with these programs; where none are given, with those that it must have."""
    held = {name.main_program: elf(f"{name.main_program} {version}".encode(), arch)} if programs is None else programs
    return Artifact(
        name, version, arch, f"https://example.org/download/{version}/{name}-{version}-linux-{arch}.tgz", 1000,
        hashlib.sha256(f"{name} {version} {arch}".encode()).hexdigest(),
        tuple(program(key, content) for key, content in held.items()),
    )  # fmt: skip


def lock(*artifacts: Artifact, serial: int = 2026112701) -> Lock:
    return Lock(serial, NOW, NOW.replace(year=2027), "0.1.0", artifacts)
