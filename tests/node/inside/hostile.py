"""What somebody on a node without rights tries against the agent: `hostile.py WHAT`, until it is ended.

Each program tries again and again, with so many sockets, lines and files at most as its constants say. At the
end it prints one JSON object: how often it has tried what, and what it has done that it must not be able to.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import random
import resource
import signal
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.node.inside import sockets

AGENT, MIRROR = ("127.0.0.1", 14003), ("127.0.0.1", 4001)
CROWD = 10_000
"""Connections that are held open at a time."""
_IP_LOCAL_PORT_RANGE = 51  # ip(7), Linux 6.3
_CLOSED = 7  # include/net/tcp_states.h
LISTENERS, CHILDREN, FILES = 20_000, 300, 400
LINES_A_SECOND = 6_000
_SAY_S = 0.2

tried: Counter[str] = Counter()
may_not: list[str] = []
"""What was done that nobody without rights may do."""


def begun(address: tuple[str, int], port: int = 0) -> socket.socket:
    """A connection that nobody has waited for, from one port (0: any). Raises OSError where there is none."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    if port:  # to look for a free one takes the kernel longer and longer
        made.setsockopt(socket.IPPROTO_IP, _IP_LOCAL_PORT_RANGE, struct.pack("=I", port << 16 | port))
    code = made.connect_ex(address)
    if code not in (0, errno.EINPROGRESS):
        made.close()
        raise OSError(code, os.strerror(code))
    tried["connections"] += 1
    return made


def say(address: tuple[str, int], text: bytes) -> bytes:
    """What is answered to a text, as far as it comes at once."""
    tried["requests"] += 1
    with contextlib.suppress(OSError), socket.create_connection(address, _SAY_S) as asked:
        asked.sendall(text)
        return asked.recv(65536)
    return b""


def rude() -> Iterator[bytes]:
    """Requests to the agent's endpoint that no client of it sends."""
    host = b"Host: 127.0.0.1:14003\r\n"
    get = b"GET /livez HTTP/1.1\r\n" + host
    yield b"GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    yield b"GET /canary HTTP/1.1\r\n" + b"".join(b"Host: h%d\r\n" % number for number in range(200)) + b"\r\n"
    yield get + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n"
    yield get + b"a: b\r\n" * 100_000 + b"\r\n"
    yield get + b"Range: bytes=" + b"9" * 5000 + b"-\r\n\r\n"
    yield get + b"Range: bytes=\xb2-\xb3\r\nContent-Length: -1\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield b"GET http://[ HTTP/1.1\r\n" + host + b"\r\n"
    yield b"GET /readyz?" + b"verbose&" * 900 + b" HTTP/1.1\r\n" + host + b"\r\n"
    yield b"BREW \x00\xff/../%00 HTTP/9.9\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500)
    yield os.urandom(4096)
    yield get + b"\r\n" + get + b"\r\n" + get + b"\r\n"


def endpoint() -> None:
    """Ten thousand connections, those among them that send a byte now and then, and rude requests."""
    held: deque[socket.socket] = deque()
    while True:
        with contextlib.suppress(OSError):
            held.extend(begun(AGENT) for _ in range(400))
        while len(held) > CROWD:
            held.popleft().close()
        for slow in random.sample(held, min(len(held), 100)):
            with contextlib.suppress(OSError):
                slow.send(b"G")
                tried["bytes one by one"] += 1
        for text in rude():
            say(AGENT, text)
        time.sleep(0.02)


