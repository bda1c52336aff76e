"""A node of fakes as trixie ships it, with nydus installed, and a hand that carries plans out on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from agent.config.model import (
    Config,
    ContainerdConfig,
    Dialect,
    MirrorConfig,
    RegistriesConfig,
    RegistryHost,
    Scheme,
    Switch,
)
from agent.containerd.files import Node
from agent.containerd.render import view_of
from agent.containerd.view import PROXY_PLUGIN
from agent.facts.node import Facts, PluginFact
from agent.node.observe import observe
from agent.steps import Plan, ReloadUnits, RemoveFile, Step, UnitStep, UnitVerb, WriteFile
from tests.fakes.containerd import STOCK_PLUGINS, nydus_plugin
from tests.fakes.node import FakeNode

GOLDEN = Path(__file__).parent.parent / "golden"
CONTAINERD_CONFIG = "/etc/containerd/config.toml"
STOCK = (GOLDEN / "containerd/debian-trixie/before/config.toml").read_bytes()
AMD64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + bytes(44)
ARM64 = AMD64[:18] + b"\xb7\x00" + AMD64[20:]

PLAIN = RegistryHost("plain.example:5000", scheme=Scheme.HTTP)
SECURE = RegistryHost("secure.example:5001", ca="/etc/ssl/private-ca.pem")


def config(
    *hosts: RegistryHost, switch: Switch = Switch.AUTO, dialect: Dialect = Dialect.AUTO, registry: str = ""
) -> Config:
    """A configuration with these registries."""
    return Config(
        mirror=MirrorConfig(switch=switch, dialect=dialect, registry=registry),
        registries=RegistriesConfig(hosts=hosts),
    )


def node(snapshotter: str = "0.13.4", nydusd: str = "v2.2.0", containerd: str = "1.7.24") -> FakeNode:
    """containerd from Debian, nydus in /usr/local/bin, a snapshotter from Debian or built by hand."""
    made = FakeNode()
    for path in ("/usr/local/bin/nydusd", "/usr/local/bin/nydus-image", "/usr/bin/containerd"):
        made.files.put(path, AMD64, mode=0o755)
    run = made.processes
    run.on("dpkg-query", "-S", code=1)
    run.on("grep", "-q", "-a", "-F", "failure_limit", code=0 if nydusd < "v2.3.5" else 1)
    run.on("grep", "-q", "-a", "-F", "connect_timeout", code=0)
    run.on("grep", "-a", "-o", code=1)
    for name in ("nydusd", "nydus-image"):
        run.on(
            f"/usr/local/bin/{name}",
            "--version",
            stdout=f"{name} \rVersion: \t{nydusd}\nGit Commit: \tunknown\n",
        )
    run.on(
        "/usr/bin/containerd",
        "--version",
        stdout=f"containerd github.com/containerd/containerd {containerd}~ds1 x\n",
    )
    _install_snapshotter(made, snapshotter)
    made.files.put(CONTAINERD_CONFIG, STOCK)
    made.load_plugins = lambda: plugins(made, containerd)
    return made


def _install_snapshotter(made: FakeNode, version: str) -> None:
    if version == "0.13.4":
        path = "/usr/bin/containerd-nydus-grpc"
        made.processes.on(path, "--version", stdout="Version:     unknown\nRevision:    unknown\n")
        made.processes.on("dpkg-query", "-S", path, stdout=f"nydus-snapshotter: {path}\n")
        made.processes.on(
            "dpkg-query", "-W", "-f", "${Version}", "nydus-snapshotter", stdout="0.13.4-2.1+b10"
        )
    else:
        path = "/usr/local/bin/containerd-nydus-grpc"
        made.processes.on(path, "--version", stdout=f"Version:     v{version}\nRevision:    unknown\n")
    made.files.put(path, AMD64, mode=0o755)


def plugins(
    made: FakeNode, containerd: str = "1.7.24", root: str = CONTAINERD_CONFIG
) -> tuple[PluginFact, ...]:
    """What a containerd that starts now finds in its configuration."""
    files = {path: file.content for path, file in made.files.files.items()}
    known = Node(tuple(int(part) for part in containerd.split(".")), files)
    seen = view_of(Config(containerd=ContainerdConfig(config=root)), known)
    proxy = seen.get(PROXY_PLUGIN) if seen is not None else None
    if proxy is None:
        return STOCK_PLUGINS
    return (*STOCK_PLUGINS, nydus_plugin(proxy["address"], proxy.get("exports", {}).get("root", "")))


def look(made: FakeNode, wanted: Config) -> Facts:
    """The facts."""
    return observe(wanted, made.ports)


def carry_out(made: FakeNode, plan: Plan | Sequence[Step]) -> None:
    """Do the steps as the transaction does, without a journal."""
    for step in plan.steps if isinstance(plan, Plan) else plan:
        match step:
            case WriteFile():
                made.files.replace(
                    step.path, step.content, mode=step.mode, uid=step.uid, gid=step.gid,
                    expect_sha256=step.expect_sha256,
                )  # fmt: skip
            case RemoveFile():
                made.files.remove(step.path, expect_sha256=step.expect_sha256)
            case ReloadUnits():
                made.units.reload()
            case UnitStep(verb=UnitVerb.ENABLE):
                made.units.enable(step.unit)
            case UnitStep(verb=UnitVerb.DISABLE):
                made.units.disable(step.unit)
            case UnitStep():
                made.units.job(step.unit, step.verb.value, deadline_s=1)
            case _:
                pass


def writes(plan: Plan) -> dict[str, WriteFile]:
    """The plan's writes by path."""
    return {step.path: step for step in plan.steps if isinstance(step, WriteFile)}


def verbs(plan: Plan) -> list[str]:
    """The plan's jobs as "restart containerd.service"."""
    return [f"{step.verb.value} {step.unit}" for step in plan.steps if isinstance(step, UnitStep)]


def sha256(content: bytes) -> str:
    """As a file's fact has it."""
    return hashlib.sha256(content).hexdigest()
