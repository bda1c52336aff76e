"""The account of repairs for `plan.backoff`: root's file in /var/lib, so that no crash and no boot begins anew."""

from __future__ import annotations

from collections.abc import Sequence

from agent import API_VERSION, paths
from agent.apply import documents
from agent.plan.backoff import Repaired
from agent.ports import Files


def read(files: Files) -> tuple[Repaired, ...]:
    """The account; empty where there is none or it makes no sense. Raises FileError."""
    document = documents.parsed(files.read(paths.REPAIRS))
    try:
        return tuple(
            Repaired(row["subject"], int(row["times"]), float(row["at"]), row["hint"]) for row in document["repairs"]
        )
    except (ValueError, KeyError, TypeError):
        return ()


def write(files: Files, account: Sequence[Repaired]) -> None:
    """Replace it; an empty one goes. Raises FileError."""
    if not account:
        documents.drop(files, paths.REPAIRS)
        return
    rows = [{"subject": one.subject, "times": one.times, "at": one.at, "hint": one.hint} for one in account]
    document = {"apiVersion": API_VERSION, "kind": "Repairs", "repairs": rows}
    documents.replace(files, paths.REPAIRS, document, found=files.read(paths.REPAIRS), mode=0o600)
