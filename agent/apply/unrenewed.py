"""Images in use whose credential expires and is not renewed: which, and why. No rung fails by it: nothing is wrong yet.

What a nydusd can do is decided by its own version, not by that of the program that lies on the node now.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from agent.apply import rungs_read
from agent.apply.rungs_nydusd import backend_of
from agent.apply.rungs_runtime import CALL_S, View
from agent.errors import FileError, HttpError, NydusdError
from agent.node import versions
from agent.plan import renewal
from agent.plan.pairs import TAKES_CREDENTIALS
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
    public = _public(view)
    for info in _daemons(view):
        found += (f"{image} {why}" for image, why in _images(view, info, missing) if image not in public)
    return tuple(dict.fromkeys(found))


def _daemons(view: View) -> Iterator[NydusdInfo]:
    with contextlib.suppress(NydusdError):
        for socket in view.ports.nydusd.sockets(view.config.snapshotter.root):
            with contextlib.suppress(NydusdError):
                yield view.ports.nydusd.info(socket, deadline_s=CALL_S)


def _missing(view: View) -> str:
    """Why the snapshotter is not told to renew."""
    return ", ".join(renewal.obstacles(view.facts)) or "the snapshotter is not told to: nydus-agent apply"


def _public(view: View) -> frozenset[str]:
    """Images of which no nydusd was given a credential: everyone may read them, whatever gives those of all
    registries. One that got a credential in a second mount, after a login, is not among them.
    """
    try:
        found = rungs_read.mounts(view.ports, view.config.snapshotter.root)
    except (HttpError, FileError, ValueError):
        return frozenset()  # rung 10 says why
    private = {mount.image for mount in found if mount.private}
    return frozenset(mount.image for mount in found) - private


def _images(view: View, info: NydusdInfo, missing: str) -> Iterator[tuple[str, str]]:
    why = missing or renewal.too_old("its nydusd", versions.parsed(info.version), info.version, TAKES_CREDENTIALS)
    for _, config in info.backends if why else ():
        backend = backend_of(config)
        host = str(backend.get("host", ""))
        source = source_of(view.facts.credentials.expiring, host)
        if source:
            yield f"{host}/{backend.get('repo', '')}", f"({source}): {why}"
