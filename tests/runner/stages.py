"""The stages: what each runs, where, and what it needs first."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.node import cache
from tests.runner import builds, groups, shares

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path("build/test-results")
SCRIPTS = ("packaging/nydus-agent",)  # Python without the suffix
_IN_ROOT = "tests/in-root"
_BESIDE = groups.cores() + 1
"""Of parts that compute most of the time: what one waits for costs the others nothing."""
_MIXED = 2 * groups.cores()
"""Of parts of which every other one waits most of the time."""
_LONG_UNIT = ("daemon_memory", "containerd_golden", "origins", "daemon_publish")
_LONG_CONTRACT = ("crash_safety", "containerd_configuration", "convert_verb")
"""Files that take longest: each is run by itself, and begins before the others; those that wait and those
that compute by turns."""
DAEMON_TIMES = "tests/contract/test_daemon_times.py"
"""It holds the daemon to its times, which it does not keep beside others. So it runs alone, in the tier
`test-survival`.
"""


@dataclass(frozen=True)
class Command:
    """One command of a stage. With `junit` it is a pytest run, whose counts are taken from there."""

    argv: tuple[str, ...]
    junit: Path | None = None
    deadline_s: float = 600
    alone: str = ""
    """In a stage whose commands run beside each other: this one does not, but beside those with the same
    word.
    """
    place: float = 1.0
    """In such a stage: how many this one counts as, where more than one may run."""


@dataclass(frozen=True)
class Stage:
    """A name, what it shows, and its commands in order; the next ones run even when one fails."""

    name: str
    what: str
    commands: Callable[[], tuple[Command, ...]]
    protos: bool = True
    deb: bool = False
    needs: tuple[str, ...] = ()
    """What must have been built (names of `builds`)."""
    beside: int = 0
    """How many of the commands run beside each other; 0: one after the other."""


def _here(*argv: str, deadline_s: float = 600) -> Command:
    return Command(("python3", *argv), deadline_s=deadline_s)


def _in_root(*argv: str, deadline_s: float = 600) -> Command:
    return Command((_IN_ROOT, *argv), deadline_s=deadline_s)


def _pytest(place: str, *paths: str, deadline_s: float, name: str = "") -> Command:
    """Tests in the build root ("root"), or on this machine, from which they boot nodes ("here")."""
    name = name or paths[0].removeprefix("tests/").removesuffix(".py").replace("/", "-")
    junit = RESULTS / f"{name}.xml"
    # Slow tests are named as they run, and show what they measured; xunit2 has no place for what a test
    # records.
    slow = place == "here"
    shown = ("--verbose", "-rfEP") if slow else ("--quiet",)
    argv = ["python3", "-m", "pytest", *shown, "-p", "no:cacheprovider", f"--junitxml={junit}"]
    argv += ["--override-ini=junit_family=xunit1", *paths]
    # In the build root there is no network but a loopback of its own.
    return Command(tuple(argv) if slow else ("env", "IN_ROOT_NET=none", _IN_ROOT, *argv), junit, deadline_s)


def _lint() -> tuple[Command, ...]:
    return (
        _here("-m", "ruff", "check", "--quiet", ".", *SCRIPTS),
        _here("-m", "ruff", "format", "--quiet", "--check", "--diff", ".", *SCRIPTS),
        _here("-m", "tests.lint.budgets"),
        _pytest("root", "tests/lint", deadline_s=300),
    )


def _types() -> tuple[Command, ...]:
    # The product runs on bookworm's Python too; the tests run on trixie's.
    return (_in_root("mypy", "agent"), _in_root("mypy", "--python-version=3.13", "agent", "tests"))


def _unit() -> tuple[Command, ...]:
    # The health machine's tests run by themselves, because each of its branches must be taken by them.
    health = _named("health_")
    dealt = shares.shares(ROOT / "tests/unit", ROOT, _LONG_UNIT, 4, without=health)
    covered = _covered(_pytest("root", *health, deadline_s=1200, name="unit-health"))
    return (covered, *map(_share, dealt))


def _share(share: shares.Share) -> Command:
    return _pytest("root", *share.paths, deadline_s=1200, name=share.name)


def _named(beginning: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/unit").glob(f"test_{beginning}*.py"))


def _covered(command: Command) -> Command:
    """The same run of pytest, which fails where a branch of what it tests is not taken."""
    place, (python, *pytest) = command.argv[:3], command.argv[3:]
    data = f"--data-file={RESULTS}/health.coverage"
    run = shlex.join([python, "-m", "coverage", "run", data, *pytest])
    shown = shlex.join([python, "-m", "coverage", "report", data])
    return replace(command, argv=(*place, "sh", "-euc", f"{run}\n{shown}"))


def _model() -> tuple[Command, ...]:
    command = _pytest("root", "tests/unit/test_health_model.py", deadline_s=3000, name="model")
    place, tests = command.argv[:3], command.argv[3:]
    return (replace(command, argv=(*place, "env", "NYDUS_AGENT_TEST_LENGTH=50", *tests)),)


def _contract() -> tuple[Command, ...]:
    dealt = shares.shares(ROOT / "tests/contract", ROOT, _LONG_CONTRACT, 3, without=[DAEMON_TIMES])
    return tuple(map(_share, dealt))


def _package() -> tuple[Command, ...]:
    booted = "tests/package/test_booted_node.py"
    return (
        _pytest("here", booted, deadline_s=1200),
        _pytest("here", "tests/package", f"--ignore={booted}", deadline_s=1200),
    )


OF_NODES = tuple(name for name in builds.ALL if name not in builds.DRAGONFLY)
"""What the tests on nodes need that run no dfdaemon."""


def _survival() -> tuple[Command, ...]:
    times = replace(_pytest("root", DAEMON_TIMES, deadline_s=600), alone=DAEMON_TIMES)
    return (*_on_nodes("test-survival"), times)


def _on_nodes(tier: str) -> tuple[Command, ...]:
    return tuple(_side(group) for group in groups.groups(ROOT / "tests/node", ROOT, tier))


def _side(group: groups.Group) -> Command:
    command = _pytest("here", "--no-header", group.path, deadline_s=1200, name=f"node/{group.name}")
    return replace(command, alone=group.alone, place=group.place)


def _arm64() -> tuple[Command, ...]:
    return (_pytest("here", "tests/arm64", "--durations=10", deadline_s=1800),)


def _clock() -> tuple[Command, ...]:
    return (_pytest("here", "tests/clock", "--durations=10", deadline_s=1800),)


def _nydusify() -> tuple[Command, ...]:
    if not os.access(os.environ.get("NYDUSIFY", ""), os.X_OK):
        raise SystemExit(
            "NYDUSIFY=PROGRAM must name nydusify, which no package registry has (nydus' releases do)"
        )
    return (_pytest("here", "tests/nydusify", "--durations=10", deadline_s=1800),)


_BY_NYDUSD = ("main_job", "symptoms", "mirror_faults", "renewal", "switch_bench")
"""Tests on nodes whose outcome nydusd decides."""


def _nydusd() -> tuple[Command, ...]:
    for variable in ("NYDUSD", "NYDUS_IMAGE"):
        if not os.access(os.environ.get(variable, ""), os.X_OK):
            raise SystemExit(
                f"{variable}=PROGRAM must name a program: both of one release of nydus, as 2.4.4's"
            )
    names = [f"tests/node/test_{name}.py" for name in _BY_NYDUSD]
    paths = ("tests/nydusd", *names)
    return tuple(_pytest("here", path, deadline_s=1800, name=f"nydusd/{Path(path).stem}") for path in paths)


def _demo_needs() -> tuple[str, ...]:
    """A real dfdaemon only where it is asked for, or there already: a newcomer does not wait for its
    build.
    """
    wish = os.environ.get("DRAGONFLY", "")
    real = wish == "real" or (wish == "" and cache.find("dfdaemon") is not None)
    return (*builds.NODE, "images", *(("dfdaemon", "scheduler") if real else ()))


def _matrix() -> tuple[Command, ...]:
    return (_here("-m", "tests.node.matrix", deadline_s=3000),)


def _demo() -> tuple[Command, ...]:
    return (_here("-m", "tests.node.demo", deadline_s=3000),)


def _booted(
    name: str,
    what: str,
    commands: Callable[[], tuple[Command, ...]],
    needs: tuple[str, ...],
    beside: int = 0,
) -> Stage:
    """A stage that installs our package somewhere, so that it must be built first."""
    return Stage(name, what, commands, deb=True, needs=needs, beside=beside)


_IMAGED = (*builds.NODE, "images")
STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("lint", "style, layers, sizes, shell", _lint, protos=False),
        Stage("types", "mypy --strict", _types),
        Stage("unit", "pure code and fakes, in Debian's Python", _unit, beside=_MIXED),
        Stage("contract", "each adapter and its fake, the same tests on both", _contract,
              needs=("containerds",), beside=_MIXED),
        _booted("package", "the .deb: content, lintian, units, install and purge", _package,
                builds.PACKAGE, _BESIDE),
        _booted("node", "booted Debian nodes with real parts, and a stand-in mirror",
                lambda: _on_nodes("node"), OF_NODES, groups.at_once()),
        _booted("test-survival",
                "the same when power, processes or resources go; every containerd; quick benches on nodes",
                _survival, OF_NODES, groups.at_once()),
        _booted("test-dragonfly", "booted nodes with a real dfdaemon and scheduler",
                lambda: _on_nodes("test-dragonfly"), builds.ALL, groups.at_once()),
        Stage("test-model", "the failure detector's model, at length", _model),
        _booted("test-matrix", "every containerd, mode and form of configuration on booted nodes", _matrix,
                (*_IMAGED, "containerds", "puller", "bookworm")),
        _booted("test-arm64", "our package and the nydus programs for arm64 on an emulated node", _arm64,
                (*builds.NODE, *builds.ARM64)),
        _booted("test-clock",
                "SETS THIS MACHINE'S CLOCK by up to ten minutes and back, under a booted node",
                _clock, _IMAGED),
        _booted("test-nydusify", "convert with NYDUSIFY=PROGRAM, the real one, on a booted node", _nydusify,
                _IMAGED),
        _booted("test-nydusd",
                "main job, faults, renewal and switch with NYDUSD=PROGRAM and NYDUS_IMAGE=PROGRAM",
                _nydusd, _IMAGED),
        _booted("demo", "the main job on a booted node", _demo, _demo_needs()),
        _booted("deb", "build the package into build/deb", lambda: (), ()),
        Stage("protos", "generate agent/_pb from protos/", lambda: ()),
    )
}  # fmt: skip


_SIMULATED = ("configs", "crash_tree", "detector", "false_switch", "mutants", "plan_worlds", "traces")
"""Benches that need no node: they run the product's code in the build root."""


