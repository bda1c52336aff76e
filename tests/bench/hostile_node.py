"""`make bench-hostile-node`: what a user without rights, a container on the host's network, a registry, a
mirror and an image can do to a node that the agent guards, each with a program that tries what it can.

Method: a booted node with a registry, a second one, and the stand-in as mirror; the package is applied. A
container reads cold files of a nydus image through the mirror all the time. Each attack goes on for a minute
(quick form: four seconds), then several together. Meanwhile `status`, `plan`, `apply` and an inspection run
in turn; four times a second the daemon's processes and their memory are looked at.

A move is an entry of the daemon's history: a change of health state or route. None of the attacks takes
anything from the mirror's data path, so none has a cause. A verb must end with the exit code that it had
before the attacks, within its deadline; `status` may tell of what is odd or lacks (exit code 3). The memory
is the PSS of the daemon; that of its journalctl stands beside it.
Exit status 1 when a bound is missed. About 14 minutes; `--quick` two.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import Exit
from tests.bench import hostile_images
from tests.bench.footprint import sizes_mib
from tests.bench.report import Goal, Row, publish, quick, row
from tests.node import images, parts, scene, stock
from tests.node.boot import Node

METHOD = (
    "a container reads cold files through the mirror; ms of its reads during each attack (see "
    "tests/bench/hostile_node.py)"
)
SECONDS, QUICK_SECONDS = 60.0, 4.0
VICTIM = "cold-a-nydus"
OTHER_PORT = 5002
SITE = f'{scene.HTTP_SITE}[[registries.hosts]]\nhost = "127.0.0.1:{OTHER_PORT}"\nscheme = "http"\n'
AGENT, INSPECT = "nydus-agent.service", "nydus-agent-inspect.service"
VERBS = {"status": 10.0, "plan": 30.0, "apply": 90.0, "inspect": 90.0}
"""Each with its deadline in seconds, on a node whose cores the attack takes."""
MOST_PSS_MIB = 34.0
"""Of the daemon: 30 as in a quiet minute, and 64 connections to its endpoint, each with a piece of 64 KiB.
Its journalctl maps the more of the journal the longer that is: pages of files, which the kernel takes back.
"""
WANT = "AgentInWant: "
_TRUE = (
    WANT, "the agent does not serve the canary", f"the origin does not answer: 127.0.0.1:{OTHER_PORT}",
    f"not accelerated  127.0.0.1:{OTHER_PORT}", "http://127.0.0.1:4003/healthy",
    "the mirror's own counter does not know", "the mirror's own byte counter could not be read",
)  # fmt: skip
"""What `status` may say: what an attack takes from the agent, or how odd a registry or a page is."""
_LOOK_EVERY_S = 0.25
_AFTER_S = 2.0
"""What an attack has set off is told by then."""
_LONGEST_S = 300
_READ_MS = 40.0


@dataclass(frozen=True)
class Verb:
    """One run of a verb."""

    name: str
    code: int
    seconds: float
    true: bool
    """`status` says what is true, see _TRUE."""


@dataclass
class Seen:
    """What happened during one attack."""

    attack: str
    reads: list[scene.Read] = field(default_factory=list)
    through: int = 0
    """Requests for blobs that came to the mirror."""
    moves: list[dict[str, Any]] = field(default_factory=list)
    restarts: int = 0
    pss_mib: list[tuple[float, float]] = field(default_factory=list)
    """Of the daemon, and of its journalctl."""
    verbs: list[Verb] = field(default_factory=list)
    tried: dict[str, int] = field(default_factory=dict)
    may_not: list[str] = field(default_factory=list)
    """What an attack has done that it must not be able to."""
    told: list[str] = field(default_factory=list)
    """What the agent's units said with priority warning or worse."""

    @property
    def errors(self) -> list[str]:
        """Of reads."""
        return [read.error for read in self.reads if read.error]

    @property
    def warned(self) -> list[str]:
        """Warnings but for that the agent lacks what an attack has taken: that is true."""
        return [line for line in self.told if not line.startswith(WANT)]

    def unusual(self, usual: dict[str, int]) -> list[Verb]:
        """Verbs that ended otherwise than before the attacks, or too late."""
        return [
            verb for verb in self.verbs
            if not (verb.true or verb.code == usual[verb.name]) or verb.seconds > VERBS[verb.name]
        ]  # fmt: skip


