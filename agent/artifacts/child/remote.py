"""Archives that come by HTTP: their URLs, and what holds for the way there."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from agent.artifacts import addresses, fetching
from agent.artifacts.child import checksum, web
from agent.artifacts.child.download import Download
from agent.artifacts.child.refused import RefusedError
from agent.artifacts.fetching import Job, SourceKind
from agent.artifacts.lock import Artifact
from agent.artifacts.refusals import Refusal


def opened(job: Job, artifact: Artifact, start: int = 0) -> tuple[str, Download]:
    """(what the release's checksum file says, where it is asked for; the archive, still to be fetched from `start`)."""
    mirror = job.source.kind is SourceKind.MIRROR
    url = f"{job.source.place.rstrip('/')}/{artifact.archive}" if mirror else artifact.url
    rules = _rules(job, url)
    told = ""
    if job.trust_release_checksum:
        small = Download(url + fetching.CHECKSUM_SUFFIX, rules, cap=checksum.CAP)
        told = _beginning(small.chunks(), checksum.CAP + 1).decode(errors="backslashreplace")
    return told, Download(url, rules, expected=artifact.size, cap=job.limits.archive, start=start)


def _rules(job: Job, url: str) -> web.Rules:
    """Where the source itself is on this machine (a mirror, or a tunnel to one), what it leads to may be here too."""
    home = addresses.origin(urlsplit(url))
    try:
        found = web.addresses_of(home[1], home[2])
    except web.CutError as error:
        raise RefusedError(error.refusal, *error.seen) from None
    loopback = all(addresses.refusal_of(one, loopback=False) is Refusal.ADDRESS_LOOPBACK for one in found)
    return web.Rules(job.limits, home, job.source.authorization, job.source.ca, loopback=loopback)


def _beginning(chunks: Iterator[bytes], count: int) -> bytes:
    content = b""
    for chunk in chunks:
        content += chunk
        if len(content) >= count:
            break
    return content[:count]
