"""Servers for all cases, and the table of what was refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from tests.contract import certificates
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
    return certificates.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def scene(keys: Path, tmp_path: Path) -> Iterator[Scene]:
    directory = tmp_path / "archives"
    directory.mkdir()
    with Server().run() as web, Server().run() as other, Server(tls=certificates.server_side(keys)).run() as secure:
        yield Scene(web, other, secure, (keys / "ca.pem").read_text(), directory)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    root = tmp_path / "node"
    root.mkdir()
    return Stage(root)
