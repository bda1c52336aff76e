"""What an executable file is made for, by its first bytes (elf(5))."""

from __future__ import annotations

from agent.node.facts import Arch

HEADER = 20
"""Bytes that `architecture` needs."""

_MACHINES = {0x3E: Arch.AMD64, 0xB7: Arch.ARM64}  # EM_X86_64, EM_AARCH64


def architecture(head: bytes) -> Arch:
    """The architecture of a program with these first bytes;

    OTHER for anything that is neither ELF nor script.
    """
    if head.startswith(b"#!"):
        return Arch.SCRIPT
    if len(head) < HEADER or not head.startswith(b"\x7fELF") or head[4] != 2:  # EI_CLASS: 64 bits
        return Arch.OTHER
    if head[5] != 1:  # EI_DATA: little-endian
        return Arch.OTHER
    return _MACHINES.get(int.from_bytes(head[18:20], "little"), Arch.OTHER)
