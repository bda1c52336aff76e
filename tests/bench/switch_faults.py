"""The faults of `make bench-switch`: how each is brought about (within a millisecond where possible) and
mended.

Lies come in two forms. On every request: the canary meets them too. On requests for blobs only: ping and
canary stay well, and only symptoms of real reads tell. Silence on blobs only is told by nothing but nydusd's
own timeout (10 s).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any, TypeAlias

from tests.bench.switch_rig import Fault, Rig

Act: TypeAlias = Callable[[Rig], None]

BLOBS = "blobs/sha256"
_BLACK_HOLE = """\
table inet test_black_hole {
  chain into { type filter hook input priority -300; tcp dport 4001-4003 drop; tcp sport 4001-4003 drop; }
}
"""


def _kill(rig: Rig) -> None:
    rig.mirror.unit.signal_now(SIGKILL)


def _start_again(rig: Rig) -> None:
    rig.mirror.start_again()


def _freeze(rig: Rig) -> None:
    rig.mirror.unit.signal_now(SIGSTOP)


def _thaw(rig: Rig) -> None:
    rig.mirror.unit.signal_now(SIGCONT)
    _mend(rig)


def _mend(rig: Rig) -> None:
    rig.mirror.fault()
    rig.mirror.ping("ok")


def _before_an_answer(rig: Rig) -> None:
    """Both readers wait for the first byte of an answer."""
    _hang(rig, "hang")


def _within_a_body(rig: Rig) -> None:
    """Both readers have half of a body and wait for the rest."""
    _hang(rig, "hang_body")
    time.sleep(0.03)  # until the half has been sent


def _hang(rig: Rig, kind: str) -> None:
    hits = rig.mirror.stats()["hits"]
    rig.mirror.fault(kind, match=BLOBS)
    rig.wait(lambda: rig.mirror.stats()["hits"] >= hits + 2, 5, "both readers meet the fault")


def _drop(rig: Rig) -> None:
    rig.node.run(["nft", "-f", "-"], input=_BLACK_HOLE)


def _pass(rig: Rig) -> None:
    rig.node.run(["nft", "delete", "table", "inet", "test_black_hole"])


def _fault(kind: str, **settings: Any) -> Act:
    return lambda rig: rig.mirror.fault(kind, **settings)


def _silent(rig: Rig) -> None:
    rig.mirror.ping("hang")
    rig.mirror.fault("hang")


KILLED = Fault("killed", _kill, _start_again)
KILLED_IN_BODY = Fault("killed while reads are in a body", _kill, _start_again, _within_a_body)
FROZEN = Fault("frozen while reads wait for an answer", _freeze, _thaw, _before_an_answer)
FROZEN_IN_BODY = Fault("frozen while reads are in a body", _freeze, _thaw, _within_a_body)
BLACK_HOLE = Fault("black hole (its packets are dropped)", _drop, _pass)
SILENT = Fault("accepts, never answers", _silent, _mend)

_LIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("answers 500", "status", {"status": 500}),
    ("answers 429", "status", {"status": 429}),
    ("answers 404", "status", {"status": 404}),
    ("cuts bodies", "cut", {}),
    ("sends zeros", "zeros", {}),
)
TRICKLE = Fault("trickles 2 KB/s", _fault("trickle", rate=2048), _mend)
LIES = tuple(Fault(name, _fault(kind, **settings), _mend) for name, kind, settings in _LIES)
BLOB_LIES = tuple(
    Fault(f"{name}, blobs only", _fault(kind, match=BLOBS, **settings), _mend)
    for name, kind, settings in _LIES
)
UNSEEN = (
    Fault("never answers, blobs only", _fault("hang", match=BLOBS), _mend),
    Fault("trickles 2 KB/s, blobs only", _fault("trickle", rate=2048, match=BLOBS), _mend),
)
"""What only nydusd's timeout ends."""


@contextmanager
def busy(rig: Rig, loops: int = 3) -> Iterator[None]:
    """More loops that never rest than the machine has cores (two), at the priority of any service."""
    unit = "test-busy.service"
    script = f"for n in $(seq {loops}); do (while :; do :; done) & done; wait"
    rig.node.run(["systemd-run", "--quiet", "--collect", f"--unit={unit}", "--", "bash", "-c", script])
    try:
        yield
    finally:
        rig.node.run(["systemctl", "stop", unit])
