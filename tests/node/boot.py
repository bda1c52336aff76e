"""A booted Debian node for a test: `with Node() as node: node.run(["ctr", "version"])`."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.node import cache, keeper, machine, outside, stock

_T = TypeVar("_T")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Command = Sequence[str] | str
"""A program with its arguments, or the text of a bash script (run with -eu)."""


class NodeError(Exception):
    """The node did not do what a test needs: the message has the command and what it wrote."""


living: list[Node] = []
"""The nodes that are up in this process, oldest first."""

before_stop: list[Callable[[Node, BaseException | None], None]] = []
"""Called with each node that is about to be stopped, while it still runs, and the error that ended its
`with`.
"""


class Node:
    """One node: a copy of the cached root, booted with systemd, in its own network namespace with loopback
    only.

    `snapshotter` is "0.16.1" (in /usr/local/bin), "0.13.4" (Debian's, in /usr/bin) or "none" (not on the node
    at all); `nydus` False leaves nydusd and nydus-image out. `shares` are machine directories seen read-only
    on the node, by their path there. Containerd runs with Debian's configuration and nothing on the node
    knows of nydus yet.
    """

    up_s, ask_s = 60.0, 20.0
    """How long systemd may take to be up, and to answer whether it is."""

    def __init__(
        self, *, snapshotter: str = "0.16.1", nydus: bool = True, shares: Mapping[str, Path] | None = None,
        hostname: str = "node", root: Path | None = None,
    ) -> None:  # fmt: skip
        self.contents = stock.Contents(snapshotter=snapshotter, nydus=nydus)
        self.machine = machine.look()
        self.name = f"nna-{secrets.token_hex(4)}"
        self.directory = nodes_dir() / self.name
        self.leader = 0
        self.boot_s = 0.0
        self._shares = {**stock.shares(), **(shares or {})}
        self._hostname = hostname
        self._root = root
        self._keeper: subprocess.Popen[str] | None = None

    @property
    def lower(self) -> Path:
        """The cached root below the node's own files."""
        return self._root or stock.root()

    # Life

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.leader:
                for watch in before_stop:
                    watch(self, error)
        finally:
            self.stop()

    def start(self) -> Self:
        """Make the node's files and boot it. Raises NodeError when systemd is not up in time."""
        sweep()
        try:
            self._lay_out()
            self._start_keeper()
            self._boot()
        except BaseException:
            self.stop()
            raise
        living.append(self)
        return self

    def _lay_out(self) -> None:
        root = self.lower
        stock.make(self.contents)
        _refuse_overlay(cache.cache_dir())
        for part in ("upper", "work", "root"):
            (self.directory / part).mkdir(parents=True)
        # All of /var/lib is a real directory: containerd's overlayfs cannot have its upper directory on an
        # overlay.
        subprocess.run(["cp", "-a", f"{root}/var/lib", f"{self.directory}/varlib"], check=True, timeout=120)
        stock.fill(self.directory / "upper", self.contents, self.machine)
        settings = {
            "lower": str(root),
            "shares": {target: str(source) for target, source in self._shares.items()},
            "hostname": self._hostname,
        }
        (self.directory / "settings.json").write_text(json.dumps(settings))

    def _start_keeper(self) -> None:
        command = ["unshare", "--mount", "--propagation=private", sys.executable]
        if machine.has_systemd():
            scope = ["systemd-run", "--scope", "--quiet", "--property=Delegate=yes", f"--unit={self.name}"]
            command = [*scope, *command]
        self._keeper = subprocess.Popen(
            [*command, keeper.__file__, str(self.directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True,
        )  # fmt: skip

    def _ask(self, command: str, deadline_s: float) -> str:
        held = self._keeper
        if held is None or held.stdin is None or held.stdout is None:
            raise NodeError(f"{self.name} is not running")
        held.stdin.write(command + "\n")
        ready, _, _ = select.select([held.stdout], [], [], deadline_s)
        answer = held.stdout.readline().strip() if ready else ""
        if not answer or answer.startswith("failed"):
            raise NodeError(f"{self.name}: {command}: {answer or 'no answer'}\n{self.console()[-2000:]}")
        return answer

    def _boot(self, command: str = "boot", deadline_s: float = 30) -> None:
        started = time.monotonic()
        self.leader = int(self._ask(command, deadline_s).split()[1])
        self._wait_for_systemd()
        self.boot_s = time.monotonic() - started

    def _wait_for_systemd(self) -> None:
        def is_up() -> bool:
            asked = self.run(["systemctl", "is-system-running"], check=False, timeout=self.ask_s)
            return asked.stdout.strip() in ("running", "degraded")

        self.wait_until(is_up, self.up_s, "systemd is up")

    def failed_units(self) -> list[str]:
        """The units that systemd calls failed."""
        listed = self.run(["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--full"])
        return [line.split()[0] for line in listed.stdout.splitlines()]

    def reboot(self) -> None:
        """An orderly shutdown and a new boot from the same disk."""
        self._ask("halt", 90)
        self._boot()

    def power_cut(self) -> None:
        """Kill everything at once and boot again from the same disk (whatever reached it)."""
        self._ask("kill", 30)
        self._boot()

    def stop(self) -> None:
        """Kill the node and remove its files and mounts. May be called again."""
        if self in living:
            living.remove(self)
        held, self._keeper = self._keeper, None
        if held is not None:
            if held.stdin is not None:
                held.stdin.close()
            try:
                held.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(held.pid, signal.SIGKILL)
                held.wait(10)
            if held.stdout is not None:
                held.stdout.close()
        if self.directory.exists():
            keeper.remove_traces(self.directory)
        self.leader = 0

    def console(self) -> str:
        """What the boot wrote on its console: of use when systemd did not come up."""
        path = self.directory / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Commands

    def run(
        self,
        command: Command,
        *,
        check: bool = True,
        timeout: float = 60,
        input: str | bytes | None = None,  # noqa: A002 - as subprocess.run calls it
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the node to its end.

        Raises NodeError on a non-zero exit (with `check`) or the timeout.
        """
        argv = self.argv(command, user)
        data = input.encode() if isinstance(input, str) else input
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL if data is None else subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=_environment(env), start_new_session=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(data, timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise NodeError(_story(command, f"not done after {timeout:g} s", out, err)) from None
            raise
        if check and process.returncode != 0:
            raise NodeError(_story(command, f"exit status {process.returncode}", out, err))
        return subprocess.CompletedProcess(
            argv, process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )

    def popen(
        self, command: Command, *, user: str | None = None, **options: object
    ) -> subprocess.Popen[bytes]:
        """Start a command on the node and return at once; `options` go to subprocess.Popen."""
        argv, environment = self.argv(command, user), _environment(None)
        # The options are the caller's.
        started: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            argv, env=environment, start_new_session=True, **options
        )
        return started

    def argv(self, command: Command, user: str | None = None) -> list[str]:
        """The machine's command line that runs `command` on the node, in the node's own cgroup tree."""
        if not self.leader:
            raise NodeError(f"{self.name} is not running")
        words = ["bash", "-euc", command] if isinstance(command, str) else list(command)
        if user is not None:
            words = ["runuser", f"--user={user}", "--", *words]
        harness = self._cgroup_root() / "harness"
        harness.mkdir(exist_ok=True)
        join = f'echo $$ >{shlex.quote(str(harness))}/cgroup.procs && exec "$@"'
        enter = ["nsenter", f"--target={self.leader}", "--all", "--wdns=/", "--", *words]
        return ["sh", "-c", join, "sh", *enter]

    def _cgroup_root(self) -> Path:
        line = next(
            x for x in Path(f"/proc/{self.leader}/cgroup").read_text().splitlines() if x.startswith("0::")
        )
        return machine.unified_mount() / Path(line[3:].lstrip("/")).parent

    def processes(self, unit: str) -> list[int]:
        """The processes of a unit of the node's system.slice, by their numbers on the machine."""
        procs = self._cgroup_root() / "system.slice" / unit / "cgroup.procs"
        return [int(line) for line in procs.read_text().split()] if procs.exists() else []

    def main_pid(self, unit: str) -> int:
        """The number, on the node, of the process that a unit of it consists of; 0: it does not run."""
        return int(self.show(unit, "MainPID"))

    def show(self, unit: str, name: str) -> str:
        """A property of a unit of the node, as systemd prints it."""
        return self.run(["systemctl", "show", f"--property={name}", "--value", unit]).stdout.strip()

    def inside(self, path: str) -> Path:
        """A path of the node as the machine sees it, for what must not wait for a program on the node."""
        return Path(f"/proc/{self.leader}/root") / path.lstrip("/")

    def wait_until(self, done: Callable[[], _T], deadline_s: float, what: str) -> _T:
        """The first true answer of `done`, asked every 50 ms or, where asking takes longer, half of the time.
        Raises NodeError, naming `what`, at the deadline.
        """
        deadline = time.monotonic() + deadline_s
        while True:
            asked = time.monotonic()
            answer = done()
            if answer:
                return answer
            now = time.monotonic()
            if now > deadline:
                raise NodeError(f"{self.name}: not within {deadline_s:g} s: {what} (last answer: {answer!r})")
            time.sleep(max(0.05, min(1.0, now - asked)))

    def connect(self, port: int, timeout: float = 10) -> socket.socket:
        """A TCP connection from here to 127.0.0.1:`port` on the node. Raises OSError as `connect` does."""
        made = outside.tcp_socket(self.leader)
        made.settimeout(timeout)
        try:
            made.connect(("127.0.0.1", port))
        except OSError:
            made.close()
            raise
        return made

    # Files

    def read(self, path: str) -> str:
        """A file's text. Raises NodeError when it cannot be read."""
        try:
            return outside.read(self.inside("/"), path).decode(errors="replace")
        except OSError as error:
            raise NodeError(f"{self.name}: {path}: {error.strerror}") from None

    def exists(self, path: str) -> bool:
        return outside.exists(self.inside("/"), path)

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644, owner: str = "root:root") -> None:
        """Make or replace a file, and the directories above it."""
        script = 'mkdir -p "$(dirname "$1")"; cat >"$1"; chmod "$2" "$1"; chown "$3" "$1"'
        self.run(["bash", "-euc", script, "write", path, f"{mode:o}", owner], input=content)

    def push(self, source: Path, target: str, *, mode: int | None = None) -> None:
        """Copy a file of the machine onto the node (its mode too, unless another is given)."""
        self.write(target, source.read_bytes(), mode=source.stat().st_mode & 0o7777 if mode is None else mode)

    def journal(self, unit: str = "", since: str = "", *, output: str = "short-precise") -> str:
        """Journal lines of this boot, oldest first; `unit` may be a pattern, `since` as journalctl takes
        it.
        """
        command = ["journalctl", "--boot", "--no-pager", "--quiet", f"--output={output}"]
        command += [f"--unit={unit}"] if unit else []
        command += [f"--since={since}"] if since else []
        return self.run(command).stdout

    # The package

    def install_deb(
        self, deb: Path, conf_d: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Install a package file by apt, with configuration drop-ins laid down first as a fleet would."""
        for name, text in (conf_d or {}).items():
            self.write(f"/etc/nydus-agent/conf.d/{name}", text)
        target = f"/var/tmp/{deb.name}"
        self.push(deb, target, mode=0o644)
        return self.apt("install", target)

    def apt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """apt-get on the node: not interactive, without recommended packages, without a network."""
        command = ["apt-get", "--yes", "--quiet", "--no-install-recommends", *arguments]
        return self.run(command, timeout=300, env={"DEBIAN_FRONTEND": "noninteractive"})


def nodes_dir() -> Path:
    """Where the files of running nodes lie: $NYDUS_AGENT_TEST_NODES_DIR, else in the cache; never on an
    overlay.
    """
    return Path(os.environ.get("NYDUS_AGENT_TEST_NODES_DIR", cache.cache_dir() / "nodes"))


def _refuse_overlay(directory: Path) -> None:
    stat = ["stat", "--file-system", "--format=%T", str(directory)]
    if subprocess.check_output(stat, timeout=10).strip() == b"overlayfs":
        raise NodeError(
            f"{directory} is on overlayfs, which cannot hold a node: set NYDUS_AGENT_TEST_CACHE to ext4, "
            f"xfs …"
        )


def sweep() -> list[str]:
    """Remove what dead runs left: node directories that no keeper holds. Returns their names."""
    found = sorted(nodes_dir().glob("nna-*")) if nodes_dir().is_dir() else []
    return [directory.name for directory in found if _swept(directory)]


def _swept(directory: Path, grace_s: float = 120) -> bool:
    """Remove a node's traces where it is dead; whether it was. One run does it, though many may look."""
    try:
        with open(directory / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            keeper.remove_traces(directory)
            return True
    except BlockingIOError:
        return False
    except OSError:  # not locked yet: being laid out, unless that was long ago
        try:
            dead = time.time() - directory.stat().st_mtime > grace_s
        except OSError:
            return False
        if dead:
            keeper.remove_traces(directory)
        return dead


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    # sh, nsenter and the command all get this: nothing of the test run's own environment reaches the node.
    return {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", **(extra or {})}


def _story(command: Command, outcome: str, out: bytes, err: bytes) -> str:
    shown = command if isinstance(command, str) else shlex.join(command)
    text = "\n".join(part.decode(errors="replace").strip()[-4000:] for part in (out, err) if part.strip())
    return f"{shown}: {outcome}\n{text}"
