"""The quick form of a bench, run by a test: what it wrote is judged there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.runner.stages import ROOT

_TOLD = 12000


@dataclass(frozen=True)
class Done:
    """How a bench has ended."""

    code: int
    said: str
    path: Path

    @property
    def content(self) -> dict[str, Any]:
        """What it has written. Raises FileNotFoundError where it did not come to its end."""
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found


def run(name: str, deadline_s: float) -> Done:
    """Run `make bench-NAME QUICK=1` right here, and print its end; what a former run has written is gone."""
    path = report.DIRECTORY / f"{name}-quick.json"
    path.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{name.replace('-', '_')}", "--quick"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
        timeout=deadline_s,
    )  # fmt: skip
    print(done.stdout[-_TOLD:])
    return Done(done.returncode, done.stdout, path)
