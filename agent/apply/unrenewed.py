"""Images in use whose credential expires and is not renewed: which, and why. No rung fails by it: nothing is wrong yet.

What a nydusd can do is decided by its own version, not by that of the program that lies on the node now.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.apply.rungs_nydusd import backend_of
from agent.apply.rungs_runtime import CALL_S, View
from agent.artifacts.pairs import TAKES_CREDENTIALS
from agent.errors import NydusdError
from agent.node import versions
from agent.plan import renewal
from agent.ports import NydusdInfo
from agent.registry.expiring import source_of


def look(view: View) -> tuple[str, ...]:
    """Each such image with what gives its credential, and the reason. Nothing raises; what does not answer is left out
    (rung 8 says so).
    """
    if not (view.facts.credentials.expiring and view.config.registries.renew_s):
        return ()
    missing = "" if renewal.in_force(view.facts) else _missing(view)
    found: list[str] = []
    try:
        for socket in view.ports.nydusd.sockets(view.config.snapshotter.root):
            info = view.ports.nydusd.info(socket, deadline_s=CALL_S)
            found += _images(view, info, missing)
    except NydusdError:
        pass
    return tuple(dict.fromkeys(found))


def _missing(view: View) -> str:
    """Why the snapshotter is not told to renew."""
    return ", ".join(renewal.obstacles(view.facts)) or "the snapshotter is not told to: nydus-agent apply"


def _images(view: View, info: NydusdInfo, missing: str) -> Iterator[str]:
    why = missing or renewal.too_old("its nydusd", versions.parsed(info.version), info.version, TAKES_CREDENTIALS)
    for _, config in info.backends if why else ():
        backend = backend_of(config)
        host = str(backend.get("host", ""))
        source = source_of(view.facts.credentials.expiring, host)
        if source:
            yield f"{host}/{backend.get('repo', '')} ({source}): {why}"
