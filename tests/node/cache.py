"""Things that are slow to make, made once: built tools and node roots, outside the checkout.

Each thing has a recipe, a shell script beside this module; its key is a hash of the recipe's text (and of
what the caller adds), so an edited recipe makes a new thing and an unchanged one is found again. A thing
appears under its final name only when it is complete: it is made in a scratch directory and renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

RECIPES = Path(__file__).parent / "recipes"
_GOES_ON = ("dfdaemon",)
"""Recipes that go on where an interrupted run of theirs stopped: cargo knows what it has compiled."""
_DEADLINE_S = 4500.0
"""dfdaemon takes a quarter of an hour on two idle cores, and well over half an hour beside the tests."""


def cache_dir() -> Path:
    """Where made things are kept: $NYDUS_AGENT_TEST_CACHE, else a directory of /var/cache."""
    return Path(os.environ.get("NYDUS_AGENT_TEST_CACHE", "/var/cache/nydus-node-agent-tests"))


def key_of(name: str, *extra: str) -> str:
    """The directory name of a thing: its recipe's name and a hash of all that decides its content."""
    digest = hashlib.sha256((RECIPES / f"{name}.sh").read_bytes())
    for part in (platform.machine(), *extra):
        digest.update(b"\0" + part.encode())
    return f"{name}-{digest.hexdigest()[:16]}"


def find(name: str, *extra: str) -> Path | None:
    """The made thing, or None where it must still be made."""
    path = cache_dir() / key_of(name, *extra)
    return path if path.is_dir() else None


def make(name: str, *extra: str, env: dict[str, str] | None = None, deadline_s: float = _DEADLINE_S) -> Path:
    """The made thing, made now if it is not there; a second caller waits for the first.

    Raises `subprocess.CalledProcessError` with the log's path on stderr when the recipe fails, and
    `subprocess.TimeoutExpired` where it is not done at the deadline.
    """
    final = cache_dir() / key_of(name, *extra)
    if final.is_dir():
        return final
    cache_dir().mkdir(parents=True, exist_ok=True)
    with open(cache_dir() / f"{final.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_dir():
            _run_recipe(name, final, env or {}, deadline_s)
    return final


def _run_recipe(name: str, final: Path, env: dict[str, str], deadline_s: float) -> None:
    scratch = final.with_name(final.name + ".tmp")
    work = scratch.with_suffix(".work")
    for directory in (scratch, work):
        if directory is scratch or name not in _GOES_ON:
            shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(exist_ok=True)
    log = final.with_name(final.name + ".log")
    started = time.monotonic()
    print(f"making {final.name} (log: {log})", file=sys.stderr, flush=True)
    full_env = {**os.environ, **env, "OUT": str(scratch), "WORK": str(work)}
    with open(log, "wb") as output:
        _run_whole(["bash", str(RECIPES / f"{name}.sh")], full_env, output, deadline_s)
    scratch.rename(final)
    shutil.rmtree(work, ignore_errors=True)
    print(f"made {final.name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """Make what is named and print where it is; `--find NAME` prints that only where it is made already."""
    if arguments[:1] == ["--find"]:
        print(find(arguments[1]) or "")
        return
    for wanted in arguments:
        print(make(wanted))


def _run_whole(command: list[str], env: dict[str, str], output: BinaryIO, deadline_s: float) -> None:
    """Run a recipe with all that it starts: at its deadline a compiler that went on would write into the next
    try.
    """
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
    )  # fmt: skip
    try:
        code = process.wait(deadline_s)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        raise subprocess.CalledProcessError(code, command)


if __name__ == "__main__":
    main(sys.argv[1:])
