"""The quick form of `make bench-crash-artifacts`: real processes killed and failed on real files, in the build root."""

from __future__ import annotations

from typing import Any

from tests.bench import quick_form

_DEADLINE_S = 600
"""It takes half a minute on a machine that does nothing else."""


def test_an_installation_that_is_killed_or_fails_at_any_call_leaves_the_old_set_or_the_new_one() -> None:
    done = quick_form.run("crash-artifacts", _DEADLINE_S)
    rows: list[dict[str, Any]] = done.content["rows"]
    assert [row["case"] for row in rows if row["errors"]] == []
    health_states = {name: sum(row["extra"][name] for row in rows) for name in ("before", "after", "mixed")}
    assert health_states["before"] > 300
    assert health_states["after"] > 50
    assert health_states["mixed"] == 0
    at_random = [row["extra"]["killed"] for row in rows if row["case"].endswith("killed at random")]
    assert sum(at_random) >= 200
    at_each_call = [row["extra"]["killed"] for row in rows if row["case"].endswith("killed before each call")]
    assert sum(at_each_call) > 150
    (command,) = (row["extra"]["killed"] for row in rows if row["case"].endswith("the command killed at random"))
    assert command >= 5
    assert done.code == 0
