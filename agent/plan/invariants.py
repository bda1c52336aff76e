"""What must hold after each step of a plan, should everything stop there: power cut, crash, containerd
restarted.

A small model of the node (files, units, what the running containerd has read) is walked step by step. The
rules:

- containerd's configuration never names a snapshotter that it does not register;
- where containerd's configuration names the snapshotter, its unit is enabled, and it was seen answering since
  it was last started, so that containerd finds it now and after a boot;
- containerd restarts only on a configuration that was checked;
- a file of another owner is changed only by a step that holds its former content.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent import paths
from agent.config.model import Config, ContainerdConfig
from agent.containerd import dropin
from agent.containerd.files import Node, node_of
from agent.containerd.render import view_of
from agent.containerd.view import PROXY_PLUGIN, ContainerdView
from agent.errors import PlanError
from agent.facts.node import Facts, UnitFact, Unknown, Version
from agent.steps import (
    AwaitSnapshotter,
    CheckContainerdConfig,
    Plan,
    RemoveFile,
    Step,
    UnitStep,
    UnitVerb,
    WriteFile,
)

CONTAINERD_CONFIG = ContainerdConfig().config


@dataclass
class _Model:
    version: Version | Unknown
    files: dict[str, bytes | Unknown]
    enabled: bool
    answering: bool
    checked: set[bytes] = field(default_factory=set)


def check(plan: Plan, facts: Facts, config_path: str = CONTAINERD_CONFIG) -> None:
    """Raises PlanError NNA0390 (a bug of ours) with every violation."""
    found = violations(plan, facts, config_path)
    if found:
        raise PlanError(
            "NNA0390", "the plan would pass through a state that is not safe", cause=found[0], seen=found[1:],
            try_="report this as a bug, with the output of: nydus-agent plan --format json",
        )  # fmt: skip


def violations(plan: Plan, facts: Facts, config_path: str = CONTAINERD_CONFIG) -> tuple[str, ...]:
    """Every rule that some prefix of the plan breaks, in words.

    What was broken before is not the plan's fault.
    """
    model = _model(facts)
    before = set(_broken(model, config_path))
    found: list[str] = []
    for number, step in enumerate(plan.steps, 1):
        found += [f"step {number}: {text}" for text in _unrecorded(step, model)]
        found += [f"step {number}: {text}" for text in _unchecked(step, model, config_path)]
        _act(step, model)
        broken = [text for text in _broken(model, config_path) if text not in before]
        found += [f"after step {number}: {text}" for text in broken]
    return tuple(dict.fromkeys(found))


def _model(facts: Facts) -> _Model:
    node = node_of(facts)
    unit = facts.snapshotter_unit
    enabled = isinstance(unit, UnitFact) and unit.starts_at_boot
    active = isinstance(unit, UnitFact) and unit.active_state == "active"
    return _Model(node.version, dict(node.files), enabled, active)


def _unrecorded(step: Step, model: _Model) -> list[str]:
    if isinstance(step, WriteFile) and step.content_before != model.files.get(step.path):
        return [f"{step.path} would be replaced without a record of what is in it"]
    if isinstance(step, RemoveFile) and step.content_before != model.files.get(step.path):
        return [f"{step.path} would be removed without a record of what is in it"]
    return []


def _unchecked(step: Step, model: _Model, config_path: str) -> list[str]:
    if not isinstance(step, WriteFile) or step.content in model.checked:
        return []
    if step.path == config_path or dropin.is_drop_in(step.path):
        return [f"{step.path} would go live unchecked"]
    return []


def _act(step: Step, model: _Model) -> None:
    match step:
        case WriteFile():
            model.files[step.path] = step.content
        case RemoveFile():
            model.files.pop(step.path, None)
        case CheckContainerdConfig():
            model.checked |= {step.candidate, *(content for _path, content in step.beside)}
        case AwaitSnapshotter():
            model.answering = True
        case UnitStep(unit=paths.SNAPSHOTTER_UNIT):
            _act_on_snapshotter(step.verb, model)
        case _:
            pass


def _act_on_snapshotter(verb: UnitVerb, model: _Model) -> None:
    match verb:
        case UnitVerb.ENABLE:
            model.enabled = True
        case UnitVerb.DISABLE:
            model.enabled = False
        case UnitVerb.START | UnitVerb.RESTART | UnitVerb.STOP:
            # A restart keeps what was promised: the old process ends only for the new one to start
            # (Restart=always).
            model.answering = verb is UnitVerb.RESTART and model.answering


def _broken(model: _Model, config_path: str) -> list[str]:
    seen = _view(model, config_path)
    if seen is None or not seen.names_ours:
        return []
    found = []
    if seen.get((*PROXY_PLUGIN, "address")) is None:
        found.append("containerd names a snapshotter that is not registered")
    if not model.enabled:
        found.append("containerd names a snapshotter that does not start at boot")
    if not model.answering:
        found.append("containerd names a snapshotter that was not seen answering")
    return found


def _view(model: _Model, config_path: str) -> ContainerdView | None:
    config = Config(containerd=ContainerdConfig(config=config_path))
    return view_of(config, Node(model.version, model.files))
