"""Servers for all cases, and the table of what was refused."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from tests.hostile.case import Scene
from tests.hostile.server import Server
from tests.hostile.stage import Stage

_ROWS: list[tuple[str, str, str, float]] = []


def note(name: str, code: str, told: str, seconds: float) -> None:
    """One row of the table."""
    _ROWS.append((name, code, told, seconds))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if not _ROWS:
        return
    wide = max(len(name) for name, *_ in _ROWS)
    terminalreporter.write_line("")
    for name, code, told, seconds in _ROWS:
        terminalreporter.write_line(f"{name:<{wide}}  {code}  {seconds:4.1f} s  {told}")
    terminalreporter.write_line(f"{len(_ROWS)} refused, {len({told for _, _, told, _ in _ROWS})} different messages")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a certificate of it for 127.0.0.1 only."""
    found = tmp_path_factory.mktemp("keys")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    (found / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    for arguments in (
        ("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority"),
        ("req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server"),
        ("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
         "-extfile", "names", "-out", "server.pem"),
    ):  # fmt: skip
        subprocess.run(["openssl", *arguments], cwd=found, check=True, capture_output=True, timeout=60)
    return found


@pytest.fixture
def scene(keys: Path, tmp_path: Path) -> Iterator[Scene]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    directory = tmp_path / "archives"
    directory.mkdir()
    with Server().run() as web, Server().run() as other, Server(tls=context).run() as secure:
        yield Scene(web, other, secure, (keys / "ca.pem").read_text(), directory)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    root = tmp_path / "node"
    root.mkdir()
    return Stage(root)
