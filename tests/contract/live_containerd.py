"""Plans for any files of containerd's, carried out in this root, against what a real containerd then does.

The verdict is that of a process which was started as its unit starts it, on the files that the plan wrote:
what it tells of its plugins and of CRI, and its own dump by that path.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from agent import paths
from agent.apply.execute import check_containerd_config, unexpected
from agent.config.model import ContainerdConfig, ContainerdMode
from agent.containerd.dropin import reads_exports
from agent.containerd.files import node_of
from agent.containerd.render import candidate, view_of
from agent.containerd.view import SNAPSHOTTER, ContainerdView, dotted
from agent.errors import ApplyError, ContainerdError, PlanError
from agent.plan.diff import plan
from agent.plan.images import kept_root
from agent.ports import Ports
from agent.steps import CheckContainerdConfig, RemoveFile, WriteFile
from agent.system.containerd import ContainerdClient
from agent.system.files import RootFiles
from agent.system.process import ChildProcesses
from tests.unit.containerd_worlds import PLACES, World, world
from tests.unit.plan_node import look

CONTAINERDS = Path("/opt/containerds")
_NAMED = Path("/usr/local/sbin/containerd")
_STATE = ("/var/lib/containerd", "/run/containerd")
_START_S = 20.0
_CALL_S = 5.0


@dataclass(frozen=True)
class Verdict:
    """What came of one world."""

    world: World
    refused: str = ""
    """The code, or that containerd's own look at the candidates has refused them."""
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Live:
    """What a running containerd says of itself."""

    plugins: Mapping[str, tuple[Mapping[str, str], bool]]
    """(exports, whether it has failed) by "TYPE.ID"."""
    cri: Mapping[str, Any] | None
    """The configuration in force, without what changes with time; None: there is no CRI."""
    image_fs: str
    dump: str


def verdicts(version: str, numbers: range) -> Iterator[Verdict]:
    """Those of some worlds. Needs root in namespaces of its own: mounts and network."""
    for place in _STATE:
        Path(place).mkdir(parents=True, exist_ok=True)
        # overlayfs, which CRI takes where no other snapshotter is named, does not lie on an overlay.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True, timeout=10)
    _NAMED.unlink(missing_ok=True)
    _NAMED.symlink_to(CONTAINERDS / version / "containerd")
    try:
        for number in numbers:
            yield _verdict(world(f"{version}/{number}"))
    finally:
        _NAMED.unlink()
        for place in _STATE:
            subprocess.run(["umount", place], check=True, timeout=10)


def _verdict(one: World) -> Verdict:
    facts = look(one.node(), one.wanted)
    try:
        planned = plan(one.wanted, facts)
    except PlanError as error:
        return Verdict(one, f"{error.code} {error.cause}")
    said = candidate(kept_root(one.wanted, facts), node_of(facts))
    _lay(one.files)
    before = _started(one)
    model = view_of(one.wanted, node_of(facts))
    ports = cast("Ports", SimpleNamespace(files=RootFiles("/"), processes=ChildProcesses()))
    for step in planned.steps:
        if isinstance(step, CheckContainerdConfig):
            try:
                check_containerd_config(ports, step)
            except ApplyError as error:
                return Verdict(one, f"{error.code} {error.cause}")
        elif isinstance(step, WriteFile) and step.path.startswith(PLACES):
            ports.files.replace(
                step.path, step.content, mode=step.mode, uid=0, gid=0, expect_sha256=step.expect_sha256
            )
        elif isinstance(step, RemoveFile) and step.path.startswith(PLACES):
            ports.files.remove(step.path, expect_sha256=step.expect_sha256)
    after = _started(one)
    if isinstance(before, str):
        return Verdict(one, "(it starts neither before nor after)" if isinstance(after, str) else "")
    if isinstance(after, str):
        return Verdict(one, wrong=(f"containerd does not start: {after}",))
    warned = any("disabled_plugins" in text for text in planned.warnings)
    wrong = (*_misread(model, before), *_wrong(one, said.expect, before, after, warned=warned))
    return Verdict(one, wrong=wrong)


def _misread(model: ContainerdView | None, before: Live) -> Iterator[str]:
    """What the plan was decided on."""
    if model is None or before.cri is None:
        return
    real = ContainerdView(tomllib.loads(before.dump), model.keys)
    for path, usual in ((model.keys.snapshotter, "overlayfs"), (model.keys.default_runtime, "runc")):
        if (model.get(path) or usual) != real.get(path):
            yield f"{dotted(path)} is {real.get(path)}, and was taken for {model.get(path)}"
    named, there = (set(view.get(model.keys.runtimes) or ()) for view in (model, real))
    lost = (named ^ there) - {"runc"}  # which is built in
    if named and lost:
        yield f"of the runtimes {sorted(lost)} were misread"