@dataclass
class Rig:
    """The node, and what was usual on it before anybody attacked."""

    stage: scene.Stage
    reader: scene.Reader
    usual: dict[str, int] = field(default_factory=dict)
    turns: Iterator[str] = field(default_factory=lambda: itertools.cycle(VERBS))

    @property
    def node(self) -> Node:
        return self.stage.node

    # Attacks: each is under way within its block, and tells at the end what it tried.

    @contextmanager
    def programs(self, seen: Seen, *whats: str, contained: bool = False) -> Iterator[None]:
        """Programs of inside/hostile.py as a user without rights, or as a container's root."""
        started = [self._program(what, contained=contained) for what in whats]
        try:
            yield
        finally:
            for unit, out in started:
                unit.stop()
                told = json.loads(self.node.read(out))
                seen.tried |= told["tried"]
                seen.may_not += told["may_not"]

    def _program(self, what: str, *, contained: bool) -> tuple[parts.Unit, str]:
        out = f"/run/test-hostile-{what}.json"
        unit = parts.Unit(self.node, f"test-hostile-{what}.service")
        command = ["systemd-run", "--quiet", "--collect", f"--unit={unit.name}", "--property=KillMode=mixed"]
        command += [f"--property=StandardOutput=truncate:{out}", "--property=NoNewPrivileges=yes"]
        command += ["--property=CapabilityBoundingSet=", "--property=LimitNOFILE=524288"]
        command += [f"--setenv=PYTHONPATH={stock.PYTHONPATH_ON_NODE}"]
        command += _CONTAINED if contained else ["--uid=nobody"]
        argv = ["python3", "-m", "tests.node.inside.hostile", what, "--seconds", str(_LONGEST_S)]
        self.node.run([*command, "--", *argv])
        return unit, out

    @contextmanager
    def hostile_registry(self, seen: Seen) -> Iterator[None]:
        """A registry in use gives odd answers only, and somebody pulls from it all the time."""
        parts.Unit(self.node, f"test-registry-{OTHER_PORT}.service").stop()
        server = parts.start_program(self.node, "odd", "odd", "--port", str(OTHER_PORT), port=OTHER_PORT)
        ref = f"127.0.0.1:{OTHER_PORT}/evil:1"
        pulls = f"while :; do timeout 3 crictl pull {ref} || :; echo pull; done"
        puller = parts.start_unit(self.node, "puller", ["sh", "-c", pulls])
        try:
            yield
        finally:
            said = self.node.journal(puller.name, output="cat").splitlines()
            seen.tried = {"pulls": said.count("pull")}
            puller.stop()
            server.stop()
            start_other_registry(self.node)

    @contextmanager
    def odd_mirror(self, seen: Seen) -> Iterator[None]:
        """The mirror's pages of health and metrics are odd; its data path works."""
        before = self.stage.mirror.stats()["odd"]
        self.stage.mirror.ping("odd")
        try:
            yield
        finally:
            self.stage.mirror.ping("ok")
            seen.tried = {"odd answers": self.stage.mirror.stats()["odd"] - before}

    @contextmanager
    def hostile_images(self, seen: Seen) -> Iterator[None]:
        """Images whose files and documents have odd names and forms are pulled and read."""
        refs, done = hostile_images.push(self.stage), threading.Event()
        reads = threading.Thread(target=self._use, args=(refs, done, seen))
        reads.start()
        try:
            yield
        finally:
            done.set()
            reads.join()

    def _use(self, refs: list[str], done: threading.Event, seen: Seen) -> None:
        read = "find /proc/$1/root/names -type f -exec cat {} + >/dev/null; ls -R /proc/$1/root/names"
        while not done.is_set():
            for ref in refs:
                scene.pull(self.node, ref)
            with scene.Reader(self.node, refs[0], files=hostile_images.FILES, name="evil") as evil:
                evil.wait_for(2 * hostile_images.FILES)
                tasks = self.node.run(["ctr", "--namespace=k8s.io", "tasks", "ls"]).stdout.splitlines()
                pid = next(line.split()[1] for line in tasks if line.startswith("evil "))
                self.node.run(["bash", "-euc", read, "read", pid])
            self.node.run(["crictl", "rmi", *refs])
            seen.tried = {"images used": seen.tried.get("images used", 0) + len(refs)}

    # What is watched

    def attacked(
        self, name: str, begin: Callable[[Seen], AbstractContextManager[object]], seconds: float
    ) -> Seen:
        """Let one attack go on for `seconds`, and longer while a verb still runs."""
        seen, at = Seen(name), time.time()
        since = scene.daemon_status(self.node)["history"][-1]["at"]
        pid, restarts = self._life()
        served = self.stage.mirror.stats()["blob_requests"]
        cursor = self._cursor()
        with begin(seen), self._watched(seen):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                seen.verbs.append(self.run_verb(next(self.turns)))
        time.sleep(_AFTER_S)
        seen.reads = [read for read in self.reader.reads() if read.end >= at]
        seen.through = self.stage.mirror.stats()["blob_requests"] - served
        history = scene.daemon_status(self.node)["history"]
        seen.moves = [entry for entry in history if entry["at"] > since]
        now_pid, now_restarts = self._life()
        seen.restarts = now_restarts - restarts + (now_pid != pid)
        seen.told = self._warnings(cursor)
        return seen

    def run_verb(self, name: str) -> Verb:
        """Run it to its end, whatever its exit code."""
        command = ["systemctl", "start", INSPECT] if name == "inspect" else ["nydus-agent", name]
        began = time.monotonic()
        done = self.node.run(command, check=False, timeout=2 * VERBS[name])
        took = time.monotonic() - began
        odd = name == "status" and done.returncode == Exit.NOT_AS_WANTED
        true = odd and any(words in done.stdout for words in _TRUE)
        if self.usual and not true and (done.returncode != self.usual[name] or took > VERBS[name]):
            said = self.node.journal(INSPECT, f"-{took + 1:.0f}s") if name == "inspect" else done.stdout
            print(f"{name}: exit code {done.returncode} after {took:.1f} s\n{said}{done.stderr}")
        return Verb(name, done.returncode, took, true)

    @contextmanager
    def _watched(self, seen: Seen) -> Iterator[None]:
        done = threading.Event()

        def look() -> None:
            while not done.wait(_LOOK_EVERY_S):
                with suppress(OSError):  # one of its programs has just ended
                    seen.pss_mib.append(pss_mib(self.node))

        watch = threading.Thread(target=look)
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()

    def _life(self) -> tuple[int, int]:
        return self.node.main_pid(AGENT), int(self.node.show(AGENT, "NRestarts"))

    def _cursor(self) -> str:
        tail = self.node.run(["journalctl", "--quiet", "--lines=0", "--show-cursor"]).stdout
        return tail.partition("-- cursor: ")[2].strip()

    def _warnings(self, cursor: str) -> list[str]:
        command = ["journalctl", "--quiet", "--output=cat", "--priority=warning", f"--after-cursor={cursor}"]
        return self.node.run([*command, "--unit=nydus-agent*"]).stdout.splitlines()


