"""The servers around a node under test, each a transient unit on the node's loopback: registry, mirror,
dfdaemon.

Units are called test-…, so that nothing of ours is taken for them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.node import cache, dfdaemon, stock
from tests.node.boot import Node, NodeError

REGISTRY_NAME = "registry.test"
PKI = "/etc/test-pki"
USER, PASSWORD = "puller", "not-a-secret"
HTPASSWD = "/etc/test-registry/htpasswd"

BLOB_RULE = {"regex": "blobs/sha256.*"}


@dataclass
class Unit:
    """A transient unit on a node."""

    node: Node
    name: str

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to all its processes: KILL, STOP (freeze), CONT (thaw)."""
        self.node.run(["systemctl", "kill", f"--signal={signal}", self.name])

    def signal_now(self, sign: signal.Signals) -> None:
        """Send a signal to all its processes from here, within a millisecond; `kill` asks the node's
        systemd.
        """
        for pid in self.node.processes(self.name):
            os.kill(pid, sign)

    def freeze(self) -> None:
        self.kill("STOP")

    def thaw(self) -> None:
        self.kill("CONT")

    def stop(self) -> None:
        self.node.run(["systemctl", "stop", self.name], check=False)

    def is_active(self) -> bool:
        return self.node.run(["systemctl", "is-active", "--quiet", self.name], check=False).returncode == 0

    @property
    def pid(self) -> int:
        return self.node.main_pid(self.name)


def start_unit(
    node: Node,
    name: str,
    argv: Sequence[str],
    *,
    user: str | None = None,
    env: Mapping[str, str] | None = None,
    port: int = 0,
) -> Unit:
    """Start `test-NAME.service`; wait until something listens on the TCP port, if one is given (30 s)."""
    unit = Unit(node, f"test-{name}.service")
    command = ["systemd-run", "--quiet", "--collect", f"--unit={unit.name}", "--property=KillMode=mixed"]
    command += ["--property=TimeoutStopSec=2"]
    command += [f"--uid={user}", "--property=AmbientCapabilities=CAP_NET_BIND_SERVICE"] if user else []
    command += [f"--setenv={key}={value}" for key, value in (env or {}).items()]
    unit.stop()
    node.run(["systemctl", "reset-failed", unit.name], check=False)
    node.run([*command, "--", *argv])
    if port:
        wait_for_port(node, port, unit)
    return unit


def start_program(node: Node, name: str, program: str, *arguments: str, port: int = 0) -> Unit:
    """Start a program of inside/, with the scheduler's libraries where the node has them."""
    env = {"PYTHONPATH": f"{stock.PYTHONPATH_ON_NODE}:{stock.SCHEDULER_ON_NODE}/site"}
    return start_unit(
        node, name, ["python3", "-m", f"tests.node.inside.{program}", *arguments], env=env, port=port
    )


def wait_for_port(node: Node, port: int, unit: Unit, deadline_s: float = 30) -> None:
    """Wait until something listens on the node's TCP port.

    Raises NodeError, with the unit's journal, otherwise.
    """

    def listens() -> bool:
        if node.run(["ss", "-Hltn", "sport", "=", f":{port}"]).stdout.strip():
            return True
        if not unit.is_active():
            raise NodeError(f"{unit.name} is not running: {node.journal(unit.name)[-3000:]}")
        return False

    node.wait_until(listens, deadline_s, f"{unit.name} listens on port {port}")


# Certificates


def make_ca(node: Node, name: str = "ca") -> str:
    """Make a certificate authority on the node; returns the path of its certificate (PEM)."""
    base = f"{PKI}/{name}"
    node.run(
        f"mkdir -p {PKI} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 "
        f"-subj '/CN=test {name}' -keyout {base}.key -out {base}.crt -addext "
        f"basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>&1"
    )
    return f"{base}.crt"


def make_certificate(node: Node, ca: str, host: str) -> tuple[str, str]:
    """A certificate for a name and 127.0.0.1, signed by `ca`: its path and its key's."""
    base = f"{PKI}/{host}"
    key = ca.removesuffix(".crt") + ".key"
    node.run(
        f"openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={host} -keyout {base}.key "
        f"-out {base}.csr 2>&1 && openssl x509 -req -in {base}.csr -CA {ca} -CAkey {key} -days 30 -out "
        f"{base}.crt -extfile <(printf 'subjectAltName=DNS:{host},IP:127.0.0.1') 2>&1 && chmod a+r {base}.key"
    )
    return f"{base}.crt", f"{base}.key"


def trust(node: Node, ca: str) -> None:
    """Put a CA into the node's system store."""
    node.run(["cp", ca, "/usr/local/share/ca-certificates/"])
    node.run(["update-ca-certificates", "--fresh"])


# Registry


