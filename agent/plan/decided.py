"""What a plan was decided on and what it decides, as a tree of plain values: where two of them differ, one is
stale.

Pure. Contents stand as digests: they may hold secrets, and equality is all that is asked of them.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from agent.containerd.keys import leaves
from agent.facts.node import Effective, Facts, FileFact, UnitFact, Unknown
from agent.steps import Plan, Step

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
            yield f"{noun} {name}: {_told(key, before.get(name))} then, {_told(key, now[key].get(name))} now"


def _told(key: str, value: object) -> str:
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
