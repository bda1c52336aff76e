"""A node of fakes on which our configuration was applied and every check of the proof can be run."""

from __future__ import annotations

import json
from dataclasses import replace

from agent import API_VERSION, paths
from agent.apply import change
from agent.apply.change import Surroundings
from agent.apply.execute import Stop
from agent.apply.gate import Urgency
from agent.config.model import Config
from agent.documents.status import CheckResult, CheckState
from agent.ports import Finished, NydusdInfo, RunningProgram, Trial
from agent.proof import inspection
from agent.proof.proofs import Proof
from agent.steps import Plan
from tests.fakes.http import answer
from tests.unit import plan_node

CONFIG = plan_node.config(plan_node.PLAIN)
ROOT = CONFIG.snapshotter.root
CANARY = f"http://127.0.0.1:{CONFIG.endpoint.port}/canary"
METRICS = "# TYPE dragonfly_client_download_traffic counter\n"
MIB = 1 << 20
READ = Trial("v2.2.0", read=4 * MIB, fetched=5 * MIB, relayed=5 * MIB, tasks=5 * MIB, answers=(("206", 5),))


class ProvedNode:
    """`node` with a mirror, the agent's endpoint, an image in use, and what a test changes of them."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.config = config
        self.node = plan_node.node("0.16.1")
        self.traffic = 7 * MIB
        self.traffic_step = 8 * MIB
        node = self.node
        node.tables.held[4001] = 0
        node.files.put("/proc/1/mounts", b"")
        node.http.on(config.mirror.ping_url, answer(200))
        node.http.on(CANARY, answer(200, b"canary"))
        node.http.on(CANARY, answer(200, b"canary"), via=config.mirror.url)
        node.http.on(config.mirror.metrics_url, lambda _: answer(200, self._metrics()))
        node.http.on(
            "http://localhost/api/v1/daemons", answer(200, b"[]"), via=paths.SNAPSHOTTER_SYSTEM_SOCKET
        )
        node.trials.result = READ
        for program in ("nsenter", "kill", "rm", "du"):
            node.processes.on(program)
        node.processes.act("containerd", "--config", by=self._dump)
        node.units.on_job.append(self._containerd_restarted)
        self.before = self.etc()

    def etc(self) -> dict[str, object]:
        """All files but our own state, the kernel's, and what the snapshotter and the daemon made."""
        ignored = ("/var", "/proc", "/run")
        return {
            path: what for path, what in self.node.files.snapshot().items() if not path.startswith(ignored)
        }

    def _metrics(self) -> bytes:
        self.traffic += self.traffic_step
        line = f'dragonfly_client_download_traffic{{type="BACK_TO_SOURCE"}} {self.traffic}\n'
        return (METRICS + line + 'dragonfly_client_download_traffic{type="LOCAL_PEER"} 5\n').encode()

    def _dump(self, argv: tuple[str, ...], _stdin: bytes) -> Finished:
        return Finished(argv, 0, self.node.files.files[argv[2]].content.decode(), "")

    def _containerd_restarted(self, name: str, verb: str) -> None:
        if (name, verb) == (paths.CONTAINERD_UNIT, "restart"):
            ours = b"proxy_plugins.nydus" in self.node.files.files[self.config.containerd.config].content
            self.node.containerd.mountpoints = (ROOT if ours else "/var/lib/containerd/overlayfs",)

    def use_image(self) -> None:
        """A nydus image is in use: its nydusd runs with what the template says."""
        template = json.loads(self.node.files.files[paths.NYDUSD_TEMPLATE].content)
        backend = {
            **template["device"]["backend"]["config"],
            "host": "plain.example:5000",
            "repo": "image",
            "auth": "c2VjcmV0",
        }
        template["device"]["backend"]["config"] = backend
        socket = f"{ROOT}/socket/d1/api.sock"
        seen = {"version": 2, "backend": {"type": "registry", "registry": {**backend, "auth": ""}}}
        self.node.nydusd.daemons[socket] = NydusdInfo(socket, "d1", "v2.2.0", "RUNNING", 77, (("/", seen),))
        self.node.files.put(f"{ROOT}/snapshots/3/fs/image/image.boot", b"bootstrap", mode=0o600)
        self.node.files.put(f"{ROOT}/config/d1/config.json", json.dumps(template).encode(), mode=0o600)
        daemons = [{"id": "d1", "instances": {"3": {"snapshot_dir": f"{ROOT}/snapshots/3"}}}]
        self.node.http.on(
            "http://localhost/api/v1/daemons", answer(200, json.dumps(daemons).encode()),
            via=paths.SNAPSHOTTER_SYSTEM_SOCKET,
        )  # fmt: skip

    def say(self, **status: object) -> None:
        """The daemon publishes this."""
        now = self.node.clock.now()
        document = {
            "apiVersion": API_VERSION, "kind": "DaemonStatus", "pid": 1, "at": now, "started_at": now,
            "mode": "fence", "mode_reason": "", "health_state": "healthy", "health_since": now,
            "health_reason": "", "route": "mirror", "route_since": now, "route_reason": "", "fence": {},
            "mirror": {}, **status,
        }  # fmt: skip
        self.node.files.put(paths.STATUS, json.dumps(document).encode(), uid=990)

    def apply(self, urgency: Urgency = Urgency.BY_HAND) -> change.Outcome:
        return change.apply(self.config, self.node.ports, quiet(), urgency=urgency)

    def plan(self) -> Plan:
        _facts, _effective, plan = change.make_plan(self.config, self.node.ports)
        return plan

    def proof(self) -> Proof:
        return inspection.inspect(self.config, self.node.ports)

    def unit(self, **values: object) -> None:
        """Change what systemd says of the snapshotter's unit."""
        known = self.node.units.units
        unit = known[paths.SNAPSHOTTER_UNIT]
        # A test names the fields.
        known[paths.SNAPSHOTTER_UNIT] = replace(unit, **values)  # type: ignore[arg-type]


def quiet() -> Surroundings:
    def nothing(_: object) -> None:
        pass

    return Surroundings(nothing, nothing, Stop())


def in_use(made: ProvedNode) -> ProvedNode:
    """The node with our configuration applied, an image in use and the daemon well."""
    made.apply()
    made.use_image()
    made.say()
    return made


def proved() -> ProvedNode:
    """Such a node."""
    return in_use(ProvedNode())


def with_programs(made: ProvedNode) -> ProvedNode:
    """The node with dpkg, and with services and a nydusd that run what lies on the disk."""
    made.node.processes.programs["dpkg"] = "/usr/bin/dpkg"
    made.node.processes.on("dpkg", "--verify")
    made.node.processes.running = {
        pid: (RunningProgram("/usr/bin/x", replaced=False), "") for pid in (77, 500)
    }
    return made


def first_wrong(proof: Proof) -> CheckResult:
    """The headline, or the first check that is not ok."""
    return next(check for check in proof.checks if check.state is not CheckState.OK)
