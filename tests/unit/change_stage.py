"""A node of fakes and a first apply in miniature, for the tests of the transaction."""

from __future__ import annotations

from collections.abc import Callable

from agent import paths
from agent.apply import change, recover
from agent.apply.execute import Stop
from agent.config.model import Dialect, Switch
from agent.errors import AgentError
from agent.facts.node import Effective
from agent.steps import (
    AwaitContainerd,
    AwaitSnapshotter,
    CheckContainerdConfig,
    Plan,
    ReloadUnits,
    UnitStep,
    UnitVerb,
    WriteFile,
)
from tests.fakes.containerd import STOCK_PLUGINS, nydus_plugin
from tests.fakes.files import FakeFile
from tests.fakes.node import FakeNode

CONFIG = "/etc/containerd/config.toml"
OLD, NEW = b"version = 2\n# the operator's own words\n", b"version = 2\nnydus = true\n"
ROOT = "/var/lib/containerd-nydus"
EFFECTIVE = Effective(Switch.FENCE, Dialect.PROXY, use_http=False, reasons=("because",))
NOTHING = Plan(())


def a_node() -> FakeNode:
    node = FakeNode()
    node.files.put(CONFIG, OLD, mode=0o640)
    node.processes.on("containerd", stdout="version = 2\nnydus = true\n")

    def plugins() -> tuple[object, ...]:
        named = b"nydus = true" in node.files.files[CONFIG].content
        node.containerd.mountpoints = (ROOT,) if named else ("/var/lib/containerd/overlayfs",)
        return (*STOCK_PLUGINS, nydus_plugin(paths.SNAPSHOTTER_SOCKET, ROOT)) if named else STOCK_PLUGINS

    node.load_plugins = plugins  # type: ignore[assignment]  # a narrower tuple
    node.containerd.mountpoints = ("/var/lib/containerd/overlayfs",)
    return node


def write(node: FakeNode, path: str, content: bytes, mode: int = 0o644) -> WriteFile:
    seen = node.files.read(path)
    return WriteFile(
        path, content, mode, "because", seen.sha256 if seen else "", seen.content if seen else None,
        seen.mode if seen else 0o644, owned=path != CONFIG,
    )  # fmt: skip


def the_plan(node: FakeNode) -> Plan:
    """What a first apply does, in miniature."""
    return Plan(
        (
            write(node, paths.NYDUSD_TEMPLATE, b"{}"),
            write(node, paths.SNAPSHOTTER_CONFIG, b"version = 1\n"),
            write(node, paths.SNAPSHOTTER_UNIT_FILE, b"[Service]\n"),
            ReloadUnits("new unit"),
            UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.ENABLE, "at boot"),
            UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.START, "first start"),
            AwaitSnapshotter(paths.SNAPSHOTTER_SOCKET),
            write(node, f"{paths.CERTS_D}/_default/hosts.toml", b"# hosts\n"),
            CheckContainerdConfig(CONFIG, NEW, (("nydus", "true"),)),
            write(node, CONFIG, NEW, mode=0o640),
            UnitStep(paths.CONTAINERD_UNIT, UnitVerb.RESTART, "reads its configuration at start"),
            AwaitContainerd("/run/containerd/containerd.sock"),
        )
    )


def apply(
    node: FakeNode,
    plan: Plan | None = None,
    *,
    prove: Callable[[], AgentError | None] = lambda: None,
    effective: Effective = EFFECTIVE,
    stop: Stop | None = None,
) -> change.Outcome:
    def quiet(_: object) -> None:
        pass

    intention = change.Intention("apply", the_plan(node) if plan is None else plan, effective)
    with node.ledger.lock("apply"):
        recover.finish(node.ports, jobs=True, say=quiet)
        around = change.Surroundings(quiet, quiet, stop or Stop())
        return change.carry_out(node.ports, intention, prove, around)


def finish(node: FakeNode, *, jobs: bool = True) -> recover.Recovered | None:
    return recover.finish(node.ports, jobs=jobs, say=lambda _: None)


def of_the_operator(node: FakeNode) -> dict[str, FakeFile | str | None]:
    """All files but our own state."""
    return {path: what for path, what in node.files.snapshot().items() if not path.startswith("/var/")}


def state(node: FakeNode) -> tuple[object, ...]:
    """What the operator sees: files, whether the snapshotter runs and starts at boot, what containerd
    mounts.
    """
    unit = node.units.units.get(paths.SNAPSHOTTER_UNIT)
    return (
        of_the_operator(node),
        unit is not None and unit.active_state == "active",
        unit is not None and unit.unit_file_state,
        node.containerd.up,
        node.containerd.plugin_facts,
    )


OLD_STATE = state(a_node())


def new_state() -> tuple[object, ...]:
    changed = a_node()
    apply(changed)
    return state(changed)


NEW_STATE = new_state()


def calls_of_an_apply() -> list[tuple[str, ...]]:
    node = a_node()
    apply(node)
    return node.faults.calls
