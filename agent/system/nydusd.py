"""Running nydusd processes, asked on their API sockets (HTTP/1.1 over a unix socket,
api/src/http_handler.rs), and a nydusd of our own for one image.

One worker thread of nydusd answers all calls in order, so only what costs it nothing is asked. Never asked:
GET /api/v2/blobs, whose handler is a stub that panics and takes the mount with it.

A nydusd of our own has a directory ("room") that has `mount` and gets `api.sock`. The mount is made in a
namespace that only this nydusd is in, and is read through /proc/PID/root. When nydusd ends, for whatever
reason, the namespace and with it the mount are gone.
"""

from __future__ import annotations

import json
import os
import re
import socket as sockets_api
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.errors import AgentError, HttpError, NydusdError, hide
from agent.outside_json import json_object, json_value, mapping
from agent.ports import HttpAnswer, NydusdInfo
from agent.system.http import Request, exchange
from agent.system.process import Companion, companion, last_lines, last_written

_API_SOCKET = re.compile(r"api(\d*)\.sock")  # api.sock, then api1.sock, api2.sock … after each hot upgrade
_SECRETS = ("auth", "registry_token", "access_key_id", "access_key_secret", "encryption_key")
_BODY_CAP = 4 << 20  # a shared daemon lists the configuration of all its mounts


