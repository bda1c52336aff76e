"""Which sets of programs the node stands on: what is rendered, what a rollback can reach, and what runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from agent.apply import generations, journal, rollback, undo
from agent.apply.generations import Generation
from agent.node import sets
from agent.ports_install import ArtifactPorts

_RUN_S = 30.0


def sets_in_use(ports: ArtifactPorts, directory: str, *, reachable: bool = True) -> Mapping[str, str]:
    """Id -> who needs it, in words. Of generations all that a rollback can reach, else the present one and the one that
    a rollback without a number goes to.

    Raises what the ports raise: what cannot be looked at might need any of them.
    """
    found: dict[str, str] = {}
    for set_id, why in _all(ports, directory, reachable=reachable):
        found.setdefault(set_id, why)
    return found


def _all(ports: ArtifactPorts, directory: str, *, reachable: bool) -> Iterator[tuple[str, str]]:
    for path in sets.RENDERED:
        fact = ports.files.read(path)
        content = fact.content if fact is not None else None
        yield from ((one, f"{path} names it") for one in _in(content, directory))
    yield from _running(ports, directory)
    yield from _reachable(generations.history(ports.files), directory, all_of_them=reachable)
    opened = journal.read(ports.ledger)
    for intent in opened.intents if opened is not None else ():
        if isinstance(intent.undo, undo.PutBack):
            for content in (intent.undo.before, intent.undo.after):
                yield from ((one, "an interrupted change may be undone to it") for one in _in(content, directory))


def _reachable(history: tuple[Generation, ...], directory: str, *, all_of_them: bool) -> Iterator[tuple[str, str]]:
    """Sets that a generation came to, and that the files of then name."""
    before = rollback.before(history)
    near = [*history[-1:], *([before] if before is not None else [])]
    for generation in history if all_of_them else near:
        said = f"a rollback to generation {generation.number} needs it"
        artifacts = (generation.config or {}).get("artifacts")
        yield from ((one, said) for one in sets.ids_in(json.dumps(artifacts)))
        for file in rollback.touched(history, generation):
            yield from ((one, said) for one in _in(file.then, directory))


def _in(content: bytes | None, directory: str) -> tuple[str, ...]:
    return sets.named((content or b"").decode(errors="replace"), directory)


def _running(ports: ArtifactPorts, directory: str) -> Iterator[tuple[str, str]]:
    """Of every process whose program lies in the store (proc_pid_exe(5)), also where it was removed since.

    Raises ProcessError.
    """
    argv = ["find", "/proc", "-maxdepth", "2", "-name", "exe", "-lname", f"{directory}/*", "-printf", "%h %l\\n"]
    # 1: a process ended meanwhile; its link cannot be read, and it needs nothing.
    listed = ports.processes.run(argv, deadline_s=_RUN_S, ok=(0, 1)).stdout
    for line in listed.splitlines():
        place, _, target = line.partition(" ")
        for one in sets.named(target, directory):
            yield one, f"process {place.rpartition('/')[2]} runs {target.rpartition('/')[2]} of it"
