"""Bring programs into the store: chosen by a lock, fetched by a process without rights, verified, and only then there.

Fetching is additive: nothing on the node changes but the store, and what is current stays current until it is switched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent import paths
from agent.apply import locks, sources
from agent.artifacts import pairs, releases
from agent.artifacts.fetching import Job, Progress, Source
from agent.artifacts.lock import Artifact, ArtifactName, render
from agent.artifacts.refusals import ON_THE_WAY
from agent.artifacts.selection import age, chosen
from agent.artifacts.sets import InstalledSet, described
from agent.config.forms import CURRENT, SYSTEM, is_release, is_set_id
from agent.config.model import Config
from agent.errors import ArtifactError
from agent.node import sets
from agent.node.facts import Arch, Binary, Version
from agent.ports_artifacts import ArtifactStore
from agent.ports_install import ArtifactPorts

FETCH_S = 1800.0
"""For both archives, 60 MB together: at 40 kB/s it is done in time."""

Wishes = Mapping[ArtifactName, str | None]
"""Which version of which archive; None: the newest in the lock."""


@dataclass(frozen=True, slots=True)
class Request:
    """What shall be in the store, and by whose word."""

    wishes: Wishes
    source: Source
    lock: locks.Found | None = None
    trust: bool = False
    """The releases' own checksums are taken for good where no lock has them."""
    allow_older: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    """Names where systemd has put credentials."""


@dataclass(frozen=True, slots=True)
class Provided:
    """What is in the store now."""

    set: InstalledSet
    fetched: bool
    """False: it was there already, and nothing was asked for."""
    lock: str
    serial: int
    pinned: tuple[Artifact, ...] = ()
    """What was taken for good because its release's checksum said so."""
    cautions: tuple[str, ...] = ()


def wishes_of(config: Config, store: ArtifactStore, given: Wishes) -> Wishes:
    """What the configuration asks for, with what was given beside it in its place.

    Where the configuration asks for nothing and nothing was given, the newest of both.
    """
    found: dict[ArtifactName, str | None] = {}
    current = store.current()
    for name in ArtifactName:
        wanted = sets.wanted_of(config.artifacts, name)
        if name in given:
            found[name] = given[name]
        elif wanted == CURRENT:
            # What was not named stays as it is where something else was.
            found[name] = current.version(name) if given and current is not None else None
        elif is_set_id(wanted):
            known = store.find(wanted)
            found[name] = known.version(name) if known is not None else None
        elif wanted != SYSTEM:
            found[name] = wanted
    return found or dict.fromkeys(ArtifactName)


def pinned(config: Config) -> dict[ArtifactName, str]:
    """Versions that the configuration asks for by their number."""
    wanted = {name: sets.wanted_of(config.artifacts, name) for name in ArtifactName}
    return {name: version for name, version in wanted.items() if is_release(version)}


def missing(config: Config, ports: ArtifactPorts) -> Wishes:
    """Versions that the configuration pins and that are not installed; empty: nothing has to be fetched for it."""
    wanted = pinned(config)
    store = ports.stores(config.artifacts.directory)
    here = [sets.choose(store, name, version, None) for name, version in wanted.items()]
    return {} if all(isinstance(one, InstalledSet) for one in here) else wanted


def provide(
    request: Request,
    config: Config,
    ports: ArtifactPorts,
    arch: Arch,
    progress: Callable[[Progress], None],
    *,
    switch: bool,
) -> Provided:
    """Have these programs in the store, and current where that is asked for. Nothing of what was fetched is run.

    Raises ArtifactError, LockedError (NNA1139); then the store is as it was, and so is what is current.
    """
    store = ports.stores(config.artifacts.directory)
    now = locks.utc(ports.clock.now())
    found = request.lock
    if found is not None:
        locks.demand(found, store, now, allow_older=request.allow_older)
    artifacts, unknown = _chosen(request, arch)
    cautions = _judged(artifacts, config, ports)
    wanted = "" if unknown else described(artifacts, store.directory, "", now).id
    there = store.find(wanted) if wanted else None
    if there is not None and _settled(store, there, found, switch=switch):
        return _provided(there, found, cautions, fetched=False)
    with store.lock("artifacts install"):
        if found is not None:
            # Until the lock was ours, another run may have accepted a newer one.
            locks.demand(found, store, now, allow_older=request.allow_older)
        _note_place(ports, store.directory)
        trusted: tuple[Artifact, ...] = ()
        made = store.find(wanted) or store.mend(wanted) if wanted else None
        fetched = made is None
        if made is None:
            source = sources.unlocked(ports.files, config.artifacts, request.environment, request.source)
            job = Job(artifacts, source, trust_release_checksum=unknown, others=_others(found, artifacts))
            made, seen = _fetched(job, store, ports, found, progress)
            trusted = _pin(store, seen, found, now) if unknown else ()
        if found is not None and not found.seen:
            store.set_floor(found.lock.serial)
        if switch:
            store.switch(made.id)
    return _provided(made, found, cautions, fetched=fetched, trusted=trusted)


