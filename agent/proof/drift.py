"""Drift: what the plan of the accepted generation would put back, what else is not as it was applied, and the
account of repairs.

What was applied is what the generations have recorded. The daemon may not read that: it gets the paths
(expected.json), and asks for an inspection when one of them changes. Nothing here changes the node, and
nothing asks the mirror: a mirror that is at fault is never drift.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from agent import paths
from agent.codec import to_document
from agent.config.accepted import restored
from agent.config.model import Config
from agent.containerd.view import KeyPath
from agent.documents.drift import (
    REPAIR_COMMAND,
    DriftReport,
    Expected,
    ExpectedProgram,
    ExpectedUnitFile,
    Finding,
    Kind,
    Remedy,
    masked_finding,
    ours,
)
from agent.errors import ApplyError, FileError, PortError, hide
from agent.facts import node
from agent.facts.node import UnitFact
from agent.node import installed
from agent.node.installed import DIRECTORIES
from agent.plan import limits, unit_files
from agent.plan.limits import RepairAccount, Repaired
from agent.plan.repair import FileDrift, Recorded, compare, keys_after, parsed
from agent.ports import Files, Ports
from agent.proof import drift_running
from agent.records import generations, json_files
from agent.records.generations import FileHistory, Generation

_LINK = f"/etc/systemd/system/multi-user.target.wants/{paths.SNAPSHOTTER_UNIT}"
"""Enables our unit."""
_PROGRAMS = {"nydusd": "nydusd", "nydus-image": "nydus-image", "snapshotter": "containerd-nydus-grpc"}


@dataclass(frozen=True, slots=True)
class DriftFound:
    """What was found, and what could not be looked at (never to be taken for "nothing")."""

    generation: Generation | None
    records: tuple[Recorded, ...] = ()
    differences: tuple[FileDrift, ...] = ()
    """Of the files, each with the step that mends it."""
    findings: tuple[Finding, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def repairable(self) -> tuple[Finding, ...]:
        """What `nydus-agent repair` mends."""
        return tuple(one for one in self.findings if one.remedy is Remedy.REPAIR)


def find_drift(config: Config, ports: Ports) -> DriftFound:
    """Everything that was applied, against the node as it is. Raises nothing that a port raises."""
    try:
        last = generations.applied(ports.files)
        history = generations.history(ports.files) if last is not None else ()
    except (ApplyError, FileError) as error:
        return DriftFound(None, unseen=(f"what was applied cannot be read: {error}",))
    if last is None:
        return DriftFound(None)
    config = restored(config, last.config)
    records = recorded(history)
    known = _known(ports, last, history)
    units = (paths.SNAPSHOTTER_UNIT, config.containerd.unit)
    differences: list[FileDrift] = []
    unseen: list[str] = []
    for record in records:
        try:
            difference = compare(record, ports.files.read(record.path))
        except FileError as error:
            unseen.append(_unseen(record.path, error))
        else:
            differences += [difference] if difference is not None else []
    looks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("units", lambda: _units(ports, records, known)),
        ("unit files of others", lambda: _unit_files(config, ports, known)),
        *((one.path, partial(drift_running.program, ports, one)) for one in known.programs),
        *((f"the program of {unit}", partial(drift_running.unit_outdated, ports, unit)) for unit in units),
        ("the programs of running nydusd", lambda: drift_running.nydusd_outdated(config, ports)),
        ("containerd", lambda: drift_running.containerd(config, ports, records, differences)),
        ("nydusd", lambda: drift_running.nydusds(config, ports, last, records)),
        ("our own package", lambda: drift_running.package(ports)),
    )
    found = [finding for one in differences for finding in one.findings]
    for what, look in looks:
        try:
            found += look()
        except PortError as error:
            unseen.append(_unseen(what, error))
    if any(one.kind is Kind.UNIT_MASKED for one in found):
        # A link to /dev/null lies in the place of our file: that is told, and nothing else of that file.
        found = [one for one in found if one.subject != paths.SNAPSHOTTER_UNIT_FILE]
        unseen = [one for one in unseen if not one.startswith(f"{paths.SNAPSHOTTER_UNIT_FILE} ")]
    return DriftFound(last, records, tuple(differences), tuple(found), tuple(unseen))


def _unseen(what: str, error: PortError) -> str:
    return f"{what} could not be looked at: {error.cause or error.what}"


def _known(ports: Ports, last: Generation, history: Sequence[Generation]) -> Expected:
    """What is published; made now where there was no room for it."""
    try:
        published = read_expected(ports.files)
    except FileError:
        published = None
    if published is not None and published.generation == last.number:
        return published
    return _expected(ports, last, history, published)


def _units(ports: Ports, records: Sequence[Recorded], known: Expected) -> Iterator[Finding]:
    if not any(one.path == paths.SNAPSHOTTER_UNIT_FILE and one.content is not None for one in records):
        return
    name = paths.SNAPSHOTTER_UNIT
    unit = ports.units.get(name)
    if unit is None or unit.load_state == "masked":
        if unit is not None:
            yield masked_finding(name)
        return
    if _LINK in known.files and not _enabled(ports):
        yield ours(Kind.UNIT_DISABLED, name, f"{name} does not start at boot any more: {_LINK} is gone")
    yield from _unit_state(unit)


def _unit_state(unit: UnitFact) -> Iterator[Finding]:
    if not unit.runs and unit.active_state != "deactivating":
        what = f"{unit.name} does not run: it is {unit.active_state} ({unit.sub_state}), result {unit.result}"
        yield Finding(Kind.UNIT_DOWN, unit.name, what, Remedy.REPAIR, REPAIR_COMMAND)
    if unit.needs_reload:
        what = f"systemd has not read {unit.name} since its file or a drop-in was changed"
        yield Finding(Kind.UNIT_NOT_READ, unit.name, what, Remedy.REPAIR, REPAIR_COMMAND)
    if unit.fragment_path != paths.SNAPSHOTTER_UNIT_FILE and unit.fragment_path:
        what = (
            f"systemd takes {unit.name} from {unit.fragment_path}; applied was {paths.SNAPSHOTTER_UNIT_FILE}"
        )
        yield Finding(Kind.UNIT_OVERRIDDEN, unit.name, what, Remedy.HAND, f"systemctl cat {unit.name}")


def _unit_files(config: Config, ports: Ports, known: Expected) -> Iterator[Finding]:
    """Those that were there unchanged when the change was proved are no drift."""
    for unit, path, digest, text in _others_unit_files(ports, config):
        if ExpectedUnitFile(path, digest) not in known.unit_files:
            yield from unit_files.findings(path, unit, text, config.containerd.config)


def tell(ports: Ports, looked: DriftFound) -> None:
    """Publish what was found in drift.json, and what was applied where the daemon has not got it. Without
    anything applied drift.json goes.

    Where there is no room for that, the proof tells, and the next inspection tries again.
    """
    last = looked.generation
    with contextlib.suppress(FileError, ApplyError):
        if last is None:
            if not looked.unseen:
                json_files.drop(ports.files, paths.DRIFT)
            return
        published = read_expected(ports.files)
        if published is None or published.generation != last.number:
            publish_expected(ports, last)
        now = ports.clock.now()
        subjects = [one.subject for one in looked.repairable]
        report = DriftReport(
            now, last.number, tuple(map(_told, looked.findings)), tuple(map(hide, looked.unseen)),
            limits.gave_up(read_repairs(ports.files), subjects, now),
        )  # fmt: skip
        found = ports.files.read(paths.DRIFT)
        json_files.update(ports.files, paths.DRIFT, to_document(report), found, ignored=["at"])


def _told(finding: Finding) -> Finding:
    """As everyone may read it: a value that somebody has set may be a secret."""
    return replace(finding, what=hide(finding.what), evidence=tuple(map(hide, finding.evidence)))


def read_repairs(files: Files) -> tuple[Repaired, ...]:
    """The account of repairs, in a file of root's, so that no crash and no boot begins anew; empty where
    there is none or it makes no sense. Raises FileError.
    """
    account = json_files.load(RepairAccount, files, paths.REPAIRS)
    return account.repairs if account is not None else ()


def write_repairs(files: Files, account: Sequence[Repaired]) -> None:
    """Replace it; an empty one goes. Raises FileError."""
    if not account:
        json_files.drop(files, paths.REPAIRS)
        return
    document = to_document(RepairAccount(tuple(account)))
    json_files.replace(files, paths.REPAIRS, document, found=files.read(paths.REPAIRS), mode=0o600)


def recorded(history: Sequence[Generation]) -> tuple[Recorded, ...]:
    """Every file that the generations have touched, as the last one left it."""
    return tuple(_recorded(one) for one in generations.file_histories(history))


def _recorded(file: FileHistory) -> Recorded:
    whole, keys = file.first.owned, dict[KeyPath, object]()
    for _, back in file.changes:
        if back.after is not None:
            whole = back.owned or back.path == paths.NYDUSD_TEMPLATE or node.marked(back.after)
            keys = {} if whole else dict(keys_after(keys, parsed(back.before), parsed(back.after)))
    last = file.changes[-1][1]
    held = keys if last.after is not None else {}
    return Recorded(file.path, last.after, last.mode_after, last.uid, last.gid, whole, held)


def read_expected(files: Files) -> Expected | None:
    """What is published. Raises FileError."""
    return json_files.load(Expected, files, paths.EXPECTED)


def publish_expected(ports: Ports, accepted: Generation) -> None:
    """Write expected.json for what is in force now; a removal takes it away. Raises FileError."""
    if accepted.verb == "remove":
        json_files.drop(ports.files, paths.EXPECTED)
        return
    found = ports.files.read(paths.EXPECTED)
    before = json_files.understood(Expected, found)
    made = _expected(ports, accepted, generations.history(ports.files), before)
    json_files.update(ports.files, paths.EXPECTED, to_document(made), found)


def _expected(
    ports: Ports, accepted: Generation, history: Sequence[Generation], known: Expected | None
) -> Expected:
    """What is in force; what `known` says of programs that are still the same is not made anew."""
    config = restored(Config(), accepted.config)
    files = tuple(one.path for one in recorded(history) if one.whole or one.keys)
    links = (_LINK,) if _enabled(ports) else ()
    try:
        others = tuple(
            ExpectedUnitFile(path, digest) for _, path, digest, _ in _others_unit_files(ports, config)
        )
    except PortError:
        others = known.unit_files if known is not None else ()
    return Expected(accepted.number, (*files, *links), others, _programs(ports, config, accepted, known))


def _enabled(ports: Ports) -> bool:
    return paths.SNAPSHOTTER_UNIT in ports.files.listdir(_LINK.rpartition("/")[0])


def _others_unit_files(ports: Ports, config: Config) -> Iterator[tuple[str, str, str, str]]:
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
    found = []
    for name, file in names.items():
        path = (packaged.get(file) or _path_of(ports, file)) if name in versions else ""
        program = _program(ports, name, path, versions[name], before.get(path)) if path else None
        found += [program] if program is not None else []
    return tuple(found)


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
    """Whether a program is, or may be, another file than when the node was changed or last proved. What
    cannot be looked at may be another. Raises FileError where expected.json cannot be read.
    """
    known = read_expected(files)
    try:
        return known is None or any(files.stamp(one.path) != one.stamp for one in known.programs)
    except FileError:
        return True
