"""What contract tests find beside Debian's own parts."""

from __future__ import annotations

import subprocess
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


def openssl(keys: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=keys, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two CAs, and a certificate of the first for 127.0.0.1."""
    found = tmp_path_factory.mktemp("keys")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("ca", "other"):
        openssl(found, "req", "-x509", *new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    openssl(found, "req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (found / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        found, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-extfile", "names", "-out", "server.pem",
    )  # fmt: skip
    return found