def bench(name: str, *, quick: bool = False) -> Stage:
    """A bench is a module of tests.bench with its own main, which knows `--quick`."""
    module = name.removeprefix("bench-").replace("-", "_")
    argv = ("-m", f"tests.bench.{module}", *(("--quick",) if quick else ()))
    what = "a measurement, quick form" if quick else "a measurement"
    if module in _SIMULATED:
        deadline_s = 12 * 3600 if module == "detector" else 3000  # a night
        simulation = Command(("env", "IN_ROOT_NET=none", _IN_ROOT, "python3", *argv), deadline_s=deadline_s)
        asks = module == "configs"  # real containerds
        return Stage(name, what, lambda: (simulation,), asks, needs=("containerds",) if asks else ())
    return Stage(name, what, lambda: (_here(*argv, deadline_s=3000),), deb=True, needs=builds.ALL)


def benches() -> list[str]:
    """The benches that exist."""
    found = sorted((ROOT / "tests/bench").glob("[a-z]*.py"))
    return ["bench-" + path.stem.replace("_", "-") for path in found if "def main" in path.read_text()]


def protos_digest() -> str:
    """What agent/_pb is generated from, as one word."""
    digest = hashlib.sha256()
    for path in (*sorted((ROOT / "protos").glob("*.proto")), ROOT / "packaging/generate-protos"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
