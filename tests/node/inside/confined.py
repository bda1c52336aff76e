"""Tries, in the sandbox of a download, all that a download has no business with; prints what came of it as JSON."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from functools import partial

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USER, MOUNT_BIND = 0x10000000, 4096
DIRECTORIES = (
    "/", "/etc", "/usr", "/usr/local/bin", "/var", "/var/lib", "/var/lib/nydus-agent/artifacts", "/run", "/boot",
    "/run/nydus-agent", "/home", "/root", "/opt", "/srv", "/dev", "/dev/shm", "/sys/fs/cgroup", "/tmp", "/var/tmp",
)  # fmt: skip
SECRETS = ("/etc/shadow", "/etc/nydus-agent/secret", "/var/lib/nydus-agent/secret", "/proc/1/environ", "/root/secret")


def attempt(act: Callable[[], object]) -> str:
    """ "done", or the error's name."""
    try:
        act()
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    return "done"


def call(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "")


def write(directory: str) -> None:
    path = os.path.join(directory, "left-by-a-download")
    with open(path, "w") as file:
        file.write("x")


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def connect(family: int, address: object) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(3)
        client.connect(address)  # type: ignore[arg-type]  # as the family has it


def status() -> dict[str, str]:
    with open("/proc/self/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def main() -> None:
    link_local, port = sys.argv[1], int(sys.argv[2])
    told: dict[str, object] = {
        "uid": os.getuid(),
        "groups": sorted({os.getgid(), *os.getgroups()}),
        "status": {
            name: value
            for name, value in status().items()
            if name in ("NoNewPrivs", "Seccomp") or name.startswith("Cap")
        },
        "writes": {directory: attempt(partial(write, directory)) for directory in DIRECTORIES},
        "reads": {path: attempt(partial(read, path)) for path in SECRETS},
        "loopback": attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", port))),
        "link-local": attempt(lambda: connect(socket.AF_INET, (link_local, port))),
        "unix": attempt(lambda: connect(socket.AF_UNIX, "/run/systemd/private")),
        "netlink": attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
        "packet": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()),
        "processes of others": [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()],
    }
    for name, act in (
        ("become root", lambda: os.setuid(0)),
        ("a new user namespace", lambda: call(LIBC.unshare(NEW_USER))),
        ("mount", lambda: call(LIBC.mount(b"/etc", b"/mnt", None, MOUNT_BIND, None))),
        ("a new root", lambda: os.chroot("/usr")),
        ("the clock", lambda: call(LIBC.settimeofday(None, None))),
    ):  # fmt: skip
        # Some calls end the process (SystemCallFilter=), so each is tried by a child.
        told[name] = _in_child(act)
    print(json.dumps(told))


def _in_child(act: Callable[[], object]) -> str:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BrokenPipeError):
            os.write(writer, attempt(act).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        told = answer.read()
    _, code = os.waitpid(pid, 0)
    return told or f"killed by signal {os.WTERMSIG(code)}"


if __name__ == "__main__":
    main()
