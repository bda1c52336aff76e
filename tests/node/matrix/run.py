"""One combination: apply, the checks with a pod on a nydus image, an empty second apply, remove, a plain
pod.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.node import images, scene
from tests.node.boot import Node, NodeError
from tests.node.matrix import forms
from tests.node.matrix.choice import Combination
from tests.node.matrix.ground import COMMAND, Ground

_READ = re.compile(r'"file": (\d+), .*"error": null')
_FILES = int(COMMAND[3])
_SNAPSHOTS = ("ctr", "--namespace=k8s.io", "snapshots", "--snapshotter", "nydus")
_HANDLER = (
    "io.containerd.cri.runtime-handler"  # the annotation by which CRI takes a runtime's snapshotter at a pull
)


@dataclass
class Row:
    """A line of the table."""

    containerd: str
    mode: str
    form: str
    apply_s: float = 0.0
    refused: str = ""
    """Why there can be no plan, where there must be none."""
    checks: str = "-"
    second_apply: str = "-"
    removed: str = "-"
    problems: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """ "ok", "refused" where that is right, or what was wrong first."""
        return f"FAILED: {self.problems[0]}" if self.problems else "refused" if self.refused else "ok"


def run(ground: Ground, one: Combination) -> Row:
    """Run a combination. What goes wrong is in the row's problems."""
    row = Row(*one)
    try:
        _Run(ground, one, row).all()
    except NodeError as error:
        row.problems.append(str(error))
    if row.problems:  # what is left must not be the next combination's problem
        scene.agent(ground.node, "remove", "--force", check=False)
    return row


class _Run:
    def __init__(self, ground: Ground, one: Combination, row: Row) -> None:
        self.ground, self.node, self.one, self.row = ground, ground.node, one, row

    def all(self) -> None:
        forms.lay(self.node, self.one.line, self.one.form)
        _restart_containerd(self.node)
        self.ground.configure(self.one.mode)
        before = tree(self.node)
        if not self._apply():
            self._need(tree(self.node) == before, "what was refused has touched something")
            return
        self._prove()
        self._apply_again()
        self._clear()
        self._remove(before)

    def _need(self, holds: object, problem: str) -> None:
        if not holds:
            self.row.problems.append(problem)

    def _apply(self) -> bool:
        began = time.monotonic()
        told = scene.agent_json(self.node, "apply")
        self.row.apply_s = time.monotonic() - began
        if told.get("kind") != "ApplyResult":
            self._refused(told)
            return False
        self._need(told["changed"], "apply changed nothing")
        needed = self.one.mode != "plugin-only"
        self._need(bool(self._snapshots()) == needed, "the sandbox image is not where pods need it")
        return True

    def _refused(self, told: dict[str, Any]) -> None:
        """No change was made: right only where the containerd cannot do what is asked for."""
        self.row.refused = f"{told.get('code')}: {told.get('what')}"
        # containerd 1.6 has no snapshotter of a runtime (1.7's release notes)
        right = (self.one.line, self.one.mode) == ("1.6", "runtime-class") and told.get("code") == "NNA0314"
        self._need(right, f"apply: {json.dumps(told)}")
        self.row.removed = "untouched"

    def _snapshots(self) -> list[str]:
        listed = self.node.run([*_SNAPSHOTS, "ls"]).stdout.splitlines()[1:]
        return [line.split()[0] for line in listed if line.split()]

    def _prove(self) -> None:
        out = self._run_nydus()
        right = {int(file) for file in _READ.findall(out)}
        well = right == set(range(_FILES)) and '"error": "' not in out
        self._need(well, f"the nydus image did not run: {out[-500:]}")
        scene.wait_for_route(self.node, "mirror", 30)
        proof = scene.agent_json(self.node, "doctor")
        proved = [check["number"] for check in proof["checks"] if check["state"] == "ok"]
        self.row.checks = f"{len(proved)}/10"
        self._need(len(proved) == 10, f"not proved: {[r for r in proof['checks'] if r['state'] != 'ok']}")
        self._need(not proof["drift"], f"nobody changed anything, and it says: {proof['drift']}")

    def _run_nydus(self) -> str:
        node, ref = self.node, self.ground.ref
        if self.one.mode == "plugin-only":
            node.run(["puller", "/run/containerd/containerd.sock", ref], timeout=120)
            argv = ["ctr", "run", "--rm", *node.machine.ctr_flags, "--snapshotter", "nydus", ref, "matrix"]
            # ctr may lose the last lines of what ends at once: so each file is read once more, a little
            # later.
            return node.run([*argv, *COMMAND[:4], "100", "2"], timeout=60).stdout
        handler = "nydus" if self.one.mode == "runtime-class" else ""
        _pull(node, ref, handler)
        return scene.pod(node, ref, COMMAND, name="matrix", handler=handler)

    def _apply_again(self) -> None:
        told = scene.agent_json(self.node, "apply")
        changed = told.get("changed", told)
        self.row.second_apply = "empty" if changed is False else "CHANGES"
        self._need(changed is False, f"the second apply: {json.dumps(told)[:2000]}")

    def _clear(self) -> None:
        """No image and no snapshot is left to the next combination."""
        if self.one.mode == "plugin-only":
            self.node.run(["ctr", "images", "rm", "--sync", self.ground.ref])
        else:
            self.node.run(["crictl", "rmi", self.ground.ref])
        gone = "! ls /var/lib/containerd-nydus/socket/*/api*.sock >/dev/null 2>&1"
        self.node.wait_until(lambda: self.node.run(gone, check=False).returncode == 0, 30, "nydusd has ended")
        for key in self._snapshots():
            self.node.run([*_SNAPSHOTS, "rm", key])

    def _remove(self, before: Sequence[str]) -> None:
        scene.agent(self.node, "remove")
        after = tree(self.node)
        self.row.removed = "as before" if after == before else "DIFFERS"
        self._need(after == before, f"left or lost: {sorted(set(before).symmetric_difference(after))}")
        self._need(not _has_nydus(self.node), "containerd still knows the snapshotter")
        point = _image_fs(self.node)
        self._need(point.endswith(".overlayfs"), f"CRI's image file system is at {point}")
        out = scene.pod(self.node, images.PAUSE_REF, ["/reader", "make", "/", "1", "100"], name="plain")
        self._need(out == "", f"the plain pod said {out!r}")