def pss_mib(node: Node) -> tuple[float, float]:
    """MiB of the daemon and of its journalctl, as the kernel shares pages out. Raises OSError."""
    found = [0.0, 0.0]
    for pid in node.processes(AGENT):
        theirs = Path(f"/proc/{pid}/comm").read_text().strip() == "journalctl"
        found[theirs] += sizes_mib(pid)["Pss:"]
    return found[0], found[1]


_CONTAINED = [
    "--property=TemporaryFileSystem=/", f"--property=BindReadOnlyPaths={stock.PYTHONPATH_ON_NODE}",
    "--property=BindReadOnlyPaths=/usr /etc/ld.so.cache", "--property=MountAPIVFS=yes",
    "--property=BindReadOnlyPaths=-/bin -/lib -/lib64", "--property=PrivateDevices=yes",
    "--property=PrivateIPC=yes",
]  # fmt: skip
"""uid 0 as in most containers, with a root of its own and the host's network."""


def start_other_registry(node: Node) -> None:
    """A well registry where the hostile one will be; nothing is asked of it but whether it is there."""
    parts.run_registry(node, f"registry-{OTHER_PORT}", OTHER_PORT, {"addr": f"127.0.0.1:{OTHER_PORT}"})


@contextmanager
def rigged(seconds: float) -> Iterator[Rig]:
    """The node with its reading container, all well."""
    with scene.staged(VICTIM, installed=False) as stage:
        start_other_registry(stage.node)
        stage.install_s = scene.install(stage.node, SITE)
        scene.wait_for_route(stage.node, "mirror", 60)
        ref = stage.ref(VICTIM)
        scene.pull(stage.node, ref)
        pause_ms = max(_READ_MS, 12 * seconds * 1000 / images.COLD_FILES)
        with scene.Reader(stage.node, ref, pause_ms=round(pause_ms), files=images.COLD_FILES) as reader:
            reader.wait_for(20)
            rig = Rig(stage, reader)
            rig.usual = {name: rig.run_verb(name).code for name in VERBS}
            yield rig


