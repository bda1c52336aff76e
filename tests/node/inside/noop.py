"""Where the time of an apply goes that has nothing to do: run on the node with the installed package, prints JSON (ms).

usage: python3 -I noop.py ROUNDS
"""

from __future__ import annotations

import json
import sys
import time

_PACKAGE = "/usr/share/nydus-node-agent"


def main() -> None:
    """Imports first, which can be timed once only."""
    sys.path.insert(0, _PACKAGE)
    began = time.perf_counter()
    from agent import wire
    from agent.apply import change
    from agent.commands import apply  # noqa: F401
    from agent.config.load import load
    from agent.plan import decide, diff

    config = load().config
    ports = wire.root_ports(config)
    imports = _ms(began)
    looks, plans = [], []
    for _ in range(int(sys.argv[1])):
        began = time.perf_counter()
        facts, _effective, _plan = change.look(config, ports)
        looked = _ms(began)
        began = time.perf_counter()
        diff.plan(config, facts)
        decide.effective(config, facts)
        plans.append(_ms(began))
        looks.append(looked - plans[-1])
    json.dump({"imports": imports, "observe": looks, "plan": plans}, sys.stdout)


def _ms(began: float) -> float:
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
