"""What a restart of the snapshotter does to nydusd processes that run, by the versions of both. Pure.

From 0.15.4 on a starting snapshotter asks the nydusd in PATH for its git commit where any nydusd lives, and
does not start without an answer. Where its recover policy is "failover" it then replaces each living nydusd
of another commit in flight; where it is "restart", as we render it, it leaves them alone (its
pkg/filesystem/fs.go, NewFileSystem).
"""

from __future__ import annotations

from agent.facts.node import Binary, Facts, Unknown
from agent.plan.order import Changes
from agent.programs.versions import ASKS_FOR_COMMIT
from agent.steps import Refusal, UnitVerb


def refusals(facts: Facts) -> tuple[Refusal, ...]:
    """A pair that would not survive the first restart of the snapshotter while an image is mounted."""
    nydusd = facts.nydusd
    if not _asks(facts.snapshotter) or not isinstance(nydusd, Binary) or nydusd.commit != "":
        return ()
    reason = (
        f"{nydusd.path} --version names no git commit: this snapshotter would not start again while "
        f"images are mounted"
    )
    return (Refusal("NNA0201", reason, "install an official build of nydusd"),)


def notes(facts: Facts, changes: Changes) -> tuple[str, ...]:
    """What becomes of running mounts, where this plan restarts the snapshotter."""
    if changes.snapshotter_verb is not UnitVerb.RESTART:
        return ()
    text = facts.nydusd.version_text if isinstance(facts.nydusd, Binary) else ""
    kept = (
        f"mounts that run keep their nydusd over the snapshotter's restart, new ones get "
        f"{text or 'that in PATH'}"
    )
    if not _asks(facts.snapshotter):
        return (kept,)
    return (
        f'{kept}; it upgrades nydusd in flight only where its recover_policy is "failover" (ours is '
        f'"restart")',
    )


def _asks(snapshotter: Binary | None | Unknown) -> bool:
    version = snapshotter.version if isinstance(snapshotter, Binary) else None
    return isinstance(version, tuple) and version >= ASKS_FOR_COMMIT