@dataclass
class Registry:
    """Debian's docker-registry. All registries of a node share one storage: push once, pull from each."""

    unit: Unit
    host: str
    """As in an image's name: 127.0.0.1:5000, registry.test:5443."""
    tls: bool = False
    ca: str | None = None
    user: str | None = None
    password: str = ""

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def requests(self) -> list[dict[str, Any]]:
        """What it answered, oldest first: method, uri, status, bytes (of the body)."""
        lines = self.unit.node.journal(self.unit.name, output="cat").splitlines()
        names = {"method": "request.method", "uri": "request.uri"}
        names |= {"status": "response.status", "bytes": "response.written"}
        entries = (json.loads(line) for line in lines if line.startswith("{"))
        return [
            {ours: entry[f"http.{theirs}"] for ours, theirs in names.items()}
            for entry in entries
            if "http.response.status" in entry
        ]

    def blob_bytes(self) -> int:
        """Bytes of blobs sent since it was started, to whomever."""
        return sum(
            entry["bytes"]
            for entry in self.requests()
            if entry["method"] == "GET" and "/blobs/" in entry["uri"]
        )


def start_registry(node: Node, *, port: int = 5000, anywhere: bool = False) -> Registry:
    """http on 127.0.0.1; `anywhere`: on the node's other addresses too."""
    return run_registry(node, f"registry-{port}", port, {"addr": f":{port}"} if anywhere else {})


def start_tls_registry(
    node: Node, *, port: int = 5443, trusted: bool = False, ca: str | None = None, name: str = REGISTRY_NAME
) -> Registry:
    """https as `name`, with a private CA; `trusted` puts the CA into the system store before it is used."""
    ca = ca or make_ca(node)
    certificate, key = make_certificate(node, ca, name)
    if trusted:
        trust(node, ca)
    name_host(node, name)
    registry = run_registry(node, f"registry-{port}", port, {"tls": {"certificate": certificate, "key": key}})
    registry.host, registry.tls, registry.ca = f"{name}:{port}", True, ca
    return registry


def name_host(node: Node, name: str, address: str = "127.0.0.1") -> None:
    """Have the node find a name at an address."""
    node.run(f"grep -q ' {name}$' /etc/hosts || echo '{address} {name}' >>/etc/hosts")


def start_auth_registry(node: Node, *, port: int = 5001, password: str = PASSWORD) -> Registry:
    """http with basic authentication (USER and the password)."""
    _write_accounts(node, {USER: password})
    registry = run_registry(
        node, f"registry-{port}", port, {}, {"htpasswd": {"realm": "test", "path": HTPASSWD}}
    )
    registry.user, registry.password = USER, password
    return registry


def accept(registry: Registry, accounts: Mapping[str, str]) -> None:
    """These users with their passwords and no others, from the next request on: a registry with basic
    authentication looks at the file's time with each.
    """
    _write_accounts(registry.unit.node, accounts)


def _write_accounts(node: Node, accounts: Mapping[str, str]) -> None:
    # bcrypt by libxcrypt, at the lowest cost: the registry checks it with every request.
    script = "while (<STDIN>) { chomp; print crypt($_, q($2b$04$Tn0dsPbPR3lLcXzW0CVfEu)), qq(\\n) }"
    hashed = node.run(["perl", "-e", script], input="\n".join(accounts.values())).stdout.split()
    lines = (f"{user}:{one}\n" for user, one in zip(accounts, hashed, strict=True))
    node.write(HTPASSWD, "".join(lines))


def run_registry(
    node: Node, name: str, port: int, http: dict[str, Any], auth: dict[str, Any] | None = None
) -> Registry:
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": "/var/lib/docker-registry"}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", **http},
    }
    if auth is not None:
        config["auth"] = auth
    path = f"/etc/test-registry/{name}.yml"
    node.write(path, json.dumps(config))  # JSON is YAML
    unit = start_unit(node, name, ["docker-registry", "serve", path], user="docker-registry", port=port)
    return Registry(unit, f"127.0.0.1:{port}")


# Mirror and fault front


