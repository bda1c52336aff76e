"""What contract tests find beside Debian's own parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

_MADE = Path("/opt/containerds")


@pytest.fixture(scope="session")
def containerds() -> Mapping[str, Path]:
    """The program of each containerd by its version ("1.6.20"), oldest first; the recipe says where they come from."""
    assert _MADE.is_dir(), "make them: python3 -m tests.node.cache containerds"
    made = sorted(_MADE.iterdir(), key=lambda place: [int(part) for part in place.name.split(".")])
    return {place.name: place / "containerd" for place in made}
