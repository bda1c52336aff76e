"""The containerds of several versions that other tests let check configurations: that they run here."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path


def test_every_line_of_releases_is_there_and_runs(containerds: Mapping[str, Path]) -> None:
    told = {
        version: subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
        for version, path in containerds.items()
    }
    assert {version.rpartition(".")[0] for version in told} >= {"1.6", "1.7", "2.4"}, "and Debian's testing"
    assert len(told) == 4
    for version, text in told.items():
        assert version in text