def _lay(files: Mapping[str, bytes]) -> None:
    for place in PLACES:
        shutil.rmtree(place, ignore_errors=True)
    for path, content in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)


def _started(one: World) -> Live | str:
    """containerd as its unit starts it, or why it has ended."""
    for place in _STATE:
        for inner in Path(place).iterdir():
            shutil.rmtree(inner) if inner.is_dir() else inner.unlink()
    argv, log = [str(_NAMED), *one.words], Path("/run/containerd.log")
    with log.open("wb") as out:
        child = subprocess.Popen(argv, cwd="/", stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        return _asked(child, argv, log, there=Path(one.root).exists())
    finally:
        child.kill()
        child.wait(10)


def _asked(child: subprocess.Popen[bytes], argv: list[str], log: Path, *, there: bool) -> Live | str:
    client, until = ContainerdClient(ContainerdConfig().address), time.monotonic() + _START_S
    while True:
        try:
            told = client.plugins(deadline_s=_CALL_S)
            break
        except ContainerdError:
            if child.poll() is not None or time.monotonic() > until:
                return log.read_text()[-500:]
            time.sleep(0.02)
    try:
        cri = json.loads(client.cri_status(deadline_s=_CALL_S)["config"])
        points = client.image_fs_info(deadline_s=_CALL_S).mountpoints
    except ContainerdError:
        cri, points = None, ("",)
    argv = [*argv, "config", "dump" if there else "default"]  # 1.6 dumps nothing where there is no file
    dump = subprocess.run(argv, cwd="/", capture_output=True, text=True, timeout=30, check=True)
    plugins = {f"{fact.type}.{fact.id}": (dict(fact.exports), bool(fact.init_err)) for fact in told}
    return Live(plugins, cri, points[0], dump.stdout)


def _wrong(
    one: World, expect: Sequence[tuple[str, str]], before: Live, after: Live, *, warned: bool
) -> Iterator[str]:
    yield from unexpected(after.dump, expect)
    version = tuple(int(part) for part in one.version.split("."))
    exports, failed = after.plugins.get(SNAPSHOTTER, ({}, True))
    root = one.wanted.snapshotter.root
    if failed or exports.get("address") != paths.SNAPSHOTTER_SOCKET:
        yield f"the snapshotter is not registered: {exports}"
    if reads_exports(version) and exports.get("root") != root:
        yield f"the snapshotter's root is {exports.get('root')}"
    for name, what in before.plugins.items():
        if name != SNAPSHOTTER and after.plugins.get(name) != what and not name.endswith(".images"):
            yield f"{name} was {what} and is {after.plugins.get(name)}"
    if after.cri is None or before.cri is None:
        if before.cri is not None:
            yield "CRI is gone"
        elif not warned and any("cri" in str(name) for name in tomllib.loads(after.dump)["disabled_plugins"]):
            yield "CRI is disabled, and no warning says so"
        return
    ours = after.image_fs == root or after.image_fs.endswith("snapshotter.v1.nydus")
    if one.mode is ContainerdMode.DEFAULT and not ours:
        yield f"CRI's images are in {after.image_fs}"
    if one.mode is not ContainerdMode.DEFAULT and after.image_fs != before.image_fs:
        yield f"CRI's images were in {before.image_fs}, and are in {after.image_fs}"
    made = after.cri["containerd"]["runtimes"].get(paths.RUNTIME, {}).get("snapshotter")
    if one.mode is ContainerdMode.RUNTIME_CLASS and made != paths.PROXY_PLUGIN:
        yield f"the runtime's snapshotter is {made}"
    if _others(before.cri) != _others(after.cri):
        yield f"CRI has other settings: {_others(before.cri)} became {_others(after.cri)}"


def _others(cri: Mapping[str, Any]) -> dict[str, Any]:
    """All that is not ours."""
    kept = json.loads(json.dumps(cri))
    for key in ("snapshotter", "disableSnapshotAnnotations", "discardUnpackedLayers"):
        kept["containerd"].pop(key, None)
    kept["containerd"]["runtimes"].pop(paths.RUNTIME, None)
    kept.get("registry", {}).pop("configPath", None)
    return cast("dict[str, Any]", lean(kept))


def lean(value: object) -> object:
    """Without what stands for nothing: on 1.x a table of runtimes takes the built-in one's place."""
    if not isinstance(value, dict):
        return value
    inner = {key: lean(one) for key, one in value.items()}
    return {key: one for key, one in inner.items() if one and one != "podsandbox"}
