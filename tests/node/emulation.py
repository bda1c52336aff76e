"""Programs for arm64 on a machine of another kind: qemu's user emulation, registered with the kernel for a
while.

The kernel starts a program that begins in the registered way by an emulator (binfmt_misc, the kernel's
admin-guide/binfmt-misc.rst). With its flag F the emulator is opened when it is registered, so it need not lie
in the roots and namespaces where such programs are started. What was registered here is taken back at the
end, and what a killed run has left by the next one; a machine that emulates arm64 by itself is left as it is.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.node import cache

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_MAGIC = "7f454c460201010000000000000000000200b700"  # a 64-bit little-endian ELF file for EM_AARCH64 (elf(5))
_MASK = "ffffffffffffff00fffffffffffffffffeffffff"  # any ABI, position-independent programs too
_NAME = re.compile(r"nna-arm64-([0-9]+)-[0-9a-f]+")


class EmulationError(Exception):
    """Programs for arm64 cannot be run on this machine; the message says why."""


@contextlib.contextmanager
def arm64() -> Iterator[None]:
    """In the block, programs for arm64 run. Raises EmulationError."""
    if platform.machine() == "aarch64":
        yield
        return
    mounted = _mount()
    try:
        _sweep()
        name = "" if _is_there() else _register(cache.make("qemu") / "bin/qemu-aarch64")
        try:
            yield
        finally:
            if name:
                (_BINFMT / name).write_text("-1")
    finally:
        if mounted:
            subprocess.run(["umount", str(_BINFMT)], check=False, timeout=30)


def _mount() -> bool:
    if (_BINFMT / "register").exists():
        return False
    subprocess.run(["modprobe", "--quiet", "binfmt_misc"], check=False, timeout=30)
    mount = ["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise EmulationError(
            f"the kernel has no binfmt_misc, or it may not be mounted: {done.stderr.strip()}"
        )
    return True


def _register(emulator: Path) -> str:
    name = f"nna-arm64-{os.getpid()}-{secrets.token_hex(4)}"
    magic, mask = (
        "".join(f"\\x{text[at : at + 2]}" for at in range(0, len(text), 2)) for text in (_MAGIC, _MASK)
    )
    # P keeps argv[0], O and C open the program as its owner: what Debian's qemu-user-binfmt registers, and F.
    line = f":{name}:M::{magic}:{mask}:{emulator}:POCF"
    try:
        (_BINFMT / "register").write_text(line)
    except OSError as error:
        raise EmulationError(f"the kernel takes no emulator: {error.strerror}") from error
    return name


def _is_there() -> bool:
    """Whether the machine, or another run, emulates arm64 already: for as long as that run lives only."""
    for entry in _entries():
        text = entry.read_text()
        if (
            f"magic {_MAGIC}" in text
            and "enabled" in text
            and "F" in _flags(text)
            and not _NAME.fullmatch(entry.name)
        ):
            return True
    return False


def _flags(text: str) -> str:
    return next((line.split(":", 1)[1] for line in text.splitlines() if line.startswith("flags:")), "")


def _sweep() -> None:
    """Take back what runs that were killed have registered."""
    for entry in _entries():
        of_run = _NAME.fullmatch(entry.name)
        if of_run and not Path(f"/proc/{of_run[1]}").exists():
            with contextlib.suppress(OSError):  # another sweep was faster
                entry.write_text("-1")


def _entries() -> list[Path]:
    return [entry for entry in _BINFMT.iterdir() if entry.name not in ("register", "status")]
