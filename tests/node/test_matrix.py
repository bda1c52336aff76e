"""The quick form of the matrix: whatever two of containerd, mode and form of its configuration meet,
works.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node import releases
from tests.node.matrix import choice, ground, table
from tests.node.matrix.run import Row, run

CHOSEN = choice.pairwise(choice.everything())


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    """Printed as one table when all are done."""
    found: list[Row] = []
    yield found
    table.save(found, quick=True)
    print("\n" + table.text(found))


# Configurations change under the agent all the time here, which it tells.
@pytest.mark.allow_warnings(r"^nydus-agent.service: (ChangedSinceProof|Drift|mirror \w+ -> )")
@pytest.mark.parametrize("line", releases.LINES)
def test_a_node_becomes_lazy_and_plain_again_whatever_its_containerd_is_and_how_it_is_configured(
    line: str, rows: list[Row]
) -> None:
    with ground.ready(line) as ready:
        mine = [run(ready, one) for one in CHOSEN if one.line == line]
        rows += mine
    assert [(row.mode, row.form, row.problems) for row in mine if row.problems] == []
    assert {row.verdict for row in mine} - {"refused"} == {"ok"}, "each containerd works in some way"