@dataclass
class Faulty:
    """A part that takes faults: see inside/faults.py for what each kind does."""

    unit: Unit
    control: str
    log_path: str

    def log(self) -> list[dict[str, Any]]:
        """One entry a request: at, url, bytes, method, status, via (task, forward, tunnel), range, fault."""
        return [json.loads(line) for line in self.unit.node.inside(self.log_path).read_text().splitlines()]

    def fault(self, kind: str = "none", **settings: Any) -> None:
        """Set the fault, at once; `fault()` ends it. Settings: status, share, rate, match, times,
        each, error_type."""
        self._ask({"fault": {"kind": kind, **settings}})

    def ping(self, answer: str) -> None:
        """What /healthy answers: ok, 503, hang, refuse (the connection is reset), odd (see inside/odd.py; the
        metrics' page is odd too then). For the stand-in only.
        """
        self._ask({"ping": answer})

    def stats(self) -> dict[str, int]:
        """Counts since the start: requests, bytes, blob_requests, blob_bytes (bodies sent), open (connections
        now), hits (requests that a fault was put on), odd (odd answers).
        """
        return dict(self._ask({"stats": True})["stats"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        # From here and not by a program on the node: what is timed must be in force within a millisecond.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(10)
            asked.connect(str(self.unit.node.inside(self.control)))
            asked.sendall(json.dumps(question).encode() + b"\n")
            answer: dict[str, Any] = json.loads(asked.makefile().readline())
        if "error" in answer:
            raise NodeError(f"{self.unit.name}: {answer['error']}")
        return answer


@dataclass
class Mirror(Faulty):
    """The stand-in for dfdaemon (inside/mirror.py)."""

    rules: list[dict[str, Any]] = field(default_factory=list)
    peers: str = ""

    def start_again(self) -> None:
        """After a kill: the same unit, the same ports, an empty log."""
        self.unit.stop()
        _start_mirror(self)


def start_mirror(node: Node, *, rules: list[dict[str, Any]] | None = None, peers: str = "") -> Mirror:
    """The stand-in on dfdaemon's ports: 4001 proxy, 4002 metrics, 4003 health. Rules as in dfdaemon.yaml;
    `peers` "HOST:PORT=HOST:PORT": what is asked of the first registry is fetched from the second.
    """
    unit, place = Unit(node, "test-mirror.service"), "/run/test-mirror"
    mirror = Mirror(unit, f"{place}/control", f"{place}/log.jsonl", rules or [BLOB_RULE], peers)
    _start_mirror(mirror)
    return mirror


def _start_mirror(mirror: Mirror) -> None:
    node = mirror.unit.node
    node.run(["rm", "-rf", "/run/test-mirror"])
    node.run(["mkdir", "-p", "/run/test-mirror"])
    arguments = ["--log", mirror.log_path, "--control", mirror.control, "--rules", json.dumps(mirror.rules)]
    arguments += ["--peers", mirror.peers] if mirror.peers else []
    start_program(node, "mirror", "mirror", *arguments, port=4001)


def start_front(node: Node, listen: int, target: int, *, raw: bool = False) -> Faulty:
    """A fault front on the node's port `listen` before the server on `target`; `raw` for TLS."""
    directory = f"/run/test-front-{listen}"
    control, log = f"{directory}/control", f"{directory}/log.jsonl"
    node.run(["mkdir", "-p", directory])
    arguments = ["--listen", f"127.0.0.1:{listen}", "--target", f"127.0.0.1:{target}", "--control", control]
    arguments += ["--log", log, *(["--raw"] if raw else [])]
    return Faulty(start_program(node, f"front-{listen}", "front", *arguments, port=listen), control, log)


# Dragonfly

NO_RATE_LIMIT = dfdaemon.NO_RATE_LIMIT
DFDAEMON_ON_NODE = dfdaemon.ON_NODE
DFDAEMON_STORAGE = dfdaemon.Host().storage


@dataclass
class Dfdaemon:
    """A real dfdaemon and the scheduler that it needs."""

    unit: Unit
    scheduler: Unit
    host: dfdaemon.Host = field(default_factory=dfdaemon.Host)

    def metrics(self) -> dict[str, float]:
        """Its counters by series, as on port 4002."""
        return scrape(self.unit.node)

    def start_again(self, *, request_rate_limit: int = NO_RATE_LIMIT) -> None:
        """After a kill, or with another limit of requests a second: the same ports and rule, beside its
        scheduler.
        """
        self.unit.stop()
        settings = dfdaemon.Settings((BLOB_RULE,), request_rate_limit=request_rate_limit)
        self.unit = _run_dfdaemon(self.unit.node, self.host, settings)


def start_scheduler(node: Node) -> Unit:
    """The small one, which knows no peers: all that a dfdaemon needs to start."""
    return start_program(node, "scheduler", "scheduler", "--listen", "127.0.0.1:8002", port=8002)


def start_dfdaemon(node: Node, *, rules: list[dict[str, Any]] | None = None, port: int = 4001) -> Dfdaemon:
    """dfdaemon on 4001 (or `port`, for a front before it), 4002, 4003.

    The node needs `shares=dragonfly_shares()`.
    """
    settings = dfdaemon.Settings(tuple(rules or [BLOB_RULE]), port)
    return run_dfdaemon(node, start_scheduler(node), dfdaemon.Host(), settings)


def run_dfdaemon(node: Node, scheduler: Unit, host: dfdaemon.Host, settings: dfdaemon.Settings) -> Dfdaemon:
    """dfdaemon beside a scheduler that runs, as `host` of that."""
    return Dfdaemon(_run_dfdaemon(node, host, settings), scheduler, host)


def _run_dfdaemon(node: Node, host: dfdaemon.Host, settings: dfdaemon.Settings) -> Unit:
    return start_unit(node, "dfdaemon", dfdaemon.written(node, host, settings), port=settings.port)


def dragonfly_shares() -> dict[str, Path]:
    """What a node must see of the machine for `start_dfdaemon`; makes it when it is not in the cache (25
    minutes).
    """
    return {DFDAEMON_ON_NODE: cache.make("dfdaemon"), stock.SCHEDULER_ON_NODE: cache.make("scheduler")}


def scrape(node: Node, port: int = 4002, *, enter: Sequence[str] = ()) -> dict[str, float]:
    """Prometheus series of a metrics port on the node (or where `enter` leads), by their full text."""
    command = [*enter, "curl", "--silent", "--fail", "--max-time", "5", f"http://127.0.0.1:{port}/metrics"]
    text = node.run(command).stdout
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
