"""What the daemon and root's verbs leave on a node, as files below a directory, and what `status` answers to
it.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from agent.__main__ import main

PID = 4711
MIRROR = "127.0.0.1:4001"
NAMES = ("binaries", "snapshotter unit", "snapshotter socket", "containerd", "plugin", "CRI",
         "prepare and remove",
         "running nydusd", "mirror", "a real read")  # fmt: skip


class PublishedNode:
    """A node on which all is well; tests change what they are about and write it again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = time.time()
        for name in (
            "run/nydus-agent",
            "var/lib/nydus-agent",
            "proc/1",
            f"proc/{PID}",
            "usr/lib/systemd/system",
        ):
            (root / name).mkdir(parents=True)
        (root / "usr/lib/systemd/system/nydus-agent.service").touch()
        self.process("0::/system.slice/nydus-agent.service\n")
        self.status: dict[str, Any] = {
            "apiVersion": "nydus-agent/v1", "kind": "DaemonStatus", "pid": PID, "at": self.now - 1,
            "started_at": self.now - 7300, "mode": "fence", "mode_reason": "the self-test passed",
            "health_state": "healthy", "health_since": self.now - 7000, "health_reason": "a canary answered",
            "route": "mirror", "route_since": self.now - 7000, "route_reason": "the mirror is healthy",
            "fence": {"active": False, "address": "127.0.0.1", "port": 4001, "lease_left_ms": 0,
                      "refused_connects": 0, "self_test": "ok", "self_test_reason": ""},
            "mirror": {"url": f"http://{MIRROR}", "ping_ok": True, "ping_at": self.now - 1, "ping_ms": 0.41,
                       "owner": "ok", "owner_detail": "uid 0", "canary_ok": True, "canary_at": self.now - 3,
                       "canary_ms": 1.9},
            "origins": [{"host": "registry.example.org:5000", "ok": True, "at": self.now - 40}],
            "pin": None, "conditions": [], "history": [],
        }  # fmt: skip
        self.effective: dict[str, Any] = {
            "apiVersion": "nydus-agent/v1", "kind": "Effective", "at": self.now - 7400, "generation": 3,
            "switch": "fence", "dialect": "proxy", "use_http": False, "reasons": ["nft can be used"],
            "not_accelerated": [],
        }  # fmt: skip
        self.proof: dict[str, Any] = {
            "apiVersion": "nydus-agent/v1", "kind": "Proof", "at": self.now - 40,
            "versions": {"nydusd": "2.2.0"},
            "checks": [
                {"number": number, "name": name, "state": "ok", "detail": "shown", "code": "", "cause": "",
                 "evidence": [], "try": ""}
                for number, name in enumerate(NAMES, 1)
            ],
        }  # fmt: skip
        self.proof["checks"][9]["detail"] = f"3.1 MB through {MIRROR}"
        self.write()

    def change(self, change: Mapping[str, Any]) -> None:
        """Change what the daemon publishes, and write it; as `at`."""
        self.status |= self.at(change)
        self.write()

    def at(self, value: Any) -> Any:
        """The same, where each number with a fraction is a time that is counted from now."""
        if isinstance(value, Mapping):
            return {key: self.at(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.at(one) for one in value]
        return self.now + value if isinstance(value, float) else value

    def write(self) -> None:
        """Write all three files."""
        self.write_status()
        self.put("var/lib/nydus-agent/effective.json", self.effective)
        self.put("var/lib/nydus-agent/proof.json", self.proof)

    def write_status(self) -> None:
        """Write what the daemon publishes."""
        self.put("run/nydus-agent/status.json", self.status)

    def put(self, name: str, document: object) -> None:
        """Replace one file at once, as those who publish do."""
        path = self.root / name
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(json.dumps(document))
        temporary.rename(path)

    def remove(self, *names: str) -> None:
        """Remove files."""
        for name in names:
            (self.root / name).unlink()

    def process(self, cgroup: str, command: bytes = b"python3\0") -> None:
        """The process with the daemon's pid is this one."""
        (self.root / f"proc/{PID}/cgroup").write_text(cgroup)
        (self.root / f"proc/{PID}/cmdline").write_bytes(command)

    def boot(self, identity: str) -> None:
        """Which boot of the machine this is."""
        (self.root / "proc/sys/kernel/random").mkdir(parents=True, exist_ok=True)
        (self.root / "proc/sys/kernel/random/boot_id").write_text(identity)

    def kill(self) -> None:
        """The process with the daemon's pid is gone."""
        for file in (self.root / f"proc/{PID}").iterdir():
            file.unlink()
        (self.root / f"proc/{PID}").rmdir()

    def fail(self, number: int, **told: object) -> None:
        """Let a check of the last proof fail."""
        self.proof["checks"][number - 1] |= {"state": "failed", **told}
        self.write()


class Run:
    """One command line, run in this process on a directory of its own."""

    def __init__(
        self, root: Path, *argv: str, uid: int = 0, environment: Mapping[str, str] | None = None
    ) -> None:
        out, err = io.StringIO(), io.StringIO()
        where = ["--config", str(root / "agent.toml"), "--conf-d", str(root / "conf.d")]
        self.code = main(
            [*where, *argv], environment=environment or {}, out=out, err=err, uid=uid, root=str(root)
        )
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def json(self) -> dict[str, Any]:
        """The one document of the answer."""
        document: dict[str, Any] = json.loads(self.out, parse_constant=_no_json)
        assert document["apiVersion"] == "nydus-agent/v1"
        return document

    @property
    def headline(self) -> str:
        """The first line of the answer."""
        return self.out.splitlines()[0]

    def rows(self, name: str) -> list[str]:
        """The rows of the table under a name: its own, and those that go on without one."""
        found: list[str] = []
        inside = False
        for line in self.out.splitlines():
            inside = line.split("  ")[0] == name or (inside and line.startswith("  "))
            found += [" ".join(line.removeprefix(name).split())] if inside else []
        return found


class Answer(Run):
    """`status` as anybody may ask for it."""

    def __init__(self, node: PublishedNode, *options: str, uid: int = 65534) -> None:
        super().__init__(node.root, "status", *options, uid=uid)
        assert self.err == ""

    @property
    def text(self) -> str:
        """The answer."""
        return self.out

    def row(self, name: str) -> str:
        """The row of the table, its columns joined by one space."""
        found = next(line for line in self.out.splitlines() if line.split("  ")[0] == name)
        return " ".join(found.split())


def as_json(node: PublishedNode) -> dict[str, Any]:
    """`status --format json`."""
    return Answer(node, "--format", "json").json


def _no_json(name: str) -> NoReturn:
    """Infinity and NaN: Python's parser takes them, others do not."""
    raise ValueError(f"{name} is not JSON")
