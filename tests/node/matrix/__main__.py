"""`python3 -m tests.node.matrix [--quick]`: run the combinations, print the table. Exit 1 where one is not
right.

The full form runs every mode on every form with every containerd, the quick one whatever two of them meet.
"""

from __future__ import annotations

import argparse
import sys

from tests.node.matrix import choice, ground, table
from tests.node.matrix.run import Row, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.node.matrix", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    chosen = choice.pairwise(choice.everything()) if options.quick else choice.everything()
    rows: list[Row] = []
    for line in choice.FORMS:
        with ground.ready(line) as ready:
            for one in (one for one in chosen if one.line == line):
                rows.append(run(ready, one))
                print(f"{', '.join(one)}: {rows[-1].verdict}", flush=True)
    print(table.text(rows))
    table.save(rows, quick=options.quick)
    return 1 if any(row.problems for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
