"""Kills on a booted node: real systemd, containerd and snapshotter, the installed package and its verbs.

One node goes from state to state (without us, configured in one way, configured in another); each change is
killed at a moment of its own, or the whole machine is. After the recovery the node must be what it was, or
what it was to become, and containerd must start on it.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.survival.tally import Tally
from tests.node import parts, scene
from tests.node.boot import Node, NodeError

_JOURNAL = "/var/lib/nydus-agent/journal/open.jsonl"
_GENERATIONS = "/var/lib/nydus-agent/generations"
_SITE = "/etc/nydus-agent/conf.d/60-crash.toml"
_PRESENT = scene.HTTP_SITE.replace("on_install = true", "on_install = false\nrestarts_per_hour = 60")
_SITES = {"first": "", "second": '[mirror]\nswitch = "native"\n[containerd]\nmode = "runtime-class"\n'}
_NEXT = {"without": ("first",), "first": ("second", "without"), "second": ("first", "without")}
"""state -> those that come after it, so that each always looks the same (a mode that was left leaves keys
behind).
"""
_NOT_COMPARED = ("/etc/nydus-agent", "/etc/ld.so.cache", "/etc/mtab", "/etc/machine-id", "/etc/.updated")
_DEADLINE_S = 120.0
_MARGIN = 1.05
_POWER = 8
"""Every how manyth round ends with a power cut instead of a kill."""
_AGAIN = 0.25
_ON = 0.5
"""Share of undone changes that are then made undisturbed."""

Shape = tuple[tuple[str, tuple[object, ...]], ...]


@contextmanager
def installed() -> Iterator[Node]:
    """A node with a mirror and a registry, and our package with nothing applied."""
    with scene.staged(installed=False) as stage:
        scene.install_only(stage.node, _PRESENT)
        yield stage.node


def shape(node: Node) -> Shape:
    """All of /etc but our own configuration, and which of the two services run."""
    found = dict(_files(node.inside("/etc"), "/etc"))
    for unit in ("containerd", "nydus-snapshotter"):
        found[unit] = (node.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active",)
    return tuple(sorted(found.items()))


def _files(place: Path, path: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    with os.scandir(place) as entries:
        for entry in entries:
            here = f"{path}/{entry.name}"
            status = entry.stat(follow_symlinks=False)
            inode = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
            if here in _NOT_COMPARED:
                continue
            if entry.is_symlink():
                yield here, ("link", os.readlink(entry.path))
            elif entry.is_dir():
                yield here, ("directory", *inode)
                yield from _files(Path(entry.path), here)
            elif entry.is_file():
                yield here, ("file", *inode, hashlib.sha256(Path(entry.path).read_bytes()).hexdigest())


def differs(one: Shape, other: Shape) -> str:
    """The first differences in words."""
    left, right = dict(one), dict(other)
    paths = [path for path in sorted({*left, *right}) if left.get(path) != right.get(path)]
    return "; ".join(f"{path}: {left.get(path)} against {right.get(path)}" for path in paths[:4])


class Victim:
    """A verb that runs on the node; its own process is the child of nsenter."""

    def __init__(self, node: Node, *words: str) -> None:
        self._node = node
        self._log = open(node.directory / "victim.log", "w+b")  # noqa: SIM115 - closed by `wait`
        self.began = time.monotonic()
        self._outer = node.popen(["nydus-agent", *words], stdout=self._log, stderr=self._log)
        self._pid = 0

    def until_journal(self) -> bool:
        """Wait until its journal is there; False where it ended before."""
        place = self._node.inside(_JOURNAL)
        end = time.monotonic() + _DEADLINE_S
        while not place.exists():
            if self._outer.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def pid(self) -> int:
        """Its number on the machine; 0 where it has ended."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        end = time.monotonic() + 10
        while not self._pid and self._outer.poll() is None and time.monotonic() < end:
            found = children.read_text().split() if children.exists() else []
            self._pid = int(found[0]) if found else 0
            time.sleep(0.001)
        return self._pid

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        pid = self.pid()
        if pid and self._outer.poll() is None:
            os.kill(pid, number)

    def wait(self) -> tuple[int, str]:
        """Exit status and what it said."""
        if self._outer.poll() is None:
            os.kill(self._outer.pid, signal.SIGCONT)  # nsenter stops itself when its child was stopped
        code = self._outer.wait(_DEADLINE_S)
        with self._log:
            self._log.seek(0)
            return code, self._log.read().decode(errors="replace")