def _note_place(ports: ArtifactPorts, directory: str) -> None:
    """The package's purge knows our own place; of others it must be told. Raises FileError."""
    if directory.startswith(f"{paths.STATE_DIR}/"):
        return
    fact = ports.files.read(paths.ARTIFACTS_ELSEWHERE)
    lines = fact.content.decode().splitlines() if fact is not None else []
    if directory not in lines:
        content = "".join(f"{line}\n" for line in (*lines, directory)).encode()
        seen = fact.sha256 if fact is not None else ""
        ports.files.replace(paths.ARTIFACTS_ELSEWHERE, content, mode=0o644, uid=0, gid=0, expect_sha256=seen)


def _chosen(request: Request, arch: Arch) -> tuple[tuple[Artifact, ...], bool]:
    """The artifacts, and whether one of them is only known by its release: then all are, and are compared afterwards.

    Raises ArtifactError NNA1107, NNA1109, NNA1110.
    """
    try:
        if request.lock is None:
            raise ArtifactError(
                "NNA1110", "no lock says what may be installed", try_="nydus-agent artifacts install --lock FILE"
            )
        return chosen(request.lock.lock, arch, request.wishes), False
    except ArtifactError as error:
        if not request.trust or error.code not in ("NNA1107", "NNA1110"):
            raise
    nameless = [str(name) for name, version in request.wishes.items() if version is None]
    if nameless:
        raise ArtifactError(
            "NNA1110", f"no version of {' and '.join(nameless)} was given",
            cause="without a lock nobody says which one is meant", try_="give --nydus and --snapshotter",
        )  # fmt: skip
    known = request.wishes.items()
    return tuple(releases.release(name, version, arch) for name, version in known if version is not None), True


def _judged(artifacts: tuple[Artifact, ...], config: Config, ports: ArtifactPorts) -> tuple[str, ...]:
    """Cautions. Raises ArtifactError NNA1109 for versions that are known not to work, with every reason."""
    versions: dict[ArtifactName, Version | None] = {artifact.name: age(artifact.version)[0] for artifact in artifacts}
    for name in ArtifactName:
        if name not in versions and sets.wanted_of(config.artifacts, name) == SYSTEM:
            found = sets.in_path(ports, name.main_program)
            version = found.version if isinstance(found, Binary) else None
            versions[name] = version if isinstance(version, tuple) else None
    pair = pairs.Pair(
        versions.get(ArtifactName.NYDUS), versions.get(ArtifactName.SNAPSHOTTER), config.mirror.dialect,
        config.snapshotter.daemon_mode,
    )  # fmt: skip
    wrong = pairs.refused(pair)
    if wrong:
        raise ArtifactError("NNA1109", "these versions do not work", cause=wrong[0], seen=wrong[1:])
    return pairs.cautions(pair)


def _settled(store: ArtifactStore, there: InstalledSet, found: locks.Found | None, *, switch: bool) -> bool:
    """Whether nothing is to be written."""
    current = store.current()
    is_current = current is not None and current.id == there.id
    return (is_current or not switch) and (found is None or found.seen or store.floor() == found.lock.serial)


def _fetched(
    job: Job,
    store: ArtifactStore,
    ports: ArtifactPorts,
    found: locks.Found | None,
    progress: Callable[[Progress], None],
) -> tuple[InstalledSet, tuple[Artifact, ...]]:
    """Raises ArtifactError."""
    programs = sum(program.size for one in job.artifacts for program in one.programs)
    archives = sum(one.size for one in job.artifacts)  # what has come of them lies beside the programs
    with store.staging(programs, archives) as staged, store.begun() as begun:
        try:
            seen = ports.downloads().fetch(job, staged, progress, deadline_s=FETCH_S, begun=begun)
        except ArtifactError as error:
            if error.code not in ON_THE_WAY:
                store.forget_begun()
            raise
        store.forget_begun()
        if job.trust_release_checksum:
            for known in (found, locks.seen(store)):
                if known is not None:
                    locks.refuse_another(known.lock, known.path, seen)
        now = locks.utc(ports.clock.now())
        origin = job.source.place or "the releases"
        return store.adopt(staged, seen, origin=origin, now=now), seen


def _pin(
    store: ArtifactStore, seen: tuple[Artifact, ...], found: locks.Found | None, now: datetime
) -> tuple[Artifact, ...]:
    """Keep what was trusted as a lock of this node's own; what another lock has pinned needs no second one."""
    held = found.lock.artifacts if found is not None and not found.seen else ()
    new = tuple(one for one in seen if not any(locks.same(one, known) for known in held))
    before = locks.seen(store)
    kept = before.lock.artifacts if before is not None else ()
    kept = tuple(known for known in kept if not any(locks.same(one, known) for one in new))
    serial = before.lock.serial if before is not None else 0
    store.keep_seen_lock(render(locks.made((*kept, *new), now, after=serial)))
    return new


def _others(found: locks.Found | None, artifacts: tuple[Artifact, ...]) -> tuple[Artifact, ...]:
    return tuple(one for one in found.lock.artifacts if one not in artifacts) if found is not None else ()


def _provided(
    made: InstalledSet,
    found: locks.Found | None,
    cautions: tuple[str, ...],
    *,
    fetched: bool,
    trusted: tuple[Artifact, ...] = (),
) -> Provided:
    path, serial = (found.path, found.lock.serial) if found is not None else ("", 0)
    return Provided(made, fetched, path, serial, trusted, cautions)
