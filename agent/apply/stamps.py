"""Whether a program is still the file that it was, by what the file system says of it."""

from __future__ import annotations

from agent import paths
from agent.apply import documents
from agent.errors import FileError
from agent.ports import Files


def replaced(files: Files) -> bool:
    """Whether a program is, or may be, another file than when the node was changed or last proved: by expected.json, of
    which an apply with nothing to do needs no more than this. What cannot be looked at may be another.

    Raises FileError.
    """
    try:
        rows = documents.parsed(files.read(paths.EXPECTED)).get("programs", [])
        known = {str(row["path"]): row["stamp"] for row in rows}
    except (KeyError, TypeError):
        return True
    try:
        return any(files.stamp(path) != stamp for path, stamp in known.items())
    except FileError:
        return True
