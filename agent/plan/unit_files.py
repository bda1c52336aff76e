"""How a unit file is read (systemd.syntax(7)), and what others' unit files and drop-ins say against what our
units need. Pure text in, contradictions out.

Only settings that break something are told; everything else in a drop-in is the operator's to choose.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent import paths
from agent.config.model import ContainerdConfig
from agent.documents.drift import Finding, Kind, Remedy
from agent.dragonfly.command_line import option_of
from agent.facts.node import FileFact, UnitFact

_ROOT_FILE = ContainerdConfig().config
WATCHED = (paths.SNAPSHOTTER_UNIT, *paths.RUNTIME_UNITS)
DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system")
"""Where operators and tools put unit files and drop-ins (systemd.unit(5))."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One setting."""

    key: str
    theirs: str
    ours: str
    why: str


def unit_of(path: str) -> str:
    """The unit of ours or containerd's that a file under a unit directory is about; "" for every other
    file.
    """
    directory, _, name = path.rpartition("/")
    above, _, last = directory.rpartition("/")
    for unit in WATCHED:
        if (last == f"{unit}.d" and above in DIRECTORIES and name.endswith(".conf")) or (
            name == unit and directory in DIRECTORIES and path != paths.SNAPSHOTTER_UNIT_FILE
        ):
            return unit
    return ""


def drop_in_directories() -> tuple[str, ...]:
    """Where drop-ins for these units may lie."""
    return tuple(f"{directory}/{unit}.d" for directory in DIRECTORIES for unit in WATCHED)


def findings(path: str, unit: str, text: str, containerd_config: str) -> Iterator[Finding]:
    """A finding for each setting of the file that contradicts."""
    for one in contradictions(unit, text, containerd_config):
        what = f"{path} sets {one.key}={one.theirs} for {unit}; needed is {one.ours}: {one.why}"
        yield Finding(Kind.UNIT_OVERRIDDEN, path, what, Remedy.HAND, f"systemctl cat {unit}")


def contradictions(unit: str, text: str, containerd_config: str) -> Iterator[Contradiction]:
    """What in a unit file or drop-in works against us."""
    for section, key, value in settings(text):
        if unit == paths.SNAPSHOTTER_UNIT:
            yield from _snapshotter(section, key, value)
        else:
            yield from _containerd(section, key, value, containerd_config)


def _snapshotter(section: str, key: str, value: str) -> Iterator[Contradiction]:
    match section, key:
        case "Service", "KillMode" if value != "process":
            yield Contradiction(
                key, value, "process", "a restart would end the roots of all running containers"
            )
        case "Service", "ExecStart" if value:
            why = "the snapshotter would run without what was applied"
            yield Contradiction(key, value, f"our command with --config {paths.SNAPSHOTTER_CONFIG}", why)
        case "Service", "Environment":
            yield from _environment(key, value)
        case "Service", "UnsetEnvironment" if "NO_PROXY" in value.upper():
            yield Contradiction(
                key, value, "NO_PROXY with 127.0.0.1", "the mirror would be asked through a proxy"
            )
        case "Service", "Restart" if value not in ("always", "on-failure"):
            yield Contradiction(key, value, "always", "after a crash no new pod would start")
        case "Unit", "StartLimitIntervalSec" | "StartLimitInterval" if value not in ("0", "0s", "infinity"):
            why = "systemd would give it up after some crashes, and no new pod would start"
            yield Contradiction(key, value, "0", why)
        case _:
            return


def _environment(key: str, value: str) -> Iterator[Contradiction]:
    if not value:
        yield Contradiction(key, '""', "ours", "it takes NO_PROXY and our certificates away")
        return
    for entry in words(value):
        name, _, text = entry.partition("=")
        if name.upper() == "NO_PROXY" and "127.0.0.1" not in text.split(","):
            why = "the mirror would be asked through a proxy"
            yield Contradiction(key, entry, f"{name} with 127.0.0.1 in it", why)
        if name == "SSL_CERT_FILE" and text != paths.CA_BUNDLE:
            why = "nydusd would not trust the CAs of private registries"
            yield Contradiction(key, entry, f"SSL_CERT_FILE={paths.CA_BUNDLE}", why)


def _containerd(section: str, key: str, value: str, config: str) -> Iterator[Contradiction]:
    if (section, key) == ("Service", "KillMode") and value != "process":
        yield Contradiction(key, value, "process", "a restart of containerd would end all containers")
    if (section, key) == ("Service", "ExecStart") and root_file(words(value)) not in ("", config):
        why = "containerd would not read the file that holds what was applied"
        yield Contradiction(key, value, f"--config {config}", why)


def root_file(command: Sequence[str]) -> str:
    """containerd's root file by its command line; "" where it is none of containerd's, or has variables."""
    if not command or posixpath.basename(command[0]) != "containerd" or "$" in " ".join(command):
        return ""
    told = option_of(command, "--config", "-config", "-c", "--c") or _ROOT_FILE
    return posixpath.normpath(posixpath.join("/", told))


def command_of(unit: UnitFact, files: Sequence[FileFact]) -> Sequence[str]:
    """What the unit starts once systemd has read its files."""
    commands = [unit.command]
    for fact in files if unit.needs_reload else ():
        for section, key, value in settings(fact.content.decode(errors="replace")):
            if (section, key) == ("Service", "ExecStart"):
                commands = [*commands, tuple(words(value.lstrip("-@:+!|")))] if value else []
    return commands[-1] if commands else ()


def settings(text: str) -> Iterator[tuple[str, str, str]]:
    """(section, key, value) in order; lines that end in a backslash go on (systemd.syntax(7))."""
    section = ""
    for line in _joined(text):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            key, _, value = line.partition("=")
            yield section, key.strip(), value.strip()


def _joined(text: str) -> Iterator[str]:
    held = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        if held or line:
            yield held + line
        held = ""
    if held:
        yield held.strip()


def words(value: str) -> list[str]:
    """A value that is a list, or a command; in quotation marks a word may have spaces."""
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()
