"""What lies on a node before a test begins: the parts that an operator has installed, and nothing of ours."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.node import cache
from tests.node.machine import Machine

INSIDE = Path(__file__).parent / "inside"
PYTHONPATH_ON_NODE = "/opt/test-programs"
SCHEDULER_ON_NODE = "/opt/test-scheduler"

_CRICTL = (
    "runtime-endpoint: unix:///run/containerd/containerd.sock\nimage-endpoint: "
    "unix:///run/containerd/containerd.sock\n"
    "timeout: 60\n"  # its own 2 s are too few where nodes share two cores
)


@dataclass(frozen=True)
class Contents:
    """Which parts the node has; the words are those of `boot.Node`."""

    snapshotter: str
    nydus: bool
    crictl: bool = True


def root(suite: str = "trixie") -> Path:
    """The root of a Debian release, made now if it is not there (about a minute)."""
    return cache.make("root", *(() if suite == "trixie" else (suite,)), env={"SUITE": suite})


def puller() -> Path:
    """A client of containerd that tells a snapshotter of an image as CRI and nerdctl do; `ctr` does not."""
    return _built("puller", "puller.go", "PULLER_GO") / "bin/puller"


def dragonfly_files() -> Path:
    """A reader of kind's configuration and of Kubernetes' Service with their own decoders."""
    return _built("dragonfly-files", "dragonfly_files.go", "PROGRAM_GO") / "bin/dragonfly-files"


def _built(recipe: str, program: str, variable: str) -> Path:
    """What a recipe makes of a program of ours."""
    source = Path(__file__).parent / "programs" / program
    text = hashlib.sha256(source.read_bytes()).hexdigest()
    return cache.make(recipe, text, env={variable: str(source)})


def shares() -> dict[str, Path]:
    """Directories of the machine that every node sees read-only, by their path there."""
    return {f"{PYTHONPATH_ON_NODE}/tests/node/inside": INSIDE}


def make(contents: Contents) -> None:
    """Have everything made that `fill` copies: minutes the first time."""
    wanted = {
        "crictl": contents.crictl,
        "nydus": contents.nydus,
        "snapshotter": contents.snapshotter == "0.16.1",
        "wrapper": contents.nydus,
    }
    for name in (name for name, is_wanted in wanted.items() if is_wanted):
        cache.make(name)


def fill(upper: Path, contents: Contents, machine: Machine) -> None:
    """Write into the upper layer of a node's root what Debian's packages do not bring."""
    _write(upper / "etc/machine-id", secrets.token_hex(16) + "\n", 0o444)
    _write(upper / "etc/resolv.conf", "nameserver 127.0.0.1\n")  # nobody answers there: refused at once
    _write(upper / "etc/crictl.yaml", _CRICTL)
    _write(upper / "etc/containerd/config.toml", containerd_config(machine))
    if contents.crictl:
        _copy(cache.make("crictl") / "bin/crictl", upper / "usr/local/bin/crictl")
    if contents.nydus:
        _put_nydus(upper, machine)
    if contents.snapshotter == "0.16.1":
        binary = cache.make("snapshotter") / "bin/containerd-nydus-grpc"
        _copy(binary, upper / "usr/local/bin/containerd-nydus-grpc")
    elif contents.snapshotter == "none":
        _whiteout(upper / "usr/bin/containerd-nydus-grpc")
    elif contents.snapshotter != "0.13.4":
        raise ValueError(f"no such snapshotter here: {contents.snapshotter}")


def nydus_program(name: str) -> Path:
    """nydusd or nydus-image: $NYDUSD or $NYDUS_IMAGE where a run names its own, else the one of the cache.

    Raises FileNotFoundError for a name that is no program.
    """
    variable = {"nydusd": "NYDUSD", "nydus-image": "NYDUS_IMAGE"}[name]
    named = os.environ.get(variable, "")
    if not named:
        return cache.make("nydus") / "bin" / name
    if not (os.path.isfile(named) and os.access(named, os.X_OK)):
        raise FileNotFoundError(
            f"{variable}={named}: no program there; name {name} as it was built or released"
        )
    return Path(named).resolve()


def given_version() -> tuple[int, ...]:
    """The version of $NYDUSD, as (2, 4, 4); () where a run names none and has the tests' own program, of 2.2.

    Raises ValueError for a program that tells no version: what a node does depends on it.
    """
    if not os.environ.get("NYDUSD"):
        return ()
    program = nydus_program("nydusd")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10).stdout
    version = re.search(r"Version:\s*v?(\d+)\.(\d+)\.(\d+)", said)
    if version is None:
        raise ValueError(
            f"NYDUSD={program}: it tells no version; build it in a git checkout at the release's tag"
        )
    return tuple(int(each) for each in version.groups())


def _put_nydus(upper: Path, machine: Machine) -> None:
    nydusd = nydus_program("nydusd")
    _copy(nydus_program("nydus-image"), upper / "usr/local/bin/nydus-image")
    if machine.sys_resource:
        _copy(nydusd, upper / "usr/local/bin/nydusd")
    else:  # nydusd would exit where it may not raise its own limit of open files
        _copy(nydusd, upper / "usr/local/libexec/nydusd.real")
        _copy(cache.make("wrapper") / "bin/nydusd", upper / "usr/local/bin/nydusd")


def containerd_config(machine: Machine) -> str:
    """Debian's /etc/containerd/config.toml, with what the CRI part needs on a machine with fewer
    abilities.
    """
    extra = [] if machine.controllers else ["    disable_cgroup = true"]
    extra += [] if machine.sys_resource else ["    restrict_oom_score_adj = true"]
    lines = [
        "version = 2",
        "",
        "[plugins]",
        '  [plugins."io.containerd.grpc.v1.cri"]',
        *extra,
        '    [plugins."io.containerd.grpc.v1.cri".cni]',
        '      bin_dir = "/usr/lib/cni"',
        '      conf_dir = "/etc/cni/net.d"',
        '  [plugins."io.containerd.internal.v1.opt"]',
        '    path = "/var/lib/containerd/opt"',
    ]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _whiteout(path: Path) -> None:
    # overlayfs shows no file where the upper layer has a character device 0:0.
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, 0o020000, os.makedev(0, 0))
