"""The store's `current` names the set that is in force: it follows an accepted change, and an undone one back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.apply import generations
from agent.config.accepted import restored
from agent.config.forms import is_set_id
from agent.config.model import Config
from agent.errors import AgentError
from agent.ports import Ports


def follow(
    ports: Ports, recorded: Mapping[str, object] | None, say: Callable[[str], None], *, failed: bool = False
) -> None:
    """Make current what was recorded of a generation; nothing where it is, or where programs are the system's. What was
    current and has `failed` is not gone back to.

    The change is made by then, so a store that cannot be written is told and not raised.
    """
    artifacts = restored(Config(), recorded).artifacts
    ids = tuple(one for one in (artifacts.nydus, artifacts.snapshotter) if is_set_id(one))
    if not ids:
        return
    store = ports.stores(artifacts.directory)
    try:
        current = store.current()
        if current is not None and current.id in ids:
            return
        with store.lock("apply"):
            store.switch(ids[0], forget=failed)
    except AgentError as error:
        say(f"{store.directory} could not be made to name set {ids[0][:12]}, which is in force: {error}")


def follow_accepted(ports: Ports, say: Callable[[str], None]) -> None:
    """The same for what is in force now, after a change was undone."""
    try:
        last = generations.applied(ports.files)
    except AgentError as error:
        say(f"what is in force cannot be read: {error}")
        return
    if last is not None:
        follow(ports, last.config, say, failed=True)
