"""Drift: what the plan of the accepted generation would put back, and what else is not as it was applied.

Nothing here changes anything, and nothing asks the mirror: a mirror that is at fault is never drift.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from agent import paths
from agent.codec import to_document
from agent.config.accepted import restored
from agent.config.model import Config
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
from agent.errors import ApplyError, FileError, PortError
from agent.facts.node import UnitFact
from agent.outside_json import json_value
from agent.plan import limits, unit_files
from agent.plan.limits import RepairAccount, Repaired
from agent.plan.repair import FileDrift, Recorded, compare
from agent.plan.show import hide
from agent.ports import Files, Ports
from agent.proof import drift_running, expected
from agent.records import generations, json_files
from agent.records.generations import Generation


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
    records = expected.recorded(history)
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
        *((one.path, _program(ports, one)) for one in known.programs),
        *((f"the program of {unit}", _unit_program(ports, unit)) for unit in units),
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
    """What is published; made now where it was not (an older agent has applied, or there was no room)."""
    try:
        published = expected.read(ports.files)
    except FileError:
        published = None
    if published is not None and published.generation == last.number:
        return published
    return expected.make(ports, last, history, published)


def _program(ports: Ports, known: ExpectedProgram) -> Callable[[], Iterator[Finding]]:
    return lambda: drift_running.program(ports, known)


def _unit_program(ports: Ports, unit: str) -> Callable[[], Iterator[Finding]]:
    return lambda: drift_running.unit_outdated(ports, unit)


def _units(ports: Ports, records: Sequence[Recorded], known: Expected) -> Iterator[Finding]:
    if not any(one.path == paths.SNAPSHOTTER_UNIT_FILE and one.content is not None for one in records):
        return
    name = paths.SNAPSHOTTER_UNIT
    unit = ports.units.get(name)
    if unit is None or unit.load_state == "masked":
        if unit is not None:
            yield masked_finding(name)
        return
    for link in expected.links_of(known):
        if name not in ports.files.listdir(link.rpartition("/")[0]):
            yield ours(Kind.UNIT_DISABLED, name, f"{name} does not start at boot any more: {link} is gone")
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
    for unit, path, digest, text in expected.unit_files(ports, config):
        if ExpectedUnitFile(path, digest) not in known.unit_files:
            yield from unit_files.findings(path, unit, text, config.containerd.config)


def tell(ports: Ports, looked: DriftFound) -> None:
    """Publish what was found, and what was applied where the daemon has not got it.

    Where there is no room for that, the proof tells, and the next inspection tries again.
    """
    with contextlib.suppress(FileError, ApplyError):
        _make_known(ports, looked)
        now = ports.clock.now()
        subjects = [one.subject for one in looked.repairable]
        publish(ports.files, looked, at=now, gave_up=limits.gave_up(read_repairs(ports.files), subjects, now))


def _make_known(ports: Ports, looked: DriftFound) -> None:
    last = looked.generation
    published = expected.read(ports.files)
    if last is not None and (published is None or published.generation != last.number):
        expected.publish(ports, last)


def publish(files: Files, looked: DriftFound, *, at: float, gave_up: Sequence[str] = ()) -> None:
    """Write drift.json for everyone to read, where it does not say so already; without anything applied it
    goes.

    Raises FileError.
    """
    fact = files.read(paths.DRIFT)
    if looked.generation is None:
        if not looked.unseen:
            json_files.drop(files, paths.DRIFT)
        return
    report = DriftReport(
        at,
        looked.generation.number,
        tuple(map(_told, looked.findings)),
        tuple(map(hide, looked.unseen)),
        tuple(gave_up),
    )
    document = to_document(report)
    if fact is None or _news(fact.content) != _news(json_files.encoded(document)):
        json_files.replace(files, paths.DRIFT, document, found=fact, mode=0o644)


def _told(finding: Finding) -> Finding:
    """As everyone may read it: a value that somebody has set may be a secret."""
    return replace(finding, what=hide(finding.what), evidence=tuple(map(hide, finding.evidence)))


def _news(content: bytes) -> object:
    try:
        document = json_value(content)
        return {key: value for key, value in document.items() if key != "at"}
    except (ValueError, AttributeError):
        return None


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
