"""Keeps account of the restarts that we make, for `plan.budget`: root's file in /var/lib, so that it survives
a reboot.

A restart is on the disk before it is made: one that is killed in the middle counts too.
"""

from __future__ import annotations

from agent import API_VERSION, paths
from agent.apply import documents
from agent.durations import in_words
from agent.errors import ApplyError
from agent.node.facts import FileFact
from agent.plan import budget
from agent.plan.budget import Allowed, Judgement, NotBefore, Restart, RestartBudget
from agent.plan.steps import Plan, UnitStep, UnitVerb
from agent.ports import Files, Ports


def note(ports: Ports, unit: str) -> None:
    """`unit` is about to be restarted. Raises FileError."""
    now = ports.clock.moment()
    fact = ports.files.read(paths.RESTARTS)
    known = budget.kept(_understood(fact), now)
    rows = (*known, Restart(unit, now.now, now.boot, now.boottime))
    document = {
        "apiVersion": API_VERSION, "kind": "Restarts",
        "restarts": [
            {"unit": one.unit, "at": one.at, "boot": one.boot, "boottime": one.boottime} for one in rows
        ],
    }  # fmt: skip
    documents.replace(ports.files, paths.RESTARTS, document, found=fact, mode=0o600)


def history(files: Files) -> tuple[Restart, ...]:
    """The restarts that were made; none where the account is not there or damaged. Raises FileError."""
    return _understood(files.read(paths.RESTARTS))


def _understood(fact: FileFact | None) -> tuple[Restart, ...]:
    try:
        rows = documents.parsed(fact)["restarts"]
        return tuple(
            Restart(row["unit"], float(row["at"]), row["boot"], float(row["boottime"])) for row in rows
        )
    except (ValueError, KeyError, TypeError):
        return ()  # an account that nobody can read must not keep a node from being mended


def judge(ports: Ports, unit: str, policy: RestartBudget) -> Judgement:
    """Whether a unit may be restarted now. Raises SystemdError, FileError."""
    fact = ports.units.get(unit)
    if fact is None:
        return Allowed()  # what is not there is not restarted
    return budget.may_restart(fact, history(ports.files), ports.clock.moment(), policy)


def restarted(plan: Plan) -> tuple[str, ...]:
    """The units that a plan restarts, in its order."""
    return tuple(
        step.unit for step in plan.steps if isinstance(step, UnitStep) and step.verb is UnitVerb.RESTART
    )


def begun_anew(plan: Plan) -> frozenset[str]:
    """The units of which something new runs after it."""
    verbs = (UnitVerb.START, UnitVerb.RESTART)
    return frozenset(step.unit for step in plan.steps if isinstance(step, UnitStep) and step.verb in verbs)


def held(ports: Ports, plan: Plan, policy: RestartBudget) -> NotBefore | None:
    """The judgement that lets a plan wait longest; None where it may begin now.

    Raises SystemdError, FileError.
    """
    found = (judge(ports, unit, policy) for unit in restarted(plan))
    waits = [one for one in found if isinstance(one, NotBefore)]
    return max(waits, key=lambda one: one.seconds) if waits else None


def refuse(waits: NotBefore, verb: str = "apply") -> None:
    """Raises ApplyError NNA0415."""
    raise ApplyError(
        "NNA0415", f"the change has to wait for {in_words(waits.seconds + 1)}: it would restart too much",
        cause=waits.reason, try_=f"nydus-agent {verb} --now",
    )  # fmt: skip
