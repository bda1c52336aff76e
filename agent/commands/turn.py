"""This node's turn to restart containerd or the snapshotter, among many nodes that were told to change at one moment
(an unattended upgrade, say).
"""

from __future__ import annotations

from agent.apply import change, restarts
from agent.apply.execute import Stop
from agent.config.model import Config
from agent.console import Console
from agent.durations import in_words
from agent.health.fleet import return_delay_s
from agent.node.identity import node_identity
from agent.ports import Ports

JUST_BOOTED_S = 300.0
"""A node that has come up this moment has nothing to lose by a restart, and should not serve a while without us."""
_SLICE_S = 1.0  # a signal must not wait longer


def wait(config: Config, ports: Ports, stop: Stop, console: Console) -> None:
    """Returns when it is this node's turn: at once where nothing has to restart. The lock is not held meanwhile.

    Raises ApplyError NNA0404 after a signal, PlanError.
    """
    delay_s = return_delay_s(node_identity(), config.fleet.restart_window_s)
    now = ports.clock.moment()
    if delay_s <= 0 or (now.up_s is not None and now.up_s < JUST_BOOTED_S):
        return
    _facts, _effective, plan = change.look(config, ports)
    units = restarts.restarted(plan)
    if not units:
        return
    console.progress(f"{' and '.join(units)} will be restarted in {in_words(delay_s)}, at this node's turn")
    end = ports.clock.monotonic() + delay_s
    while (left := end - ports.clock.monotonic()) > 0:
        stop.check()
        ports.clock.sleep(min(left, _SLICE_S))
