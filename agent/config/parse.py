"""From the text of agent.toml and its drop-ins to one frozen Config, or to every problem at once. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from agent.config.checks import ConfigFinding, findings
from agent.config.fields import VERSION, VERSION_KEY, Complaints, as_toml, build, read_table, settings
from agent.config.model import Config
from agent.errors import Problem

DEFAULT = "(default)"
"""Where a value comes from that no file sets."""


@dataclass(frozen=True, slots=True)
class TomlDocument:
    """One file: its name for messages, its text, and whether it is a drop-in (else the base file)."""

    file: str
    text: str
    drop_in: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """The outcome. `config` is only to be used where `problems` is empty."""

    config: Config
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    """Dotted key -> the file that set it; keys at their default are not in it."""


def parse(documents: Sequence[TomlDocument]) -> Parsed:
    """Later documents win, tables are merged, lists are replaced.

    Never raises: every problem is in the result.
    """
    problems: list[Problem] = []
    warnings: list[str] = []
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    set_by_drop_in: dict[str, TomlDocument] = {}
    for document in documents:
        right, wrong = _read_document(document)
        problems += wrong
        if document.drop_in:
            warnings += _conflicts(document, right, values, set_by_drop_in)
        values |= right
        origins |= dict.fromkeys(right, document.file)
    config = cast("Config", build(Config, values))
    suspect = {problem.key for problem in problems}
    for finding in findings(config):
        if suspect.isdisjoint(finding.keys):  # a value that could not be taken says nothing about its pair
            problem = _problem(finding, config, origins)
            if finding.is_error:
                problems.append(problem)
            else:
                warnings.append(str(problem))
    return Parsed(config, tuple(problems), tuple(warnings), origins)


def _read_document(document: TomlDocument) -> tuple[dict[str, object], list[Problem]]:
    """Dotted keys with right values, and what is wrong."""
    complaints = Complaints(document.file)
    try:
        tree = tomllib.loads(document.text)
    except tomllib.TOMLDecodeError as error:
        complaints.add("", None, f"is not TOML: {error}", "correct the named line; texts need quotes")
        return {}, complaints.problems
    except RecursionError:
        complaints.add("", None, "is nested too deeply", "write the settings as agent.toml(5) shows")
        return {}, complaints.problems
    version = tree.pop(VERSION_KEY, VERSION)
    if isinstance(version, bool) or version != VERSION:
        complaints.add(VERSION_KEY, version, "is a format that this version of the agent does not know",
                       f"write version = {VERSION}, or upgrade the package")  # fmt: skip
    return read_table(Config, tree, complaints), complaints.problems


def _conflicts(
    document: TomlDocument,
    right: Mapping[str, object],
    values: Mapping[str, object],
    set_by: dict[str, TomlDocument],
) -> list[str]:
    """Keys that two drop-ins set to different values: the later wins by design, but whoever wrote both should
    know.
    """
    found = [
        f"{set_by[key].file} and {document.file} are in conflict: {key} = {as_toml(values[key])} in the "
        f"first, {as_toml(value)} in the second, which wins; keep one of them"
        for key, value in right.items()
        if key in set_by and values[key] != value
    ]
    set_by |= dict.fromkeys(right, document)
    return found


def _problem(finding: ConfigFinding, config: Config, origins: Mapping[str, str]) -> Problem:
    """A finding about a pair, blamed on the first of its keys that some file sets."""
    effective = dict(values_of(config))
    blamed = next((key for key in finding.keys if _origin(key, origins) != DEFAULT), finding.keys[0])
    others = [
        f"{key} = {as_toml(effective[key])}" for key in finding.keys if key != blamed and key in effective
    ]
    reason = f"{finding.reason} (with {', '.join(others)})" if others else finding.reason
    value = as_toml(effective[blamed]) if blamed in effective else ""
    return Problem(_origin(blamed, origins), blamed, value, reason, finding.action)


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """The file that set a key; items of a list ("registries.hosts[0].ca") come from where the list was
    set.
    """
    return origins.get(key.partition("[")[0], DEFAULT)


def values_of(config: Config) -> tuple[tuple[str, object], ...]:
    """(dotted key, effective value) of every setting, in the model's order."""
    found: list[tuple[str, object]] = []
    for setting in settings():
        value: object = config
        for name in setting.key.split("."):
            value = getattr(value, name)
        found.append((setting.key, value))
    return tuple(found)
