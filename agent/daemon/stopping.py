"""Is this a stop or a restart? Both begin with the same signal; only systemd's job tells them apart."""

from __future__ import annotations

from agent import paths
from agent.errors import ProcessError
from agent.ports_processes import Processes

_DEADLINE_S = 1.0


def being_restarted(processes: Processes) -> bool:
    """Whether systemd stops the daemon's unit in order to start it again. False where that cannot be told: a fence
    that is left behind without need would be worse than one that is lifted for the moment of a restart.
    """
    argv = ("systemctl", "list-jobs", "--no-legend", "--plain", "--no-pager", paths.AGENT_UNIT)
    try:
        jobs = processes.run(argv, deadline_s=_DEADLINE_S).stdout
    except ProcessError:
        return False
    return any(line.split()[1:3] == [paths.AGENT_UNIT, "restart"] for line in jobs.splitlines())
