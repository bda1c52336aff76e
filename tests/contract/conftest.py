"""What contract tests find beside Debian's own parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.contract import certificates

_MADE = Path("/opt/containerds")


@pytest.fixture(scope="session")
def containerds() -> Mapping[str, Path]:
    """The program of each containerd by its version ("1.6.20"), oldest first; the recipe says where they come
    from.
    """
    assert _MADE.is_dir(), "make them: python3 -m tests.node.cache containerds"
    made = sorted(_MADE.iterdir(), key=lambda place: [int(part) for part in place.name.split(".")])
    return {place.name: place / "containerd" for place in made}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two CAs, and a certificate of the first for 127.0.0.1."""
    return certificates.make(tmp_path_factory.mktemp("keys"), "other")