def ports() -> None:
    """Take all ports from which the node's loopback can connect to the agent's endpoint, and keep them."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    share = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100
    mine = next(first for first in range(low, high + 1, share) if first + share > high or not os.fork())
    held: dict[int, socket.socket] = {}
    while True:
        for port in range(mine, min(mine + share, high + 1)):
            if port not in held or _is_closed(held[port]):
                held.pop(port, socket.socket()).close()
                with contextlib.suppress(OSError):  # somebody else's
                    held[port] = begun(AGENT, port)
        time.sleep(0.1)


def _is_closed(one: socket.socket) -> bool:
    return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO) & 0xFF == _CLOSED


def through_the_mirror() -> None:
    """Who may use the mirror as a proxy reaches the node's loopback: what is there for them?"""
    agent = b"127.0.0.1:14003"
    while True:
        for path in (b"/status", b"/metrics", b"/canary/../status", b"/canary", b"/livez"):
            asked = b"GET http://%b%b HTTP/1.1\r\nHost: %b\r\n\r\n" % (agent, path, agent)
            if b'"kind"' in (answer := say(MIRROR, asked)) or b"nydus_agent_" in answer:
                may_not.append(f"{path.decode()} by the mirror")
        say(MIRROR, b"CONNECT %b HTTP/1.1\r\n\r\n" % agent + b"GET /livez HTTP/1.1\r\n\r\n")
        slow = b"GET http://%b/livez HTTP/1.1\r\nX: " % agent
        say(MIRROR, slow)
        time.sleep(0.02)


def listeners() -> None:
    """Every socket that a user can have with the mirror's ports, and again and again those that none can."""
    sockets.hold_many(MIRROR[1], LISTENERS)
    tried["listeners"] += LISTENERS
    kept = []
    places = [(address, port) for address in ("::", "::1", "127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1")
              for port in (4001, 4002, 4003, 14003)]  # fmt: skip
    while True:
        for address, port in places:
            for alone in (0, 1):
                made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
                tried["attempts to listen"] += 1
                try:
                    if made.family is socket.AF_INET6:
                        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
                    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                        made.setsockopt(socket.SOL_SOCKET, option, 1)
                    made.bind((address, port))
                    made.listen()
                except OSError:
                    made.close()
                else:
                    kept.append(made)
                    if made.family is socket.AF_INET:
                        may_not.append(f"listens on {address}:{port}")
        time.sleep(0.1)
        while len(kept) > 8:  # they come and go
            kept.pop(random.randrange(len(kept))).close()


_HEAD = "[2026-01-01 00:00:00.000000 +00:00] ERROR [storage/src/backend/mod.rs:301] "
LIES = (
    "Read from backend failed: Registry(Request(ErrorWithMsg(",
    "Read from backend failed: Registry(Transport(",
    "\tRegistry(Request(Format(",
    "backend request: GET http://127.0.0.1:5000/v2/a/blobs/sha256:0, chunk: 1 bytes, proxy: true, "
    "proxy sdk: false, takes 1ms, error: Request(Proxy(Forbidden(",
    "failed to decompress chunk: ",
    "Request proxy server failed, fallback to original server",
    _HEAD + "failed to read data from backend, ",
)
"""What nydusd writes of a read that has failed."""
_NYDUSD = "nydus-snapshotter.service"


def entry(**fields: str) -> bytes:
    """An entry in journald's own protocol."""
    made = b""
    for name, value in fields.items():
        data = value.encode()
        made += name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return made


def journal() -> None:
    """Lines that nydusd would write, by each way into the journal, in nydusd's name as far as one can."""
    native = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(OSError):
        stream.connect("/run/systemd/journal/stdout")
        stream.sendall(f"nydusd\n{_NYDUSD}\n3\n0\n0\n0\n0\n".encode())
    disguise = {
        "_SYSTEMD_UNIT": _NYDUSD, "UNIT": _NYDUSD, "OBJECT_SYSTEMD_UNIT": _NYDUSD, "_UID": "0",
        "SYSLOG_IDENTIFIER": "nydusd", "MESSAGE_ID": "a596d6fe7bfa4994828e72309e95d61e",
        "N_DROPPED": "99999", "PRIORITY": "3", "__MONOTONIC_TIMESTAMP": "1",
    }  # fmt: skip
    while True:
        for lie in LIES:
            long = lie + "x" * random.choice((1, 1000, 100_000))
            with contextlib.suppress(OSError):
                native.sendto(entry(MESSAGE=long, **disguise), "/run/systemd/journal/socket")
            with contextlib.suppress(OSError):
                native.sendto(f"<11>nydusd[1]: {lie}".encode(), "/run/systemd/journal/dev-log")
            with contextlib.suppress(OSError):
                stream.sendall(f"{lie}\n{_HEAD}{lie}\n".encode())
            tried["lines"] += 4
        time.sleep(4 * len(LIES) / LINES_A_SECOND)


