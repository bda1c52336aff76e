"""The process that holds one node: its mounts, its systemd-nspawn, its cgroups. Ends with its caller.

Started by `boot.Node` as `unshare --mount … python3 keeper.py DIR < pipe`. The node's mounts live in this
process's own mount namespace, so none can be left on the machine, whatever ends it. When the pipe from the
caller is closed, by the caller's `stop` or by its death, the node is killed and its directory removed; when
the keeper itself is killed, the kernel kills systemd-nspawn (PDEATHSIG) and the next run removes what lies on
the disk.

Commands, one a line: `boot`, `halt` (orderly), `kill` (a power cut), `quit`. Answers, one a line: `leader
PID`, `halted`, `failed TEXT`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.node import machine

_PR_SET_PDEATHSIG = 1
_HALT_S = 60.0
_REBOOT_STATUS = 133  # systemd-nspawn with --keep-unit: the node asked for a reboot


def main() -> int:
    keeper = Keeper(Path(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        keeper.prepare()
        keeper.serve()
    finally:
        keeper.remove()
    return 0


def drop_cgroups(name: str, patience_s: float = 20.0) -> None:
    """Remove the cgroups of a node that is dead; kill whatever still lives in them first."""
    deadline = time.monotonic() + patience_s
    while (tops := cgroups(name)) and time.monotonic() < deadline:
        for place in (Path(place) for top in tops for place, _, _ in os.walk(top, topdown=False)):
            for pid in _members(place):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):  # what was killed is still ending
                os.rmdir(place)
        time.sleep(0.02)


def cgroups(name: str) -> list[Path]:
    """The cgroups of this name in the trees that nodes use.

    Those of other nodes may come and go meanwhile.
    """
    found = []
    for mount in filter(None, (machine.unified_mount(), machine.named_mount())):
        for place, directories, _ in os.walk(mount):  # goes on where a directory has just gone
            if name in directories:
                found.append(Path(place, name))
                directories.remove(name)
    return found


def _members(cgroup: Path) -> list[int]:
    try:
        pids = [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
    except OSError:  # has just gone
        return []
    return [pid for pid in pids if pid not in (0, os.getpid())]


class Keeper:
    """One node: `directory` holds settings.json, upper/, work/, varlib/ and the mount point root/."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = directory.name
        self.settings = json.loads((directory / "settings.json").read_text())
        self.root = directory / "root"
        self.nspawn: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        self.lock = open(self.directory / "lock.new", "w")  # noqa: SIM115 - held as long as the node lives
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (self.directory / "lock.new").rename(self.directory / "lock")  # `sweep` never sees it unlocked
        layers = (
            f"lowerdir={self.settings['lower']},upperdir={self.directory}/upper,workdir={self.directory}/work"
        )
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", f"{layers},volatile", str(self.root)],
            check=True,
            timeout=30,
        )
        if not machine.has_systemd():
            self._enter_cgroups()

    def _enter_cgroups(self) -> None:
        # --keep-unit lets systemd-nspawn put the node below its own cgroup: each node needs one to itself.
        named = machine.named_mount()
        tops = [machine.unified_mount() / machine.own_cgroup("") / self.name]
        if named is not None:
            tops.append(named / machine.own_cgroup("name=systemd") / self.name)
        for top in tops:
            top.mkdir(exist_ok=True)
            (top / "cgroup.procs").write_text(str(os.getpid()))

    def serve(self) -> None:
        pending = b""
        while True:
            ready, _, _ = select.select([sys.stdin], [], [], 0.2)
            if self.nspawn is not None and self.nspawn.poll() == _REBOOT_STATUS:
                self.boot()
            if not ready:
                continue
            data = os.read(sys.stdin.fileno(), 4096)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if line == b"quit":
                    return
                {b"boot": self.boot, b"halt": self.halt, b"kill": self.kill}[line]()

    def boot(self) -> None:
        with open(self.directory / "console.log", "ab") as console:
            self.nspawn = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                preexec_fn=_die_with_parent,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_LOCK": "0"},
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.nspawn.poll() is None:
            leader = self._leader()
            if leader is not None:
                _say(f"leader {leader}")
                return
            time.sleep(0.02)
        _say(f"failed systemd-nspawn did not start a node: see {self.directory}/console.log")

    def _command(self) -> list[str]:
        binds = [f"--bind={self.directory}/varlib:/var/lib"]
        binds += [f"--bind-ro={source}:{target}" for target, source in self.settings["shares"].items()]
        return [
            "systemd-nspawn", "--register=no", "--keep-unit", "--quiet", f"--directory={self.root}", "--boot",
            f"--machine={self.name}", f"--hostname={self.settings['hostname']}", "--capability=all",
            "--system-call-filter=@keyring bpf perf_event_open @mount", "--private-network",
            "--console=passive",
            "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--bind=/dev/fuse", *binds,
        ]  # fmt: skip

    def _leader(self) -> int | None:
        # The node's PID 1: the child of systemd-nspawn that is number 1 in its own PID namespace.
        assert self.nspawn is not None
        pid = self.nspawn.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for child in children:
                status = Path(f"/proc/{child}/status").read_text()
                numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
                if (
                    len(numbers) > 1
                    and numbers[-1] == "1"
                    and Path(f"/proc/{child}/comm").read_text() == "systemd\n"
                ):
                    return int(child)
        except (FileNotFoundError, ProcessLookupError):
            pass
        return None

    def halt(self) -> None:
        if self.nspawn is not None and self.nspawn.poll() is None:
            self.nspawn.terminate()  # systemd-nspawn asks the node's systemd to power off
            try:
                self.nspawn.wait(_HALT_S)
            except subprocess.TimeoutExpired:
                self._end()
        _say("halted")

    def kill(self) -> None:
        self._end()
        _say("halted")

    def _end(self) -> None:
        if self.nspawn is None:
            return
        if self.nspawn.poll() is None:
            leader = self._leader()
            if leader is not None:
                os.kill(leader, signal.SIGKILL)
            try:
                self.nspawn.wait(10)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait(10)
        self.nspawn = None

    def remove(self) -> None:
        self._end()
        subprocess.run(
            ["umount", "--lazy", str(self.root)], check=False, timeout=30, stderr=subprocess.DEVNULL
        )
        remove_traces(self.directory)


def remove_traces(directory: Path) -> None:
    """All that a dead node leaves on the machine: cgroups, systemd-nspawn's own directory, its files."""
    if not machine.has_systemd():
        _leave_cgroups()
    drop_cgroups(directory.name)
    for trace in (Path("/run/systemd/nspawn/propagate") / directory.name, directory):
        shutil.rmtree(trace, ignore_errors=True)


def _leave_cgroups() -> None:
    named = machine.named_mount()
    for mount, hierarchy in ((machine.unified_mount(), ""), (named, "name=systemd")):
        own = machine.own_cgroup(hierarchy)
        if mount is not None and own.name.startswith("nna-"):
            (mount / own.parent / "cgroup.procs").write_text(str(os.getpid()))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
