"""expected.json, and what is read of drift.json. Pure; decoding is defensive, because a reader may be older
or newer than the writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent import API_VERSION
from agent.plan.drift import Expected, ExpectedProgram, Finding, Kind, Remedy


def encode_expected(expected: Expected) -> dict[str, object]:
    """For everyone to read: no contents."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Expected",
        "generation": expected.generation,
        "files": list(expected.files),
        "unit_files": [{"path": path, "sha256": sha256} for path, sha256 in expected.unit_files],
        "programs": [
            {"name": one.name, "path": one.path, "version": one.version, "stamp": one.stamp,
             "sha256": one.sha256}
            for one in expected.programs
        ],
    }  # fmt: skip


def decode_expected(document: Mapping[str, Any] | None) -> Expected | None:
    """None where there is no document, or one that makes no sense."""
    if document is None:
        return None
    try:
        return Expected(
            int(document["generation"]),
            tuple(map(str, document["files"])),
            tuple((str(one["path"]), str(one["sha256"])) for one in document["unit_files"]),
            tuple(ExpectedProgram(one["name"], one["path"], one["version"], one["stamp"], one["sha256"])
                  for one in document["programs"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return None


def decode_findings(listed: object) -> tuple[Finding, ...]:
    """Findings of a document; what makes no sense is left out."""
    return tuple(_findings(listed[:100])) if isinstance(listed, list) else ()


def _findings(items: Sequence[object]) -> Iterator[Finding]:
    for item in items:
        if not isinstance(item, Mapping):
            continue
        try:
            evidence = tuple(str(one)[:1000] for one in item["evidence"][:20])
            yield Finding(Kind(item["kind"]), str(item["subject"])[:1000], str(item["what"])[:1000],
                          Remedy(item["remedy"]), str(item["try"])[:1000], evidence)  # fmt: skip
        except (KeyError, TypeError, ValueError):
            continue