def names() -> None:
    """Processes that are called as those that the agent looks for, which come and go."""
    called = ("nydusd", "nydusd-2.4.4", "containerd", "dfdaemon", "nydus-agent", "containerd-nydu")
    while True:
        children = [_called(name) for name in called for _ in range(CHILDREN // len(called))]
        tried["processes"] += len(children)
        time.sleep(1)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _called(name: str) -> int:
    child = os.fork()
    if not child:
        ctypes.CDLL(None).prctl(15, name.encode())  # PR_SET_NAME
        with contextlib.suppress(OSError):
            kept = begun(MIRROR)
            signal.pause()
            kept.close()
        os._exit(0)
    return child


_PLACES = (
    "/run/nydus-agent", "/run/nydus-agent/request", "/var/lib/nydus-agent", "/var/lib/nydus-agent/journal",
    "/etc/nydus-agent", "/etc/nydus-agent/conf.d", "/etc/nydus", "/etc/containerd", "/run/containerd-nydus",
    "/var/lib/dpkg", "/run/systemd/system", "/usr/share/nydus-node-agent",
)  # fmt: skip
_SHARED = ("/run/lock", "/tmp", "/var/tmp", "/dev/shm")
_CALLED = ("lock", "request", "now", "pin.json", "status.json.new", "open.jsonl", "nydus-agent.lock")


def locks() -> None:
    """Lock whatever can be opened, make files where requests and locks are looked for, send signals."""
    held: list[int] = []
    while True:
        for place in map(Path, _PLACES):
            for path in (place, *_listed(place)):
                _lock(path, held)
            for name in _CALLED:
                tried["files"] += 1
                with contextlib.suppress(OSError):
                    os.close(os.open(place / name, os.O_CREAT | os.O_WRONLY))
                    may_not.append(f"{place}/{name}")
        for place in map(Path, _SHARED):
            for name in _CALLED:
                with contextlib.suppress(OSError):
                    held.append(os.open(place / name, os.O_CREAT | os.O_RDWR))
                    fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        _speak_to_root()
        while len(held) > FILES:
            os.close(held.pop(random.randrange(len(held))))
        time.sleep(0.1)


def _listed(place: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(place.iterdir())[:FILES]
    return []


def _lock(path: Path, held: list[int]) -> None:
    tried["locks"] += 1
    with contextlib.suppress(OSError):
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        held.append(opened)
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _speak_to_root() -> None:
    for text in (b"READY=1\nSTATUS=hacked", b"WATCHDOG=trigger", b"STOPPING=1\nMAINPID=1", b"RELOADING=1"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.sendto(text, "/run/systemd/notify")
            tried["notifications"] += 1
    for path in ("/run/nydus-agent/api.sock", "/run/containerd-nydus/system.sock",
                 "/run/containerd-nydus/containerd-nydus-grpc.sock"):  # fmt: skip
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            tried["root's sockets"] += 1
            asked.connect(path)
            may_not.append(path)
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            status = comm.with_name("status").read_text()
            others = f"Uid:\t{os.getuid()}\t" not in status
            if others and comm.read_text().strip() in ("nydus-agent", "nydusd", "containerd"):
                tried["signals"] += 1
                os.kill(int(comm.parent.name), signal.SIGHUP)
                may_not.append(f"SIGHUP to {status}")


ATTACKS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (endpoint, ports, through_the_mirror, listeners, journal, names, locks)
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=ATTACKS)
    parser.add_argument("--seconds", type=int, default=300, help="the longest that it goes on")
    options = parser.parse_args()
    me = os.getpid()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def end(*_: object) -> None:
        if os.getpid() != me:
            os._exit(0)
        print(json.dumps({"tried": tried, "may_not": sorted(set(may_not))}), flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
    signal.alarm(options.seconds)
    ATTACKS[options.what]()


if __name__ == "__main__":
    main()
