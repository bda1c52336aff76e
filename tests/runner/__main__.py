"""`tests/run STAGE…`: set-up, then the stages in the order given; exit 1 when anything failed or did not
run.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.runner import builds, host, processes, report, side_by_side, stages
from tests.runner.stages import RESULTS, Command, Stage

_BAR = "─" * 10


def main() -> int:
    """Run what the command line names."""
    wanted = _parse()
    os.chdir(stages.ROOT)
    RESULTS.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A shell that runs us in its background has SIGINT ignored, and so would all that we end by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started, began = time.monotonic(), time.time()
    needed = {name for stage in wanted for name in stage.needs}
    try:
        _say("set-up", "packages of this machine, tools, the build root")
        host.prepare(nodes=bool(needed))
        environment = host.environment()
        _check(["python3", "-m", "tests.node.cache", "build-root"], environment, deadline_s=1800)
    except host.HostError as error:
        print(f"set-up failed: {error}", flush=True)
        return 1
    except subprocess.SubprocessError as error:
        print(
            f"set-up failed: {error}; the end of the log:",
            *builds.last_lines("*", 15),
            sep="\n  ",
            flush=True,
        )
        return 1
    background = builds.Builds(environment, RESULTS)
    try:
        background.start(needed)
        outcomes = _run_all(wanted, environment, background)
    finally:
        background.stop()
    if len(wanted) > 1:
        _say("summary", "")
    print(report.table(outcomes, time.monotonic() - started), flush=True)
    if told := background.summary():
        print(told, flush=True)
    if any(outcome.counts != report.Counts() for outcome in outcomes):
        written = [path for path in sorted(RESULTS.rglob("*.xml")) if path.stat().st_mtime >= began]
        print(report.repeats(written), flush=True)
        print(report.closing_line(outcomes), flush=True)
    return 1 if any(outcome.reasons for outcome in outcomes) else 0


def _parse() -> list[Stage]:
    known = [*stages.STAGES, *stages.benches()]
    listing = "\n".join(f"  {stage.name:<13}{stage.what}" for stage in stages.STAGES.values())
    parser = argparse.ArgumentParser(
        prog="make", usage="make test [TIERS=…] | test-nightly | STAGE | bench-NAME [QUICK=1] | clean",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="test runs lint, types, unit, contract, package and node, then the stages in TIERS.\n\n"
        f"stages:\n{listing}\n"
        f"  {'benches':<13}{' '.join(stages.benches()) or 'none yet'}",
    )  # fmt: skip
    parser.add_argument("stages", nargs="+", choices=known, metavar="STAGE", help="as listed above")
    parser.add_argument(
        "--quick", action="store_true", help="benches with a small n (make bench-NAME QUICK=1)"
    )
    parser.add_argument(
        "--benches", action="store_true", help="and every bench after them (make test-nightly)"
    )
    asked = parser.parse_args()
    quick = bool(asked.quick)
    names = [*asked.stages, *(stages.benches() if asked.benches else ())]
    return [
        stages.STAGES[name] if name in stages.STAGES else stages.bench(name, quick=quick) for name in names
    ]


def _run_all(
    wanted: Sequence[Stage], environment: Mapping[str, str], background: builds.Builds
) -> list[report.Outcome]:
    outcomes: list[report.Outcome] = []
    for number, stage in enumerate(wanted, 1):
        count = f" ({number} of {len(wanted)})" if len(wanted) > 1 else ""
        _say(stage.name + count, stage.what)
        started = time.monotonic()
        try:
            _prepare(stage, environment, background)
        except subprocess.CalledProcessError as error:
            counts, reasons = report.Counts(), [f"{' '.join(error.cmd)}: exit status {error.returncode}"]
        except host.HostError as error:
            counts, reasons = report.Counts(), [str(error)]
        else:
            counts, reasons = _run_stage(stage, environment)
        outcomes.append(report.Outcome(stage.name, counts, time.monotonic() - started, tuple(reasons)))
    return outcomes


def _run_stage(stage: Stage, environment: Mapping[str, str]) -> tuple[report.Counts, list[str]]:
    if not stage.beside:
        return run_commands(stage.commands(), environment)
    return side_by_side.SideBySide(environment, stage.beside).run(stage.commands(), stage.name)


def _prepare(stage: Stage, environment: Mapping[str, str], background: builds.Builds) -> None:
    if stage.protos:
        _generate_protos(environment)
    if stage.deb:
        _check(["packaging/build-deb"], environment)
    failed = background.wait(stage.needs)
    if failed:
        raise host.HostError(f"could not be built: {', '.join(failed)} (logs: {RESULTS}/build-NAME.log)")


def _generate_protos(environment: Mapping[str, str]) -> None:
    stamp, wanted = Path("build/protos.stamp"), stages.protos_digest()
    if Path("agent/_pb/__init__.py").is_file() and stamp.is_file() and stamp.read_text() == wanted:
        return
    _check(["tests/in-root", "packaging/generate-protos", "agent/_pb"], environment)
    stamp.write_text(wanted)


def run_commands(
    commands: Sequence[Command], environment: Mapping[str, str]
) -> tuple[report.Counts, list[str]]:
    """Run commands one after the other; what their tests counted, and the reasons why the run is not
    green.
    """
    total, reasons = report.Counts(), []
    for command in commands:
        if command.junit is not None:
            command.junit.unlink(missing_ok=True)
        code = _run(command, environment)
        if code != 0:
            reasons.append(f"{' '.join(command.argv)}: exit status {code}")
        if command.junit is not None:
            counts = report.read_junit(command.junit)
            total += counts
            if counts.skipped:
                reasons.append(
                    f"{counts.skipped} tests did not run (skipped or expected to fail): {command.junit}"
                )
    return total, reasons


def _run(command: Command, environment: Mapping[str, str]) -> int:
    process = processes.start(command.argv, environment)
    try:
        return process.wait(command.deadline_s)
    except subprocess.TimeoutExpired:
        print(f"not done after {command.deadline_s:g} s, ended", flush=True)
        return 124
    finally:
        processes.end([process])


def _check(argv: list[str], environment: Mapping[str, str], deadline_s: float = 900) -> None:
    subprocess.run(argv, env=dict(environment), stdin=subprocess.DEVNULL, check=True, timeout=deadline_s)


def _say(title: str, what: str) -> None:
    print(f"\n{_BAR} {title} {_BAR} {what}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
