"""Every node of a small world, and what must hold of each change on it, step by step and wherever it fails.

The rules are looked at on the node itself (files, units, the journal), not in the model that plans are
checked with.
"""

from __future__ import annotations

import itertools
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from agent import paths
from agent.apply import change, recover, rollback
from agent.apply.execute import Progress, Stop
from agent.config.model import Config, ContainerdConfig, ContainerdMode, Switch
from agent.containerd.view import names_snapshotter
from agent.errors import AgentError, FileError, PlanError
from agent.facts.node import Effective
from agent.node.observe import observe
from agent.plan import decide, diff
from agent.plan.removal import removal
from agent.ports import Finished
from agent.records import generations, journal
from agent.steps import Plan
from tests.fakes.node import FakeNode
from tests.fakes.units import unit
from tests.unit import plan_node
from tests.unit.plan_node import CONTAINERD_CONFIG, PLAIN, STOCK

DOCKER = "/etc/containerd/certs.d/docker.io/hosts.toml"
_FOREIGN = (paths.NYDUSD_TEMPLATE, paths.SNAPSHOTTER_UNIT_FILE, DOCKER)
_THEIRS = {DOCKER: b'server = "https://registry-1.docker.io"\n', paths.SNAPSHOTTER_UNIT_FILE: b"[Service]\n"}
_FULL = FileError("NNA0427", "cannot write", cause="No space left on device")

