"""`nydus-agent apply` twice in one process, on the node, by the installed package; the last line of stderr is
JSON.

The second time nothing is loaded and nothing is used for the first time, so its look at the node takes as
long as looking does: what the first run's look took more is the program's price, wherever and in whichever
thread it is paid.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

_PACKAGE = "/usr/share/nydus-node-agent"


def main() -> int:
    """As /usr/bin/nydus-agent does it."""
    sys.path.insert(0, _PACKAGE)
    from agent.__main__ import main as run
    from agent.commands import apply  # noqa: F401

    inspection: Any = sys.modules["agent.proof.inspection"]
    observe, looks = inspection.observe, []

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        facts = observe(*args, **kwargs)
        looks.append((time.perf_counter() - began) * 1000)
        return facts

    inspection.observe = timed
    status = run(["apply"]) or run(["apply"])
    print(json.dumps({"first look": looks[0], "observe": looks[-1]}), file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