def _pull(node: Node, ref: str, handler: str) -> None:
    config = "/var/tmp/pull.json"
    pod: dict[str, Any] = {"metadata": {"name": "pull", "namespace": "default", "uid": "pull", "attempt": 1}}
    node.write(config, json.dumps({**pod, "annotations": {_HANDLER: handler} if handler else {}}))
    node.run(["crictl", "pull", "--pod-config", config, ref], timeout=120)


def _restart_containerd(node: Node) -> None:
    node.run(["systemctl", "restart", "containerd"])
    node.wait_until(lambda: node.run(["crictl", "info"], check=False).returncode == 0, 30, "CRI answers")


def tree(node: Node) -> list[str]:
    """What lies where we write: names, modes, owners, digests and links, a line each."""
    places = "etc/containerd etc/nydus etc/systemd/system etc/nydus-agent"
    files = "-type f -printf '%p %m %u %g ' -exec sha256sum {} ;".replace(";", r"\;")
    script = f"cd / && for place in {places}; do test ! -e $place || find $place \\( {files} \\) "
    script += "-o \\( -type l -printf '%p -> %l\\n' \\) -o -printf '%p %m %u %g\\n'; done"
    return sorted(node.run(script).stdout.splitlines())


def _has_nydus(node: Node) -> bool:
    return "nydus" in node.run(["ctr", "plugins", "ls"]).stdout


def _image_fs(node: Node) -> str:
    told = json.loads(node.run(["crictl", "imagefsinfo"]).stdout)
    return str(told["status"]["imageFilesystems"][0]["fsId"]["mountpoint"])
