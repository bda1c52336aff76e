"""The stage that the demo and the node tests share: a node with registry, mirror and images, our package
installed by apt with on_install set, and containers on it that are timed or read all the time.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.node import compiled, images, parts
from tests.node.boot import Node, NodeError

HTTP_SITE = """\
[apply]
on_install = true
[fleet]
return_window_s = 0
[[registries.hosts]]
host = "127.0.0.1:5000"
scheme = "http"
"""
"""What a small fleet writes into conf.d for a registry that speaks plain http."""

APPLY_UNIT = "nydus-agent-apply.service"
REPOSITORY = Path(__file__).parents[2]


def deb() -> Path:
    """The package under test: $NYDUS_AGENT_DEB, or the one that `make deb` built.

    Raises FileNotFoundError, with the command, where there is none.
    """
    named = os.environ.get("NYDUS_AGENT_DEB")
    if named:
        return Path(named).resolve(strict=True)
    found = sorted((REPOSITORY / "build" / "deb").glob("nydus-node-agent_*_all.deb"))
    if not found:
        raise FileNotFoundError("build/deb/nydus-node-agent_*_all.deb: run `make deb`")
    return found[-1]


def install(node: Node, site: str = HTTP_SITE, *, deadline_s: float = 90) -> float:
    """Install by apt as a fleet would, and wait for the change that the installation ordered.

    Returns the seconds from apt's start to the end of the change. Raises NodeError, with the unit's journal,
    when the change fails.
    """
    started = time.monotonic()
    install_only(node, site)
    await_change(node, deadline_s)
    return time.monotonic() - started


def await_change(node: Node, deadline_s: float = 90) -> None:
    """Wait for the change that an installation ordered.

    Raises NodeError, with the unit's journal, when it fails.
    """
    result = node.wait_until(lambda: _start_result(node, APPLY_UNIT), deadline_s, f"{APPLY_UNIT} has ended")
    if result != "done":
        raise NodeError(f"{APPLY_UNIT}: {result}\n{node.journal(APPLY_UNIT)[-6000:]}")


def install_only(node: Node, site: str) -> None:
    """Install by apt with the site's configuration; a change that it orders is not waited for."""
    package = deb()
    compiled.lay(node, package, compiled.KEPT)
    node.install_deb(package, {"50-site.toml": site})
    compiled.keep(node, package, compiled.KEPT)


def docker_login(node: Node, registry: parts.Registry) -> None:
    """Root's docker configuration with the registry's credentials, where the snapshotter looks for them."""
    token = base64.b64encode(f"{registry.user}:{registry.password}".encode()).decode()
    node.write(
        "/root/.docker/config.json", json.dumps({"auths": {registry.host: {"auth": token}}}), mode=0o600
    )


def _start_result(node: Node, unit: str) -> str:
    # The result of the unit's last start job, or "": by the journal, because systemd forgets a oneshot that
    # has ended.
    if node.processes(unit):  # it is under way: nothing is asked that takes time from it
        return ""
    entries = (json.loads(line) for line in node.journal(unit, output="json").splitlines())
    results = [
        entry["JOB_RESULT"] for entry in entries if entry.get("JOB_TYPE") == "start" and "JOB_RESULT" in entry
    ]
    return str(results[-1]) if results else ""