class NydusdApi:
    """GET of the daemon's state and counters."""

    def sockets(self, snapshotter_root: str) -> tuple[str, ...]:
        """See ports.Nydusd: the newest of each daemon, ROOT/socket/DAEMON/api*.sock."""
        top = os.path.join(snapshotter_root, "socket")
        try:
            daemons = sorted(entry.path for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise NydusdError(
                "NNA0721", f"cannot list nydusd's sockets in {top}", cause=error.strerror or ""
            ) from error
        return tuple(newest for daemon in daemons if (newest := _newest(daemon)))

    def info(self, socket: str, *, deadline_s: float) -> NydusdInfo:
        """See ports.Nydusd. The pid is the one that opened the socket for listening (SO_PEERCRED)."""
        pids: list[int] = []
        answer = _get(socket, "/api/v1/daemon", deadline_s, pids)
        return _info(socket, _object(socket, answer), pids[0] if pids else None)

    def backend_metrics(self, socket: str, *, deadline_s: float) -> Mapping[str, object]:
        """See ports.Nydusd. Answered only where the daemon has exactly one backend."""
        return _object(socket, _get(socket, "/api/v1/metrics/backend", deadline_s, []))


def _newest(daemon: str) -> str:
    found: list[tuple[int, str]] = []
    try:
        for entry in os.scandir(daemon):
            match = _API_SOCKET.fullmatch(entry.name)
            if match and stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                found.append((int(match[1] or 0), entry.path))
    except FileNotFoundError:  # the daemon was removed while we looked
        return ""
    return max(found)[1] if found else ""


def _get(socket: str, path: str, deadline_s: float, pids: list[int]) -> HttpAnswer:
    request = Request.of(f"http://nydusd{path}", "", {}, socket)
    try:
        answer = exchange(
            request,
            deadline_s=deadline_s,
            body_cap=_BODY_CAP,
            on_connect=lambda peer: pids.extend(_peer_pid(peer)),
        )
    except HttpError as error:
        raise NydusdError("NNA0721", f"no answer from nydusd on {socket}", cause=error.cause) from error
    if answer.status != 200:
        raise NydusdError(
            "NNA0721", f"nydusd on {socket} answered {answer.status} to GET {path}",
            cause=hide(answer.body.decode(errors="replace")[:300]),
        )  # fmt: skip
    return answer


def _peer_pid(peer: sockets_api.socket) -> list[int]:
    packed = peer.getsockopt(sockets_api.SOL_SOCKET, sockets_api.SO_PEERCRED, struct.calcsize("3i"))
    pid = int(struct.unpack("3i", packed)[0])
    return [pid] if pid > 0 else []  # 0: a process of another PID namespace


def _object(socket: str, answer: HttpAnswer) -> Mapping[str, object]:
    try:
        return json_object(answer.body)
    except ValueError as error:
        what = f"nydusd on {socket} answered no JSON object"
        raise NydusdError("NNA0721", what, cause=str(error)) from error


def _info(socket: str, daemon: Mapping[str, object], pid: int | None) -> NydusdInfo:
    version = mapping(daemon.get("version"))
    backends = mapping(daemon.get("backend_collection"))
    return NydusdInfo(
        socket=socket,
        id=_text(daemon.get("id")),
        version=_text(version.get("package_ver")) or _text(version.get("git_commit")),
        state=_text(daemon.get("state")),
        pid=pid,
        backends=tuple(
            (mountpoint, _effective(mapping(backend).get("config")))
            for mountpoint, backend in sorted(backends.items())
        ),
    )


def _effective(config: object) -> Mapping[str, object]:
    """The configuration of one mount: a JSON object, or (seen in older versions) JSON in a string."""
    if isinstance(config, str):
        try:
            config = json_value(config)
        except ValueError:
            return {}
    return mapping(_without_secrets(config))


def _without_secrets(value: object) -> object:
    """nydusd blanks `auth` and `registry_token` by itself; that is not relied on."""
    if isinstance(value, dict):
        return {key: None if key in _SECRETS else _without_secrets(inner) for key, inner in value.items()}
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


_STEP_S = 0.05


class Mounted(NamedTuple):
    """A mount that is there."""

    version: str
    """nydusd's own word."""
    top: str
    """Where this process reads it."""


def socket_of(room: str) -> str:
    """Where it answers."""
    return f"{room}/api.sock"


def command(nydusd: Sequence[str], room: str, *image: str, threads: int) -> list[str]:
    """Its command line; `nydusd` is the program and what is to run it, `image` are its options for one."""
    return [
        "unshare", "--mount", "--propagation", "private", "--", *nydusd, "fuse", *image, "--mountpoint",
        f"{room}/mount", "--apisock", socket_of(room), "--log-level", "warn", "--thread-num", str(threads),
    ]  # fmt: skip


def wait_for_mount(
    child: Companion, room: str, until: float, refusal: Callable[[str], AgentError]
) -> Mounted:
    """The mount once it is there, at most until then (CLOCK_MONOTONIC).

    Raises what `refusal` makes of the cause.
    """
    api, cause = NydusdApi(), ""
    while time.monotonic() < until and child.code is None:
        try:
            info = api.info(socket_of(room), deadline_s=2)
            top = f"/proc/{info.pid or child.pid}/root{room}/mount"
            if info.state == "RUNNING" and os.path.ismount(top):
                return Mounted(info.version, top)
            cause = f"its state is {info.state}"
        except NydusdError as error:
            cause = error.cause
        time.sleep(_STEP_S)
    if child.code is not None:
        cause = f"it ended with exit code {child.code}"
    raise refusal(cause)


_MOUNT_S, _READ_S = 30.0, 3600.0


@contextmanager
def mounted(nydusd: str, bootstrap: Path, blobs: Path, directory: Path) -> Iterator[str]:
    """Where the image can be read, within the block; `directory` is made for it. Raises NydusdError
    (NNA1423), ProcessError and OSError."""
    for place in (directory, directory / "mount", directory / "cache"):
        place.mkdir(mode=0o700)
    config = {
        "device": {
            "backend": {"type": "localfs", "config": {"dir": str(blobs)}},
            "cache": {"type": "blobcache", "config": {"work_dir": str(directory / "cache")}},
        },
        "mode": "direct",
        "digest_validate": False,
        "enable_xattr": False,  # the metadata itself must say that there are such
        "fs_prefetch": {"enable": False},
    }
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    image = ("--config", f"{directory}/config.json", "--bootstrap", str(bootstrap))
    argv = command([nydusd], str(directory), *image, threads=4)
    log = directory / "log"

    def refusal(cause: str) -> NydusdError:
        seen = last_lines(last_written(str(log)))
        return NydusdError("NNA1423", "a private nydusd could not mount the image", cause=cause, seen=seen)

    with open(log, "wb") as output, companion(argv, output.fileno()) as child, child.killed_after(_READ_S):
        yield wait_for_mount(child, str(directory), time.monotonic() + _MOUNT_S, refusal).top
