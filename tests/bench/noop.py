"""`make bench-noop`: what an apply costs on a node that is as wanted already, and that it writes nothing.

Method: on one booted node, with the installed package, in turn: `nydus-agent apply` as it is; the interpreter
alone; and a process that applies twice, of which the second look at the node is timed
(tests/node/inside/noop.py). What goes beyond the interpreter's start and such a look is told of each round by
itself: it holds every import, also those that are made while the node is looked at or in a thread beside, and
whatever is slower the first time. What is written is what strace sees of the process and all its children:
each call that changes a file, its name or its directory.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.report import Goal, publish, quick, row
from tests.node import scene
from tests.node.boot import Node

METHOD = "a booted node, the package as installed, nothing to do"
ROUNDS, QUICK_ROUNDS = 100, 8
LIMIT_MS = 1000.0
APPLY = ["nydus-agent", "apply"]
START = ["python3", "-I", "-c", "pass"]
WHOLE, START_ALONE = "apply, nothing to do", "interpreter start"
FIRST_LOOK, LOOK = "observe, the first time", "observe"
PROGRAM = Path(__file__).parents[1] / "node" / "inside" / "noop.py"
PLACE = "/root/noop.py"

_CALLS = (
    "execve,open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,sendfile,splice,copy_file_range,"
    "truncate,ftruncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,"
    "symlink,symlinkat,mknod,mknodat,"
    "chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,setxattr,fsetxattr,utimensat"
)
_TRACED = re.compile(r"^(?:\[pid +)?\d*\]? *(?P<call>\w+)\((?P<rest>.*)\) += (?P<result>-?\d+)")
_NO_FILE = re.compile(r"<(?:pipe|socket|anon_inode|/dev/|/proc/|/memfd:|(?:TCP|UDP|UNIX|NETLINK))")
_OPENS = ("open", "openat", "openat2", "creat")


def main() -> int:
    """Measure and publish."""
    short = quick()
    with scene.staged() as stage:
        node = stage.node
        scene.wait_for_route(node, "mirror", 60)
        scene.agent(node, "apply")
        node.write(PLACE, PROGRAM.read_text())
        found = measured(node, QUICK_ROUNDS if short else ROUNDS)
        calls = list(writes(traced(node)))
    for call in calls:
        print(f"a write: {call}", flush=True)
    start = statistics.median(found[START_ALONE])
    parts = zip(found[WHOLE], found[LOOK], strict=True)
    beyond = row(
        "beyond interpreter start and observation", [whole - start - seen for whole, seen in parts], "ms"
    )
    rows = [row(name, values, "ms") for name, values in found.items()]
    rows += [beyond, row("writes", [float(len(calls))], "calls")]
    whole = next(each for each in rows if each.case == WHOLE)
    goals = (
        Goal("median of an apply with nothing to do", whole.p50, LIMIT_MS, "ms"),
        Goal("writes", float(len(calls)), 0, "calls"),
    )
    return publish("noop", METHOD, rows, quick=short, goals=goals)


def measured(node: Node, rounds: int) -> dict[str, list[float]]:
    """Milliseconds by name, of as many rounds; in each everything is run once, so that all meet the same
    machine.
    """
    found: dict[str, list[float]] = {name: [] for name in (WHOLE, START_ALONE, FIRST_LOOK, LOOK)}
    for _ in range(rounds):
        found[WHOLE].append(timed(node, APPLY)[0])
        found[START_ALONE].append(timed(node, START)[0])
        told = json.loads(timed(node, ["python3", "-I", PLACE])[1].splitlines()[-1])
        found[FIRST_LOOK].append(told["first look"])
        found[LOOK].append(told["observe"])
    return found


def timed(node: Node, command: Sequence[str]) -> tuple[float, str]:
    """(milliseconds, stderr) of a command, without what entering the node costs: measured on the node
    itself.
    """
    code = (
        "import json, subprocess, sys, time; b = time.perf_counter(); d = subprocess.run(sys.argv[1:], "
        "check=True, "
    )
    code += "stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True); t = time.perf_counter() - b; "
    code += "print(json.dumps([t * 1000, d.stderr]))"
    took_ms, stderr = json.loads(node.run(["python3", "-I", "-c", code, *command]).stdout)
    return float(took_ms), str(stderr)


def traced(node: Node) -> list[str]:
    """strace's lines of one run and of all its children."""
    with tempfile.NamedTemporaryFile("r") as log:
        strace = ["strace", "-f", "-qq", "-y", "-e", f"trace={_CALLS}", "-e", "signal=none", "-o", log.name]
        # strace ends the lines of calls that block with "unfinished" and "resumed"; both halves are put
        # together.
        done = subprocess.run(
            [*strace, *node.argv(APPLY)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return log.read().splitlines()


def writes(lines: list[str]) -> Iterator[str]:
    """The calls that changed a file, a name or a directory of a file system (pipes, sockets and devices are
    none).
    """
    entered = False
    for line in joined(lines):
        found = _TRACED.match(line)
        if found is None or int(found["result"]) < 0:
            continue
        call, rest = found["call"], found["rest"]
        entered = entered or (call == "execve" and "/nydus-agent" in rest.partition(",")[0])
        if not entered or call == "execve":  # before that it is our own way into the node
            continue
        if "<" in rest.partition(",")[0] and _NO_FILE.search(rest.partition(",")[0]):
            continue
        if call in _OPENS and not re.search(r"O_TRUNC|O_EXCL|O_TMPFILE", rest) and call != "creat":
            continue
        if call in _OPENS and re.search(r'"/(?:dev|proc)/', rest):
            continue
        yield f"{call}({rest[:150]}"


def joined(lines: list[str]) -> Iterator[str]:
    """Lines as if no call had been interrupted by that of another process."""
    open_: dict[str, str] = {}
    for line in lines:
        process, _, text = line.partition(" ")
        if text.rstrip().endswith("<unfinished ...>"):
            open_[process] = text.rstrip().removesuffix("<unfinished ...>")
        elif (resumed := re.match(r"\s*<\.\.\. \w+ resumed>(.*)", text)) is not None:
            yield f"{process} {open_.pop(process, '').strip()}{resumed[1]}"
        else:
            yield line


if __name__ == "__main__":
    began = time.monotonic()
    status = main()
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(status)
