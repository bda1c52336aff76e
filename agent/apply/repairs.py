"""The account of repairs for `plan.backoff`: root's file in /var/lib, so that no crash and no boot begins anew."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agent import paths
from agent.plan.backoff import Repaired
from agent.ports import Files

API_VERSION = "nydus-agent/v1"


def read(files: Files) -> tuple[Repaired, ...]:
    """The account; empty where there is none or it makes no sense. Raises FileError."""
    fact = files.read(paths.REPAIRS)
    try:
        rows = json.loads(fact.content)["repairs"] if fact is not None else []
        return tuple(Repaired(row["subject"], int(row["times"]), float(row["at"]), row["hint"]) for row in rows)
    except (ValueError, KeyError, TypeError):
        return ()


def write(files: Files, account: Sequence[Repaired]) -> None:
    """Replace it; an empty one goes. Raises FileError."""
    fact = files.read(paths.REPAIRS)
    seen = fact.sha256 if fact is not None else ""
    if not account:
        if fact is not None:
            files.remove(paths.REPAIRS, expect_sha256=seen)
        return
    rows = [{"subject": one.subject, "times": one.times, "at": one.at, "hint": one.hint} for one in account]
    document = {"apiVersion": API_VERSION, "kind": "Repairs", "repairs": rows}
    content = json.dumps(document, indent=1).encode() + b"\n"
    files.replace(paths.REPAIRS, content, mode=0o600, uid=0, gid=0, expect_sha256=seen)