@dataclass
class Rounds:
    """One node, and what became of each change on it."""

    node: Node
    chance: random.Random
    shapes: dict[str, Shape] = field(default_factory=dict)
    lengths: dict[str, tuple[float, float]] = field(default_factory=dict)
    """change -> seconds to the journal's appearance, and from there to the end."""
    numbers: dict[str, int] = field(default_factory=dict)
    """state -> a generation with it, since the last removal."""
    state: str = "without"

    def learn(self) -> None:
        """Each change once without a kill: what the states look like, and how long it takes."""
        self.shapes["without"] = shape(self.node)
        for wanted in ("first", "second", "first", "without"):
            verb = self._words(wanted)
            victim = Victim(self.node, *verb)
            there = victim.until_journal()
            seen = time.monotonic()
            code, said = victim.wait()
            if code not in (0, 3) or not there:
                raise NodeError(f"nydus-agent {' '.join(verb)}, undisturbed: {code}\n{said}")
            self.lengths[verb[0]] = (seen - victim.began, time.monotonic() - seen)
            now = shape(self.node)
            if self.shapes.setdefault(wanted, now) != now:
                raise NodeError(f"{wanted} is not what it was: {differs(now, self.shapes[wanted])}")
            self._arrived(wanted)

    def _words(self, wanted: str) -> list[str]:
        if wanted == "without":
            return ["remove"]
        self.node.write(_SITE, _SITES[wanted])
        if self.state == "second":
            return ["rollback", str(self.numbers[wanted]), "--now"]
        return ["apply", "--now"]

    def _arrived(self, state: str) -> None:
        self.state = state
        if state == "without":
            self.numbers.clear()
        else:
            self.numbers[state] = max(
                int(path.stem) for path in self.node.inside(_GENERATIONS).glob("*.json")
            )

    def play(self, number: int, part: float, tallies: dict[str, Tally]) -> None:
        """One change, killed after `part` of its length."""
        wanted = self.chance.choice(_NEXT[self.state])
        verb = self._words(wanted)
        tally = tallies.setdefault(verb[0], Tally(f"booted node: {verb[0]}, killed at random"))
        where = f"round {number}, {' '.join(verb)} from {self.state} to {wanted}, {part:.0%} of its length"
        try:
            self._kill(verb, part, power=number % _POWER == _POWER - 1, tally=tally)
            self._recover(tally)
            self._judge(wanted, tally, where)
            if self.state != wanted and self.chance.random() < _ON:
                self._go_on(verb, wanted, tally)
        except NodeError as error:
            tally.mixed(where, str(error)[:1500])
            raise

    def _kill(self, verb: list[str], part: float, *, power: bool, tally: Tally) -> None:
        to_journal, rest = self.lengths[verb[0]]
        victim = Victim(self.node, *verb)
        if self.chance.random() < 0.2:
            time.sleep(part * (to_journal + rest))
        elif victim.until_journal():
            time.sleep(part * rest * _MARGIN)
        tally.counts["in the transaction"] += self.node.inside(_JOURNAL).exists()
        if power:
            tally.counts["power cut"] += 1
            self.node.power_cut()
            # What a set-up comes to depends on what the mirror was seen to do.
            parts.start_registry(self.node)
            parts.start_mirror(self.node)
            # The boot applies what was accepted before; a restart of containerd in its middle would fail it.
            self.node.run(["systemctl", "is-system-running", "--wait"], check=False)
        else:
            victim.signal(signal.SIGKILL)
        code, _ = victim.wait()
        tally.counts["killed"] += power or code not in (0, 1, 2, 3, 4)

    def _recover(self, tally: Tally) -> None:
        while self.node.inside(_JOURNAL).exists() and self.chance.random() < _AGAIN:
            victim = Victim(self.node, "recover")
            time.sleep(self.chance.random() * 2)
            victim.signal(signal.SIGKILL)
            tally.counts["recovery killed"] += victim.wait()[0] not in (0, 1, 2, 3, 4)
        began = time.monotonic()
        code, said = Victim(self.node, "recover").wait()
        tally.recoveries_ms.append((time.monotonic() - began) * 1000)
        if code != 0:
            raise NodeError(f"recover: {code}\n{said}")

    def _go_on(self, verb: list[str], wanted: str, tally: Tally) -> None:
        code, said = Victim(self.node, *verb).wait()
        now = shape(self.node)
        if code not in (0, 3) or now != self.shapes[wanted]:
            raise NodeError(f"the next one, undisturbed: {code}: {differs(now, self.shapes[wanted])}\n{said}")
        self._arrived(wanted)
        tally.counts["then made"] += 1

    def _judge(self, wanted: str, tally: Tally, where: str) -> None:
        before, after = self.shapes[self.state], self.shapes[wanted]
        now = shape(self.node)
        if now not in (before, after):
            raise NodeError(f"not {self.state}: {differs(now, before)}\nnot {wanted}: {differs(now, after)}")
        tally.counts["after" if now == after else "before"] += 1
        self._arrived(wanted if now == after else self.state)
        self.node.run(["systemctl", "reset-failed", "containerd"], check=False)
        self.node.run(["systemctl", "restart", "containerd"])
        self.node.run(["ctr", "version"])
        root = self.node.run(["crictl", "imagefsinfo"]).stdout
        if ("/var/lib/containerd-nydus" in root) != (self.state == "first"):
            raise NodeError(f"{where}: containerd uses another snapshotter than in {self.state}:\n{root}")
        tally.counts["containerd started"] += 1


def rounds(node: Node, count: int, seed: int) -> list[Tally]:
    """So many kills, spread evenly over the lengths of the changes. The first node that is mixed ends it."""
    played = Rounds(node, random.Random(seed))
    played.learn()
    tallies: dict[str, Tally] = {}
    parts = [(number + played.chance.random()) / count for number in range(count)]
    played.chance.shuffle(parts)
    for number, part in enumerate(parts):
        try:
            played.play(number, part, tallies)
        except NodeError:
            break
    return list(tallies.values())
