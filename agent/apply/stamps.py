"""Whether a program is still the file that it was, by what the file system says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent import paths
from agent.apply import documents
from agent.errors import ProcessError
from agent.ports import Ports

_RUN_S = 20.0


def stamps_of(ports: Ports, paths_: Sequence[str]) -> Mapping[str, str]:
    """Inode, size and time of each file: other after each replacement. What is not there is left out."""
    if not paths_:
        return {}
    try:
        text = ports.processes.run(["stat", "-L", "-c", "%n %i %s %Y", *paths_], deadline_s=_RUN_S, ok=(0, 1)).stdout
    except ProcessError:
        return {}
    rows = (line.rsplit(" ", 3) for line in text.splitlines())
    return {row[0]: " ".join(row[1:]) for row in rows if len(row) == 4}


def replaced(ports: Ports) -> bool:
    """Whether a program is another file than when the node was changed or last proved: by expected.json, of which an
    apply with nothing to do needs no more than this. Raises FileError.
    """
    try:
        rows = documents.parsed(ports.files.read(paths.EXPECTED)).get("programs", [])
        known = {str(row["path"]): row["stamp"] for row in rows}
    except (KeyError, TypeError):
        return False
    stamps = stamps_of(ports, tuple(known))
    return any(stamps.get(path) != stamp for path, stamp in known.items())