def attacks(rig: Rig) -> dict[str, Callable[[Seen], AbstractContextManager[object]]]:
    """Each attack by its name, in the order in which they come."""
    crowd = ("endpoint", "listeners", "journal", "locks", "names")
    return {
        "nobody (for comparison)": lambda _: nullcontext(),
        "a user: the agent's endpoint, 10,000 connections": lambda seen: rig.programs(seen, "endpoint"),
        "a user: 20,000 listeners on the mirror's port": lambda seen: rig.programs(seen, "listeners"),
        "a user: nydusd's lines in the journal": lambda seen: rig.programs(seen, "journal"),
        "a user: locks, requests, signals": lambda seen: rig.programs(seen, "locks"),
        "a user: processes with the names of others": lambda seen: rig.programs(seen, "names"),
        "a container on the host's network": lambda seen: rig.programs(
            seen, "through_the_mirror", "endpoint", contained=True
        ),
        "a registry with odd and endless answers": rig.hostile_registry,
        "a mirror with odd ping and metrics": rig.odd_mirror,
        "images with odd names and documents": rig.hostile_images,
        "a user: all together": lambda seen: rig.programs(seen, *crowd),
        "a user: all ports towards the endpoint": lambda seen: rig.programs(seen, "ports"),
    }


def all_attacks(rig: Rig, seconds: float) -> list[Seen]:
    """One after the other."""
    found = []
    for name, begin in attacks(rig).items():
        found.append(rig.attacked(name, begin, seconds))
        told = found[-1]
        print(f"{name}: {len(told.reads)} reads, {len(told.errors)} errors, tried {told.tried}", flush=True)
        for line in (*told.moves, *told.may_not, *told.told, *told.errors[:3]):
            print(f"  {line}", flush=True)
    return found


def rows(found: list[Seen]) -> list[Row]:
    """The table."""
    return [
        row(
            seen.attack, [read.ms for read in seen.reads], "ms", errors=len(seen.errors),
            extra={
                "tried": sum(seen.tried.values()), "through the mirror": seen.through,
                "moves": len(seen.moves), "restarts": seen.restarts,
                "peak PSS, MiB": round(max(size for size, _ in seen.pss_mib), 1),
                "journalctl's, MiB": round(max(size for _, size in seen.pss_mib), 1),
                "verbs": len(seen.verbs),
                "slowest verb, s": round(max(verb.seconds for verb in seen.verbs), 1),
            },
        )
        for seen in found
    ]  # fmt: skip


def goals(found: list[Seen], usual: dict[str, int]) -> list[Goal]:
    """What is promised."""

    def count(value: Callable[[Seen], list[Any]]) -> int:
        return sum(len(value(seen)) for seen in found)

    peak = max(size for seen in found for size, _ in seen.pss_mib)
    idle = sum(not sum(seen.tried.values()) for seen in found[1:])  # the first is nobody's
    return [
        Goal("reads that failed", count(lambda seen: seen.errors), 0, "errors"),
        Goal("moves of health state or route without a cause", count(lambda seen: seen.moves), 0, "moves"),
        Goal("restarts of the daemon", sum(seen.restarts for seen in found), 0, "restarts"),
        Goal("what nobody without rights may do", count(lambda seen: seen.may_not), 0, "acts"),
        Goal("warnings of the agent's units", count(lambda seen: seen.warned), 0, "lines"),
        Goal("verbs with another exit code or late", count(lambda seen: seen.unusual(usual)), 0, "verbs"),
        Goal("attacks that nobody read in", sum(not seen.reads for seen in found), 0, "attacks"),
        Goal("attacks that tried nothing", idle, 0, "attacks"),
        Goal("peak PSS of the daemon", peak, MOST_PSS_MIB, "MiB"),
    ]


def main() -> int:
    """Attack and publish."""
    short = quick()
    seconds = QUICK_SECONDS if short else SECONDS
    images.cold()
    with rigged(seconds) as rig:
        found = all_attacks(rig, seconds)
        usual = rig.usual
    return publish("hostile-node", METHOD, rows(found), quick=short, goals=goals(found, usual))


if __name__ == "__main__":
    sys.exit(main())
