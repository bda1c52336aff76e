"""One way in which a source can mean harm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.artifacts.fetching import Source, SourceKind
from agent.artifacts.lock import Artifact
from agent.artifacts.refusals import Refusal
from tests.hostile.server import Handler, Server, answer
from tests.hostile.stage import PROGRAMS, blank, pinned


@dataclass
class Scene:
    """The servers of a case, and what is asked of them."""

    web: Server
    other: Server
    """Another host."""
    secure: Server
    """With TLS."""
    ca: str
    """The authority that the secure one's certificate is from."""
    directory: Path
    source: Source = field(default_factory=lambda: Source(SourceKind.RELEASE))
    others: tuple[Artifact, ...] = ()
    trust: bool = False

    def serve(self, handler: Handler, content: bytes, *, size: int | None = None) -> Artifact:
        """An archive whose lock is right, served in this way."""
        self.web.routes[PATH] = handler
        return pinned(content, self.web.url(PATH), size=size)

    def publish(self, content: bytes, checksum: bytes | None) -> Artifact:
        """An archive that is still to be pinned, with its .sha256sum (None: there is none)."""
        self.trust = True
        self.web.routes[PATH] = answer(content)
        if checksum is not None:
            self.web.routes[f"{PATH}.sha256sum"] = answer(checksum)
        return blank(self.web.url(PATH))

    def lay(self, content: bytes, programs: dict[str, bytes] | None = None) -> Artifact:
        """An archive that the lock pins as it is."""
        self.web.routes[PATH] = answer(content)
        return pinned(content, self.web.url(PATH), PROGRAMS if programs is None else programs)


@dataclass(frozen=True)
class Case:
    """What it is called, how it is laid out, and what is said of it."""

    name: str
    refusal: Refusal
    lay: Callable[[Scene], Artifact]
    seen: str = ""
    """What must stand in the evidence."""


PATH = "/download/v2.4.4/nydus-static-v2.4.4-linux-amd64.tgz"