CONFIGS = (STOCK, b"version = 2\n")
_MODES: tuple[ContainerdMode, ...] = (
    ContainerdMode.DEFAULT,
    ContainerdMode.RUNTIME_CLASS,
    ContainerdMode.PLUGIN_ONLY,
)
UNITS = ("none", "disabled", "enabled", "running")
VERSIONS = (("0.13.4", "v2.2.0"), ("0.16.1", "v2.2.0"), ("0.16.1", "v2.4.4"))
FOREIGN = tuple(
    found for count in range(len(_FOREIGN) + 1) for found in itertools.combinations(_FOREIGN, count)
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """One node, and the configuration that is applied first; the second differs in mode and switch."""

    config: bytes
    foreign: tuple[str, ...]
    unit: str
    versions: tuple[str, str]
    mode: ContainerdMode
    switch: Switch

    @property
    def first(self) -> Config:
        """What is applied first."""
        return replace(
            plan_node.config(PLAIN, switch=self.switch), containerd=ContainerdConfig(mode=self.mode)
        )

    @property
    def second(self) -> Config:
        """What is applied then."""
        other = Switch.NATIVE if self.switch is Switch.FENCE else Switch.FENCE
        mode = _MODES[(_MODES.index(self.mode) + 1) % len(_MODES)]
        return replace(plan_node.config(PLAIN, switch=other), containerd=ContainerdConfig(mode=mode))

    def node(self) -> FakeNode:
        """The node before anything of ours."""
        made = plan_node.node(*self.versions)
        made.files.put(CONTAINERD_CONFIG, self.config, mode=0o640)
        for path in self.foreign:
            made.files.put(path, _THEIRS.get(path, b"theirs\n"), mode=0o600)
        if self.unit != "none":
            known = unit(paths.SNAPSHOTTER_UNIT, enabled=self.unit != "disabled")
            made.files.put(paths.PACKAGED_UNIT_FILE, b"[Service]\n")
            made.units.units[paths.SNAPSHOTTER_UNIT] = known
        made.units.reload()  # systemd has read what is there
        if self.unit == "running":
            made.units.job(paths.SNAPSHOTTER_UNIT, "start", deadline_s=1)
        made.processes.act("containerd", "--config", by=lambda argv, _: _dump(made, argv))
        return made


def _dump(made: FakeNode, argv: tuple[str, ...]) -> Finished:
    return Finished(argv, 0, made.files.files[argv[2]].content.decode(), "")


def worlds() -> Iterator[World]:
    """All of them, in an order that never changes."""
    switches = (Switch.FENCE, Switch.NATIVE)
    for config, foreign, known, versions in itertools.product(CONFIGS, FOREIGN, UNITS, VERSIONS):
        for mode, switch in itertools.product(_MODES, switches):
            yield World(config, foreign, known, versions, mode, switch)


State = tuple[object, ...]


def state(node: FakeNode) -> State:
    """What the node's owner sees of it: all files but our own state, the services, what containerd has
    read.
    """
    files = {path: what for path, what in node.files.snapshot().items() if not path.startswith("/var")}
    found = node.units.units.get(paths.SNAPSHOTTER_UNIT)
    there = found is not None and (
        found.active_state == "active" or not found.fragment_path.startswith("/etc/")
    )
    services = (
        (found.active_state, found.unit_file_state) if found is not None and there else ("inactive", "")
    )
    return files, services, node.containerd.up, node.containerd.plugin_facts


@dataclass
class Findings:
    """Counts of what was looked at, and what did not hold."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def need(self, holds: bool, what: str) -> None:
        """Note `what` where it does not hold."""
        if not holds:
            self.wrong.append(what)


@dataclass(frozen=True)
class Verb:
    """What a verb found to do, on a node that is always the same: it can be carried out on another one like
    it.
    """

    name: str
    plan: Plan
    effective: Effective | None

    def carry_out(self, node: FakeNode, each: Callable[[Progress], None] = lambda _: None) -> None:
        """As the verb does it, without the proof."""
        around = change.Surroundings(lambda _: None, each, Stop())
        intention = change.Intention(self.name, self.plan, self.effective)
        change.carry_out(node.ports, intention, lambda: None, around)


Look = Callable[[FakeNode], Verb]


def apply(config: Config) -> Look:
    """Planned by what is wanted and what is there."""

    def look(node: FakeNode) -> Verb:
        facts = observe(config, node.ports)
        return Verb("apply", diff.plan(config, facts), decide.effective(config, facts))

    return look


def back_to(config: Config, number: int) -> Look:
    """Planned by what the generations recorded."""

    def look(node: FakeNode) -> Verb:
        target = rollback.choose(node.files, number)
        _, _, plan = rollback.look_back(config, node.ports, target)
        return Verb("rollback", plan, target.effective)

    return look


def remove(config: Config) -> Look:
    """Planned by what was there before the first generation."""

    def look(node: FakeNode) -> Verb:
        history = generations.history(node.files)
        records = generations.records(history)
        facts = observe(
            config, node.ports, extra_paths=(*(one.path for one in records), paths.PACKAGED_UNIT_FILE)
        )
        return Verb("remove", removal(config, facts, records, generations.former_unit(history)), None)

    return look


def explore(world: World, found: Findings) -> None:
    """Apply, apply the other configuration, go back, remove: each looked at after each step, and failed at
    each act.
    """
    try:
        done = [apply(world.first)(world.node())]
    except PlanError:
        found.counts["worlds that are refused"] += 1
        return
    found.counts["worlds"] += 1
    _change(world, [], done[0], apply(world.first), found)
    for look in (apply(world.second), back_to(world.second, 1), remove(world.second)):
        verb = look(_at(world, done))
        _change(world, done, verb, look, found)
        done.append(verb)
    files, services, *others = state(_at(world, done))
    files_before, services_before, *others_before = state(world.node())
    found.need(files == files_before, f"{world}: after the removal files are not as before")
    found.need(services == services_before, f"{world}: after the removal services are not as before")
    found.need(others == others_before, f"{world}: after the removal containerd is not as before")


def _at(world: World, verbs: list[Verb]) -> FakeNode:
    node = world.node()
    for verb in verbs:
        verb.carry_out(node)
    return node


def _change(world: World, prior: list[Verb], verb: Verb, look: Look, found: Findings) -> None:
    where = f"{verb.name} after {len(prior)} in {world}"
    node = _at(world, prior)
    before, originals = state(node), dict(node.files.files)
    calls = len(node.faults.calls)

    def each(_: Progress) -> None:
        found.counts["steps looked at"] += 1
        for rule in broken(node, originals):
            found.need(holds=False, what=f"{where}: {rule}")

    verb.carry_out(node, each)
    after, acts = state(node), node.faults.calls[calls:]
    again = look(node).plan
    found.need(again.empty, f"{where}: it does not re-plan empty: {again.steps}")
    found.counts[f"{verb.name}: acts failed"] += len(acts)
    for nth in range(1, len(acts) + 1):
        failing = _at(world, prior)
        failing.faults.at(nth, _FULL)
        _fail(failing, verb, (before, after), f"{where}, act {nth} {acts[nth - 1]}", found)


def _fail(node: FakeNode, verb: Verb, either: tuple[State, State], where: str, found: Findings) -> None:
    try:
        verb.carry_out(node)
    except AgentError:
        node.faults.clear()
        if node.ledger.open:  # its own end could not be written
            recover.finish(node.ports, jobs=True, say=lambda _: None)
        found.need(state(node) in either, f"{where}: neither before nor after")
    else:
        node.faults.clear()
        found.need(state(node) == either[1], f"{where}: it says that it is done, and is not")


def broken(node: FakeNode, originals: Mapping[str, object]) -> Iterator[str]:
    """The rules that do not hold at this moment, in words."""
    files = {path: file.content for path, file in node.files.files.items()}
    config = files.get(CONTAINERD_CONFIG, b"")
    if names_snapshotter(config):
        registered = tomllib.loads(config.decode()).get("proxy_plugins", {}).get(paths.PROXY_PLUGIN, {})
        if registered.get("address") != paths.SNAPSHOTTER_SOCKET:
            yield "containerd names a snapshotter that is not registered"
        service = node.units.get(paths.SNAPSHOTTER_UNIT)
        if service is None or service.active_state != "active" or service.unit_file_state != "enabled":
            yield "containerd names a snapshotter that does not run, or not after a boot"
        if not node.snapshotter.answering:
            yield "containerd names a snapshotter that does not answer"
    for path, content in files.items():
        if path.endswith("/hosts.toml") and "/certs.d/" in path and b"server" not in content:
            yield f"{path}: a pull has no way to the registry itself"
    yield from _without_origin(files.get(paths.NYDUSD_TEMPLATE))
    yield from _unrecorded(node, originals)


def _without_origin(template: bytes | None) -> Iterator[str]:
    if template is None or template == b"theirs\n":
        return
    backend = json.loads(template)["device"]["backend"]["config"]
    if "proxy" in backend and backend["proxy"].get("fallback") is not True:
        yield "nydusd has no way to the registry itself"


def _unrecorded(node: FakeNode, originals: Mapping[str, object]) -> Iterator[str]:
    opened = journal.read(node.ledger)
    backs = (
        [one.undo for one in opened.intents if isinstance(one.undo, journal.PutBack)]
        if opened is not None
        else []
    )
    recorded = {back.path: back.before for back in reversed(backs)}
    for path, file in originals.items():
        now = node.files.files.get(path)
        was = getattr(file, "content", None)
        ours = path.startswith(paths.STATE_DIR)
        if not ours and (now is None or now.content != was) and recorded.get(path) != was:
            yield f"{path} was changed without a record of what was in it"
