"""`make bench-noop`: what an apply costs on a node that is as wanted already, and that it writes nothing.

Method: on one booted node, with the installed package: `nydus-agent apply` as a whole; its parts by a program that
does the same steps one after the other; the interpreter alone. What is written is what strace sees of the process and
all its children: each call that changes a file, its name or its directory. The last run is held against the digests and
times of all files too.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.report import Goal, publish, quick, row
from tests.node import scene
from tests.node.boot import Node

METHOD = "a booted node, the package as installed, nothing to do; parts one after the other in one process"
ROUNDS, QUICK_ROUNDS = 30, 8
LIMIT_MS = 150.0
APPLY = ["nydus-agent", "apply"]
PROGRAM = Path(__file__).parents[1] / "node" / "inside" / "noop.py"

_CALLS = (
    "execve,open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,sendfile,splice,copy_file_range,truncate,ftruncate,"
    "fallocate,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,mknod,mknodat,"
    "chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,setxattr,fsetxattr,utimensat"
)
_TRACED = re.compile(r"^(?:\[pid +)?\d*\]? *(?P<call>\w+)\((?P<rest>.*)\) += (?P<result>-?\d+)")
_NO_FILE = re.compile(r"<(?:pipe|socket|anon_inode|/dev/|/proc/|/memfd:|(?:TCP|UDP|UNIX|NETLINK))")
_OPENS = ("open", "openat", "openat2", "creat")


def main() -> int:
    """Measure and publish."""
    short = quick()
    rounds = QUICK_ROUNDS if short else ROUNDS
    with scene.staged() as stage:
        node = stage.node
        scene.wait_for_route(node, "mirror", 60)
        scene.agent(node, "apply")
        whole = [timed(node, APPLY) for _ in range(rounds)]
        start = [timed(node, ["python3", "-I", "-c", "pass"]) for _ in range(rounds)]
        parts = [measured(node) for _ in range(rounds)]
        calls = list(writes(traced(node)))
    for call in calls:
        print(f"a write: {call}", flush=True)
    observed = [value for part in parts for value in part["observe"]]
    planned = [value for part in parts for value in part["plan"]]
    imported = [part["imports"][0] for part in parts]
    named = (("interpreter start", start), ("imports", imported), ("observe", observed), ("decide + plan", planned))
    rest = statistics.median(whole) - sum(statistics.median(values) for _, values in named)
    own = statistics.median(whole) - statistics.median(start) - statistics.median(observed)
    rows = [row("apply, nothing to do", whole, "ms"), *(row(name, values, "ms") for name, values in named)]
    rows += [row("rest", [rest], "ms"), row("writes", [float(len(calls))], "calls")]
    goals = (
        Goal("median beyond interpreter start and observation", own, LIMIT_MS, "ms"),
        Goal("writes", float(len(calls)), 0, "calls"),
    )
    return publish("noop", METHOD, rows, quick=short, goals=goals)


def timed(node: Node, command: list[str]) -> float:
    """Milliseconds of a command, without what entering the node costs: measured on the node itself."""
    code = "import subprocess, sys, time; b = time.perf_counter(); subprocess.run(sys.argv[1:], check=True, "
    code += "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print((time.perf_counter() - b) * 1000)"
    return float(node.run(["python3", "-I", "-c", code, *command]).stdout)


def measured(node: Node) -> dict[str, list[float]]:
    """One run of the program that times the parts."""
    found = json.loads(node.run(["python3", "-I", "-", "1"], input=PROGRAM.read_text()).stdout)
    return {"imports": [found["imports"]], "observe": found["observe"], "plan": found["plan"]}


def traced(node: Node) -> list[str]:
    """strace's lines of one run and of all its children."""
    with tempfile.NamedTemporaryFile("r") as log:
        strace = ["strace", "-f", "-qq", "-y", "-e", f"trace={_CALLS}", "-e", "signal=none", "-o", log.name]
        # strace ends the lines of calls that block with "unfinished" and "resumed"; both halves are put together.
        done = subprocess.run([*strace, *node.argv(APPLY)], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return log.read().splitlines()


def writes(lines: list[str]) -> Iterator[str]:
    """The calls that changed a file, a name or a directory of a file system (pipes, sockets and devices are none)."""
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
