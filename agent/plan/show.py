"""A plan in words: what changes, which units restart and what that costs. Never a secret. And what a plan
was decided on and what it decides, as a tree of plain values: where two of them differ, one is stale.

Contents stand as digests in what was decided: they may hold secrets, and equality is all that is asked of
them. Pure.
"""

from __future__ import annotations

import difflib
import enum
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from agent.containerd.view import leaves
from agent.errors import hide
from agent.facts.node import Effective, Facts, FileFact, UnitFact, Unknown
from agent.steps import Plan, RemoveFile, Step, UnitStep, WriteFile, describe


def lines(plan: Plan) -> tuple[str, ...]:
    """The plan for people: steps with their reasons, what it costs, notes and warnings."""
    if plan.empty:
        return ("Nothing to do: the node is as wanted.", *_told(plan))
    steps = [f"{number:2}. {what(step)}" for number, step in enumerate(plan.steps, 1)]
    costs = [(step, step.cost) for step in plan.steps if isinstance(step, UnitStep) and step.cost]
    told = [f"  {step.verb.value} {step.unit}: {cost}" for step, cost in costs]
    cost = ["What it costs:", *told] if told else ["No unit restarts."]
    return ("Steps:", *steps, *cost, *_told(plan))


def _told(plan: Plan) -> tuple[str, ...]:
    return (*(f"note: {text}" for text in plan.notes), *(f"warning: {text}" for text in plan.warnings))


def what(step: Step) -> str:
    """One step in a line: what it does and why."""
    return f"{describe(step)}: {step.reason}"


def unified_diff(step: Step) -> str:
    """A file step as a unified diff, secrets hidden; "" for any other step."""
    if isinstance(step, WriteFile):
        return diff(step.path, step.content_before, step.content)
    if isinstance(step, RemoveFile):
        return diff(step.path, step.content_before, None)
    return ""


def diffs(plan: Plan) -> str:
    """All diffs of a plan."""
    return "".join(unified_diff(step) for step in plan.steps)


def diff(path: str, before: bytes | None, after: bytes | None) -> str:
    """One file's change as a unified diff, secrets hidden; None: not there."""
    old, new = _text_lines(before), _text_lines(after)
    names = (path if before is not None else "/dev/null", path if after is not None else "/dev/null")
    found = difflib.unified_diff(old, new, *names, n=3)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found
    )


def _text_lines(content: bytes | None) -> list[str]:
    return hide(content.decode(errors="replace")).splitlines(keepends=True) if content is not None else []


_WORDS = ("reason", "cost")
"""Of a step: what it is for, told to people."""


def decided(
    plan: Plan,
    effective: Effective | None,
    facts: Facts,
    config: Mapping[str, object],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """The tree; `config` is the part of the configuration that a node is changed for
    (`agent.config.accepted`).
    """
    units = {"containerd": facts.containerd_unit, "snapshotter": facts.snapshotter_unit}
    choice = None
    if effective is not None:
        choice = [effective.switch.value, effective.dialect.value, effective.use_http, effective.scheme.value]
    return {
        "configuration": {".".join(path): value for path, value in leaves(config)},
        "files": dict(_files(facts)),
        "units": {name: _unit(fact) for name, fact in units.items()},
        "versions": dict(versions),
        "choice": choice,
        "steps": [_digest(step) for step in plan.steps],
    }


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Everything that is other than it was, in words; empty: the same plan would be made. `then` may hold
    anything.
    """
    found = [
        *_changed("setting", then, now, "configuration"),
        *_changed("file", then, now, "files"),
        *_changed("unit", then, now, "units"),
        *_changed("version of", then, now, "versions"),
    ]
    if not found and any(then.get(key) != now[key] for key in ("choice", "steps")):
        found.append(
            "the steps would be others now, for what was asked of the mirror, the fence or containerd"
        )
    return tuple(found)


def _changed(noun: str, then: Mapping[str, Any], now: Mapping[str, Any], key: str) -> Iterator[str]:
    before = then.get(key)
    if not isinstance(before, Mapping):
        yield f"the {key} that it was decided on are missing in it"
        return
    for name in sorted({*map(str, before), *now[key]}):
        if before.get(name) != now[key].get(name):
            was, is_ = _as_told(key, before.get(name)), _as_told(key, now[key].get(name))
            yield f"{noun} {name}: {was} then, {is_} now"


def _as_told(key: str, value: object) -> str:
    if value is None:
        return "absent"
    text = str(value)
    return f"sha256 {text[:12]}" if key == "files" and len(text) == hashlib.sha256().digest_size * 2 else text


def _files(facts: Facts) -> Iterator[tuple[str, str | None]]:
    for entry in facts.files:
        if isinstance(entry, FileFact):
            yield entry.path, entry.sha256
        else:
            yield entry[0], None if entry[1] is None else "not readable"


def _unit(fact: UnitFact | None | Unknown) -> str | None:
    if not isinstance(fact, UnitFact):
        return None if fact is None else "not known"
    reload = ", to be read again" if fact.needs_reload else ""
    drop_ins = f", with {' '.join(fact.drop_in_paths)}" if fact.drop_in_paths else ""
    enabled = fact.unit_file_state or "not enabled"
    return f"{fact.load_state}, {fact.active_state}, {enabled}, {fact.fragment_path}{drop_ins}{reload}"


def _digest(step: Step) -> str:
    values = {
        field.name: _plain(getattr(step, field.name)) for field in fields(step) if field.name not in _WORDS
    }
    return hashlib.sha256(json.dumps([type(step).__name__, values]).encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return value.value if isinstance(value, enum.Enum) else value
