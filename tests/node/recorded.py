"""What the real nydusd 2.4.4 wrote to the journal while a mirror lied: lines of tests/golden/nydusd-2.4.4
with their times, played into a node's journal as the unit that nydusd's lines come from. See ORIGIN.md there.

No package registry has nydusd 2.4.x, so `make test` cannot run it; `make test-nydusd` runs it, and holds
these lines to what it writes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tests.node.boot import Node

GOLDEN = Path(__file__).parents[1] / "golden" / "nydusd-2.4.4"
CGROUP = "/sys/fs/cgroup/system.slice/nydus-snapshotter.service"
_PLAY = """\
import json, sys, time
began = time.monotonic() + 0.5  # it lives before that: until the journal knows whose it is
for line in map(json.loads, open(sys.argv[1])):
    time.sleep(max(0.0, began + line["after_s"] - time.monotonic()))
    print(line["text"], flush=True)
time.sleep(0.5)
"""


@dataclass(frozen=True)
class Line:
    """One line, so many seconds after the first of its recording."""

    after_s: float
    text: str


def names() -> list[str]:
    """The recordings that there are."""
    return sorted(path.stem for path in GOLDEN.glob("*.jsonl"))


def lines(name: str) -> list[Line]:
    """A recording."""
    return [Line(**json.loads(line)) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]


def write(name: str, taken: list[tuple[float, str]], at_most: int = 24) -> None:
    """Keep lines of a journal, (when, text), as a recording."""
    first = taken[0][0]
    kept = [{"after_s": round(at - first, 4), "text": text} for at, text in taken[:at_most]]
    GOLDEN.mkdir(parents=True, exist_ok=True)
    (GOLDEN / f"{name}.jsonl").write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
    )


def play(node: Node, name: str) -> None:
    """Write a recording into the node's journal, each line at its time."""
    node.write("/run/test-recorded/play.py", _PLAY)
    node.write("/run/test-recorded/lines", (GOLDEN / f"{name}.jsonl").read_bytes())
    play_it = "python3 /run/test-recorded/play.py /run/test-recorded/lines | systemd-cat"
    node.run(f"echo $$ >{CGROUP}/cgroup.procs; {play_it}")


def masked(text: str) -> str:
    """A line without what is another one each time: time, place in the source, address, digest, numbers."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"^\[[^]]*\] ", "", text)
    text = re.sub(r"\[\S*\.rs:\d+\]|at \S*\.rs:\d+", "[source]", text)
    text = re.sub(r"https?://[^\s\"),]+", "URL", text)
    text = re.sub(r"[0-9a-f]{64}", "DIGEST", text)
    text = re.sub(r"takes \S+,", "takes TIME,", text)
    return re.sub(r"\d+", "N", text)
