"""Whether a nydus-image can be worked with: versions that are known not to do it are refused, others show it."""

from __future__ import annotations

from agent.errors import ConvertError
from agent.node import versions
from agent.node.facts import Unknown

_FIRST = (2, 2, 0)
"""dragonflyoss/nydus, src/bin/nydus-image/main.rs: v2.1.6 does not know `--type tar-rafs`, v2.2.0 does."""


def version_of(said: str) -> str:
    """What a nydus-image calls itself, by its --version; "" where it does not know. Raises ConvertError (NNA1429)."""
    version, text = versions.nydus(said)
    if isinstance(version, Unknown):
        return ""
    if version < _FIRST:
        raise ConvertError(
            "NNA1429", f"nydus-image {text} cannot convert layers",
            cause="it takes no tars: 2.2.0 is the first that does", try_="nydus-agent programs --help",
        )  # fmt: skip
    return text
