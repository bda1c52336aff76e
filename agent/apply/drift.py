"""Drift: what somebody changed that is ours, against the newest accepted generation."""

from __future__ import annotations

from agent.apply import generations
from agent.errors import ApplyError, FileError
from agent.ports import Files


def drifted(files: Files) -> tuple[str, ...]:
    """Each file that is not what the generations made of it, in words. Another owner's file that we edited counts too:
    a package upgrade may have replaced it.
    """
    try:
        history = generations.history(files)
    except (ApplyError, FileError) as error:
        return (f"what was applied cannot be read: {error}",)
    found = []
    for original in generations.originals(history):
        try:
            fact = files.read(original.path)
        except FileError as error:
            found.append(f"{original.path} cannot be read: {error.cause}")
            continue
        if (fact.content if fact is not None else None) != original.written:
            found.append(_words(original.path, there=fact is not None, wanted=original.written is not None))
    return tuple(found)


def _words(path: str, *, there: bool, wanted: bool) -> str:
    if not there:
        return f"{path} was removed"
    return f"{path} was edited after it was applied" if wanted else f"{path} was made after it was removed"
