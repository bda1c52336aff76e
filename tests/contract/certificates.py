"""Private CAs and a server's certificate, made by openssl."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def make(directory: Path, *others: str) -> Path:
    """ca.pem, server.pem with its key (of that CA, for 127.0.0.1 only), and CAs of these names that signed
    nothing.
    """
    for name in ("ca", *others):
        _openssl(
            directory,
            "req",
            "-x509",
            *_NEW,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-subj",
            f"/CN={name}",
        )
    _openssl(directory, "req", *_NEW, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    # Python 3.13 verifies strictly: without the authority's key id it refuses the certificate.
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    _openssl(
        directory, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial",
        "-extfile", "names", "-out", "server.pem",
    )  # fmt: skip
    return directory


def server_side(directory: Path) -> ssl.SSLContext:
    """For who listens with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    return context


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=60)