def agent(
    node: Node, *arguments: str, check: bool = True, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `nydus-agent` on the node as root."""
    return node.run(["nydus-agent", *arguments], check=check, timeout=timeout)


def agent_json(node: Node, *arguments: str, timeout: float = 120) -> dict[str, Any]:
    """What `nydus-agent … --format json` printed, whatever its exit code."""
    done = agent(node, *arguments, "--format", "json", check=False, timeout=timeout)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise NodeError(f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}") from None
    return answer


def daemon_status(node: Node) -> dict[str, Any]:
    """What the daemon published last."""
    status: dict[str, Any] = json.loads(node.read("/run/nydus-agent/status.json"))
    return status


def route(node: Node) -> str:
    """Where reads go now."""
    return str(daemon_status(node)["route"])


def wait_for_route(node: Node, wanted: str, deadline_s: float = 30) -> float:
    """Seconds until the daemon's route is `wanted`. Raises NodeError with the last status otherwise."""
    started = time.monotonic()
    try:
        node.wait_until(lambda: route(node) == wanted, deadline_s, f"route {wanted}")
    except NodeError as error:
        raise NodeError(f"{error}\n{json.dumps(daemon_status(node), indent=1)}") from None
    return time.monotonic() - started


def fresh_agent(node: Node, deadline_s: float = 30) -> None:
    """A stop lifts the fence; the next start knows nothing of what was, and so returns without a dwell."""
    for verb in ("stop", "reset-failed", "start"):
        node.run(["systemctl", verb, "nydus-agent.service"])
    wait_for_route(node, "mirror", deadline_s)


def pull(node: Node, ref: str, *, credentials: str = "", timeout: float = 120) -> float:
    """Pull through CRI, as the kubelet does; returns seconds."""
    started = time.monotonic()
    node.run(["crictl", "pull", *(["--creds", credentials] if credentials else []), ref], timeout=timeout)
    return time.monotonic() - started


def drop_caches() -> None:
    """Forget the page cache, so that what follows is cold."""
    subprocess.run(["sync"], check=True, timeout=60)
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


@dataclass(frozen=True)
class Start:
    """One cold start: pull, then run until the container's first line of output."""

    pull_s: float
    first_output_s: float
    """From the start of the pull."""
    output: str


def start_plain(node: Node, ref: str) -> Start:
    """A plain OCI image on overlayfs by `ctr`, cold, its first output timed; container and image are
    removed.
    """
    drop_caches()
    began = time.monotonic()
    node.run(["ctr", "images", "pull", "--plain-http", "--snapshotter", "overlayfs", ref], timeout=300)
    pulled = time.monotonic()
    output = run(node, "default", "overlayfs", ref)
    ended = time.monotonic()
    node.run(["ctr", "images", "rm", "--sync", ref])
    return Start(pulled - began, ended - began, output)


def start_nydus(node: Node, ref: str) -> Start:
    """The same of a nydus image, pulled through CRI, on the nydus snapshotter; it stays."""
    drop_caches()
    began = time.monotonic()
    pull(node, ref)
    pulled = time.monotonic()
    output = run(node, "k8s.io", "nydus", ref)
    return Start(pulled - began, time.monotonic() - began, output)


def run(node: Node, namespace: str, snapshotter: str, ref: str, *command: str, name: str = "start") -> str:
    return node.run([*ctr_run(namespace, snapshotter, ref, name), *command], timeout=120).stdout


def ctr_run(namespace: str, snapshotter: str, ref: str, name: str) -> list[str]:
    """The command that runs a container of an image in the foreground."""
    options = ["--rm", "--cpu-shares", "0", "--snapshotter", snapshotter]
    return ["ctr", "--namespace", namespace, "run", *options, ref, name]


def nydusd_bytes(node: Node, root: str = "/var/lib/containerd-nydus") -> int:
    """Bytes that all running nydusd asked their backends for (their own metrics)."""
    total = 0
    for socket in node.run(f"ls {root}/socket/*/api*.sock 2>/dev/null || true").stdout.split():
        curl = ["curl", "--silent", "--max-time", "5", "--unix-socket", socket]
        answer = node.run([*curl, "http://localhost/api/v1/metrics/backend"]).stdout
        total += int(json.loads(answer)["read_amount_total"])
    return total


@dataclass(frozen=True)
class Read:
    """One file that the reader read: when it began (epoch seconds), how long it took."""

    at: float
    ms: float
    error: str | None

    @property
    def end(self) -> float:
        """When it was done."""
        return self.at + self.ms / 1000


def read_of(line: str) -> Read:
    """What a line of the reader says. Raises NodeError for any other (it could not start)."""
    try:
        entry = json.loads(line)
    except ValueError:
        raise NodeError(f"reader: {line}") from None
    return Read(entry["at"], entry["ms"], entry["error"])


class Reader:
    """A container that reads all the time; each read is checked and timed in the container itself."""

    def __init__(
        self, node: Node, ref: str, *, pause_ms: int = 50, rounds: int = 0, files: int = images.READER_FILES,
        name: str = "reader",
    ) -> None:  # fmt: skip
        self._node, self._name = node, name
        self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed by __exit__
        # With an offset of its own.
        self._copy = open(f"/proc/self/fd/{self._file.fileno()}", "rb")  # noqa: SIM115
        self._rest = b""
        self._seen: list[Read] = []
        argv = [*ctr_run("k8s.io", "nydus", ref, name), "/reader", "read", "/data"]
        argv += [str(files), str(pause_ms), str(rounds)]
        self._process = node.popen(
            argv, stdout=self._file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._copy.close()
        self._file.close()

    def reads(self) -> list[Read]:
        """All reads so far.

        Raises NodeError where the container wrote something else (it could not start).
        """
        *lines, self._rest = (self._rest + self._copy.read()).split(b"\n")
        for line in lines:
            self._seen.append(read_of(line.decode(errors="replace")))
        return list(self._seen)

    def wait_for(self, count: int, deadline_s: float = 30) -> None:
        """Wait until `count` more reads are done."""
        wanted = len(self.reads()) + count
        self._node.wait_until(
            lambda: len(self.reads()) >= wanted, deadline_s, f"the reader has done {count} more reads"
        )

    def errors(self) -> list[str]:
        """Errors of all reads so far."""
        return [read.error for read in self.reads() if read.error]

    def slowest_ms(self, since: float = 0.0) -> float:
        """The slowest read that ended after `since` (epoch seconds)."""
        return max((read.ms for read in self.reads() if read.end >= since), default=0.0)

    def kill(self) -> None:
        kill = ["ctr", "--namespace", "k8s.io", "task", "kill", "--signal", "SIGKILL", self._name]
        self._node.run(kill, check=False)

    def stop(self) -> None:
        """End the container."""
        if self._process.poll() is None:
            self.kill()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)


@contextmanager
def cold_reader(node: Node, ref: str, *, reads: int = 15) -> Iterator[Reader]:
    """A reader on a cold image, after some reads: snapshot, nydusd and cache are made anew."""
    forget(node, ref)
    pull(node, ref)
    with Reader(node, ref, pause_ms=60) as made:
        made.wait_for(reads)
        yield made


def pod(
    node: Node, ref: str, command: Sequence[str], *, name: str = "demo", handler: str = "",
    timeout: float = 60,
) -> str:  # fmt: skip
    """Run a container in a CRI pod (of a runtime class, with `handler`) to its end; returns its log."""
    base = f"/var/tmp/pod-{name}"
    host = {"linux": {"security_context": {"namespace_options": {"network": 2}}}}
    identity = {"name": name, "namespace": "default", "uid": name, "attempt": 1}
    sandbox = {"metadata": identity, "log_directory": f"{base}/logs", **host}
    image = {"image": {"image": ref}, "command": list(command), "log_path": "out.log"}
    node.run(f"rm -rf {base} && mkdir -p {base}/logs")
    node.write(f"{base}/pod.json", json.dumps(sandbox))
    node.write(f"{base}/container.json", json.dumps({"metadata": {"name": name}, **image, **host}))
    runtime = ["--runtime", handler] if handler else []
    pod_id = node.run(["crictl", "runp", *runtime, f"{base}/pod.json"], timeout=timeout).stdout.strip()
    try:
        create = ["crictl", "create", pod_id, f"{base}/container.json", f"{base}/pod.json"]
        made = node.run(create, timeout=timeout).stdout.strip()
        node.run(["crictl", "start", made], timeout=timeout)

        def exited() -> bool:
            state = json.loads(node.run(["crictl", "inspect", made]).stdout)["status"]["state"]
            return bool(state == "CONTAINER_EXITED")

        node.wait_until(exited, timeout, "the pod's container has ended")
        return node.run(["crictl", "logs", made]).stdout
    finally:
        node.run(["crictl", "rmp", "-f", pod_id], check=False, timeout=timeout)


def bootstrap_size(name: str) -> int:
    """Bytes of a nydus image's last layer, its bootstrap: containerd pulls it, through the mirror too."""
    return images.image(name).layers[-1][1]


def mirror_bytes(mirror: parts.Mirror | parts.Dfdaemon) -> int:
    """Blob bytes that came through the mirror, by its own account."""
    if isinstance(mirror, parts.Mirror):
        return mirror.stats()["blob_bytes"]
    traffic = "dragonfly_client_download_traffic"
    return int(sum(value for name, value in mirror.metrics().items() if name.startswith(traffic)))


@dataclass
class Stage:
    """A node that is set up: what `staged` made."""

    node: Node
    registry: parts.Registry
    mirror: parts.Mirror
    install_s: float

    def ref(self, name: str) -> str:
        """The reference of an image of `images` in the stage's registry."""
        return f"{self.registry.host}/{name}:1"


@contextmanager
def staged(
    *names: str, snapshotter: str = "0.16.1", site: str = HTTP_SITE, installed: bool = True
) -> Iterator[Stage]:
    """A node with an http registry of the named images, the stand-in as mirror, and our package applied."""
    with Node(snapshotter=snapshotter) as node:
        stage = dressed(node, *names)
        if installed:
            stage.install_s = install(node, site)
        yield stage


def dressed(node: Node, *names: str) -> Stage:
    """A booted node with the registry, the images and the mirror; our package is not on it."""
    stage = Stage(node, parts.start_registry(node), parts.start_mirror(node), 0.0)
    for name in names:
        images.push(node, name, stage.ref(name))
    images.load_pause(node)
    return stage


def forget(node: Node, *refs: str) -> None:
    """Remove all nydus images of the node with their snapshots, nydusd and cache, so that the next start is
    cold.
    """
    node.run(["crictl", "rmi", *refs])
    gone = "! ls /var/lib/containerd-nydus/socket/*/api*.sock >/dev/null 2>&1"
    node.wait_until(lambda: node.run(gone, check=False).returncode == 0, 30, "the images' nydusd have ended")
    node.run("rm -rf /var/lib/containerd-nydus/cache/*")
