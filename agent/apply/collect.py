"""Bring archives that a lock pins together, for a bundle: fetched, verified and taken apart as for an installation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.apply import locks
from agent.apply.provide import FETCH_S
from agent.artifacts.bundle import Bundle
from agent.artifacts.fetching import Job, Progress, Source
from agent.ports_artifacts import ArtifactStore
from agent.ports_install import ArtifactPorts


@contextmanager
def archives(
    planned: Bundle,
    found: locks.Found,
    source: Source,
    store: ArtifactStore,
    ports: ArtifactPorts,
    progress: Callable[[Progress], None],
) -> Iterator[str]:
    """A directory beside the store's sets with every archive of the bundle under its own name; gone afterwards.

    The floor is not asked: it is this node's, and the bundle is for others. Raises ArtifactError, LockedError.
    """
    locks.demand(found, store, locks.utc(ports.clock.now()), allow_older=True)
    wanted = [member.artifact for member in planned.members]
    unpacked = max(sum(program.size for program in one.programs) for one in wanted)
    with store.lock("artifacts bundle"), store.staging(sum(one.size for one in wanted) + unpacked) as into:
        for one in wanted:
            others = tuple(other for other in found.lock.artifacts if other != one)
            job = Job((one,), source, archives_only=True, others=others)
            ports.downloads().fetch(job, into, progress, deadline_s=FETCH_S)
        yield into
