"""`runc` on a node whose machine has no cgroup controllers, or may not lower OOM scores: the real one, asked
for less.

containerd can be told to ask for less by itself (`disable_cgroup`, `restrict_oom_score_adj`), but only in a
configuration, and a test of configurations wants them as they are on nodes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_REAL = "/usr/sbin/runc" if os.path.exists("/usr/sbin/runc") else "/usr/bin/runc"


def spare(bundle: Path) -> None:
    """Take limits, cgroup and OOM score out of a bundle's specification."""
    file = bundle / "config.json"
    spec = json.loads(file.read_text())
    spec.get("process", {}).pop("oomScoreAdj", None)
    linux = spec.setdefault("linux", {})
    linux["cgroupsPath"] = ""
    linux["resources"] = {key: value for key, value in linux.get("resources", {}).items() if key == "devices"}
    file.write_text(json.dumps(spec))


def main(arguments: list[str]) -> None:
    for verb in ("create", "run"):
        if verb in arguments:
            spare(Path(arguments[arguments.index("--bundle") + 1]))
    os.execv(_REAL, [_REAL, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
