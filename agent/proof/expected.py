"""What was applied, as the generations have recorded it, and what everyone may know of it (expected.json).

The daemon may not read what root's records hold. It gets the paths, and asks for an inspection when one of
them changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agent import paths
from agent.codec import to_document, try_from_json
from agent.config.accepted import restored
from agent.config.model import Config
from agent.containerd.keys import KeyPath
from agent.documents.drift import Expected, ExpectedProgram, ExpectedUnitFile
from agent.errors import FileError, PortError
from agent.facts import node
from agent.node import installed
from agent.node.installed import DIRECTORIES
from agent.plan.repair import Recorded, keys_after, parsed
from agent.ports import Files, Ports
from agent.records import generations, json_files, undo
from agent.records.generations import Generation

_LINK = f"/etc/systemd/system/multi-user.target.wants/{paths.SNAPSHOTTER_UNIT}"
_PROGRAMS = {"nydusd": "nydusd", "nydus-image": "nydus-image", "snapshotter": "containerd-nydus-grpc"}


def recorded(history: Sequence[Generation]) -> tuple[Recorded, ...]:
    """Every file that the generations have touched, as the last one left it."""
    found: dict[str, Recorded] = {}
    for generation in history:
        for one in generation.steps:
            if isinstance(one.undo, undo.PutBack):
                found[one.undo.path] = _recorded(one.undo, found.get(one.undo.path))
    return tuple(found.values())


def _recorded(back: undo.PutBack, last: Recorded | None) -> Recorded:
    whole = back.owned or back.path == paths.NYDUSD_TEMPLATE
    if back.after is not None:
        whole = whole or node.marked(back.after)
    elif last is not None:
        whole = last.whole
    keys: Mapping[KeyPath, object] = {}
    if not whole and back.after is not None:
        keys = keys_after(last.keys if last is not None else {}, parsed(back.before), parsed(back.after))
    mode = back.mode if back.mode_after is None else back.mode_after
    return Recorded(back.path, back.after, mode, back.uid, back.gid, whole, keys)


def read(files: Files) -> Expected | None:
    """What is published. Raises FileError."""
    return json_files.load(Expected, files, paths.EXPECTED)


def publish(ports: Ports, accepted: Generation) -> None:
    """Write expected.json for what is in force now; a removal takes it away. Raises FileError."""
    if accepted.verb == "remove":
        json_files.drop(ports.files, paths.EXPECTED)
        return
    fact = ports.files.read(paths.EXPECTED)
    before = try_from_json(Expected, json_files.parsed(fact))
    document = to_document(make(ports, accepted, generations.history(ports.files), before))
    if fact is None or fact.content != json_files.encoded(document):
        json_files.replace(ports.files, paths.EXPECTED, document, found=fact, mode=0o644)


def make(
    ports: Ports, accepted: Generation, history: Sequence[Generation], known: Expected | None
) -> Expected:
    """What is in force; what `known` says of programs that are still the same is not made anew."""
    config = restored(Config(), accepted.config)
    files = tuple(one.path for one in recorded(history) if one.whole or one.keys)
    links = (_LINK,) if paths.SNAPSHOTTER_UNIT in ports.files.listdir(_LINK.rpartition("/")[0]) else ()
    programs = _programs(ports, config, accepted, known)
    return Expected(accepted.number, (*files, *links), _unit_files(ports, config, known), programs)


def links_of(expected: Expected) -> tuple[str, ...]:
    """The links that enabled our unit."""
    return tuple(path for path in expected.files if path == _LINK)


def _unit_files(ports: Ports, config: Config, known: Expected | None) -> tuple[ExpectedUnitFile, ...]:
    try:
        found = unit_files(ports, config)
        return tuple(ExpectedUnitFile(path, digest) for _unit, path, digest, _text in found)
    except PortError:
        return known.unit_files if known is not None else ()


def unit_files(ports: Ports, config: Config) -> Iterator[tuple[str, str, str, str]]:
    """(unit, path, digest, text) of every unit file and drop-in of others for the snapshotter's unit and
    containerd's.

    Raises SystemdError, FileError.
    """
    for name in (paths.SNAPSHOTTER_UNIT, config.containerd.unit):
        unit = ports.units.get(name)
        if unit is None:
            continue
        for path in (unit.fragment_path, *unit.drop_in_paths):
            fact = ports.files.read(path) if path and path != paths.SNAPSHOTTER_UNIT_FILE else None
            if fact is not None:
                yield name, path, fact.sha256, fact.content.decode(errors="replace")


def _programs(
    ports: Ports, config: Config, accepted: Generation, known: Expected | None
) -> tuple[ExpectedProgram, ...]:
    """The programs that were found when the node was changed: the versions are in the generation."""
    versions = accepted.versions
    before = {one.path: one for one in known.programs} if known is not None else {}
    names = {**_PROGRAMS, "containerd": config.containerd.program}
    packaged = installed.paths_of(config, ports.files)
    named = (
        (name, packaged.get(file) or _path_of(ports, file))
        for name, file in names.items()
        if name in versions
    )
    found = {name: path for name, path in named if path}
    programs = (_program(ports, name, path, versions[name], before.get(path)) for name, path in found.items())
    return tuple(one for one in programs if one is not None)


def _program(
    ports: Ports, name: str, path: str, version: str, known: ExpectedProgram | None
) -> ExpectedProgram | None:
    """What is `known` of a program stays where it cannot be looked at."""
    try:
        stamp = ports.files.stamp(path)
        same = known is not None and known.stamp == stamp
        digest = known.sha256 if known is not None and same else ports.files.sha256(path)
    except FileError:
        return known
    if stamp is None or digest is None:
        return None
    return ExpectedProgram(name, path, version, stamp, digest)


def _path_of(ports: Ports, name: str) -> str:
    """Where a program is found first, or may be (a path is one already); "" where it is not."""
    for path in (name,) if "/" in name else tuple(f"{directory}/{name}" for directory in DIRECTORIES):
        try:
            if ports.files.head(path, 1) is not None:
                return path
        except PortError:
            return path
    return ""


def programs_replaced(files: Files) -> bool:
    """Whether a program is, or may be, another file than when the node was changed or last proved: by
    expected.json, of which an apply with nothing to do needs no more than this. What cannot be looked at may
    be another.

    Raises FileError.
    """
    try:
        rows = json_files.parsed(files.read(paths.EXPECTED)).get("programs", [])
        known = {str(row["path"]): row["stamp"] for row in rows}
    except (KeyError, TypeError):
        return True
    try:
        return any(files.stamp(path) != stamp for path, stamp in known.items())
    except FileError:
        return True
