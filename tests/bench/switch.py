"""`make bench-switch`: from the mirror's death, freeze or 500 to the route's change, under a container that reads.

Method: one booted node, the stand-in as mirror, a container that reads cold files all the time. Each round breaks the
mirror, takes the time from just before that until the daemon's own record of the change (`route_since`), waits for
twenty more reads, mends the mirror, and restarts the agent, because otherwise three outages in a row would keep it at
the origin for minutes. Compared in the same run with reads on a mirror that is well.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.bench.report import Row, publish, row
from tests.node import scene

METHOD = "stand-in mirror broken under a reading container; route_since - time of the fault; slowest read of the outage"
ROUNDS = 10


def main() -> None:
    """Measure and publish."""
    rows: list[Row] = []
    with scene.staged("reader-nydus") as stage:
        mirror = stage.mirror
        faults: tuple[tuple[str, Callable[[], None], Callable[[], None]], ...] = (
            ("killed", lambda: mirror.unit.kill("KILL"), mirror.start_again),
            ("frozen", mirror.unit.freeze, mirror.unit.thaw),
            ("answers 500", lambda: mirror.fault("status", status=500), mirror.fault),
        )
        rows += [well(stage)]
        for name, break_it, mend_it in faults:
            rows += outages(stage, name, break_it, mend_it)
    publish("switch", METHOD, rows)


def reading(stage: scene.Stage) -> scene.Reader:
    """A reader on a cold image, the agent fresh, the route at the mirror."""
    stage.node.run(["systemctl", "restart", "nydus-agent"])
    scene.wait_for_route(stage.node, "mirror", 120)
    ref = stage.ref("reader-nydus")
    if stage.node.run(["crictl", "images", "-q", ref]).stdout.strip():
        scene.forget(stage.node, ref)
    scene.pull(stage.node, ref)
    return scene.Reader(stage.node, ref, pause_ms=20)


def well(stage: scene.Stage) -> Row:
    """Reads with a mirror that is well."""
    with reading(stage) as reader:
        reader.wait_for(200)
        return row("mirror well: a read", [read.ms for read in reader.reads()], "ms", errors=len(reader.errors()))


def outages(
    stage: scene.Stage, name: str, break_it: Callable[[], None], mend_it: Callable[[], None]
) -> tuple[Row, ...]:
    """ROUNDS outages of one kind."""
    switched, slowest, back, errors = [], [], [], 0
    for _ in range(ROUNDS):
        with reading(stage) as reader:
            reader.wait_for(20)
            at = time.time()
            break_it()
            scene.wait_for_route(stage.node, "origin", 15)
            switched.append((float(scene.daemon_status(stage.node)["route_since"]) - at) * 1000)
            reader.wait_for(20)
            slowest.append(reader.slowest_ms(at))
            mend_it()
            back.append(scene.wait_for_route(stage.node, "mirror", 120) * 1000)
            errors += len(reader.errors())
    return (
        row(f"mirror {name}: until the route is origin", switched, "ms", errors=errors),
        row(f"mirror {name}: slowest read", slowest, "ms", errors=errors),
        row(f"mirror {name}: from its return until the route is mirror", back, "ms", errors=errors),
    )


if __name__ == "__main__":
    main()
