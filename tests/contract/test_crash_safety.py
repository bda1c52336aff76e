"""The quick form of `make bench-crash-tree`: real processes killed and failed on real files, in the build
root.
"""

from __future__ import annotations

from typing import Any

from tests.bench import quick_form

_DEADLINE_S = 600
"""It takes about a minute on a machine that does nothing else."""


def test_a_change_that_is_killed_or_fails_at_any_call_leaves_the_node_before_or_after() -> None:
    done = quick_form.run("crash-tree", _DEADLINE_S)
    rows: list[dict[str, Any]] = done.content["rows"]
    assert [row["case"] for row in rows if row["errors"]] == []
    health_states = {name: sum(row["extra"][name] for row in rows) for name in ("before", "after", "mixed")}
    assert health_states["before"] > 200
    assert health_states["after"] > 50
    assert health_states["mixed"] == 0
    assert sum(row["extra"].get("killed", 0) for row in rows) > 100
    assert done.code == 0
