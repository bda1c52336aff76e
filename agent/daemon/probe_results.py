"""What is published and counted of the probes' results."""

from __future__ import annotations

import time

from agent.daemon.counts import LATE, OK
from agent.daemon.record import Record
from agent.daemon.view import Probed
from agent.health.evidence import (
    CanaryFailed,
    CanaryOk,
    Event,
    LoopLate,
    PingFailed,
    PingOk,
    Probe,
    SentinelClosed,
    Symptom,
    SymptomsUnknown,
    Tick,
)


class ProbeResults:
    """The last results of one session's probes; counts go to the record."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.ping = Probed()
        self.canary = Probed()

    def note(self, event: Event) -> None:
        """Keep what is published of it."""
        counts = self._record.counts
        match event:
            case Tick():  # as often as all the others together
                pass
            case PingOk():
                self.ping = _good(event.latency_s)
                counts.add("pings_total", OK)
                self._record.ping_times.add(event.latency_s)
            case PingFailed():
                self.ping = _bad(event.detail)
                counts.add("pings_total", event.failure)
            case LoopLate():
                counts.add("pings_total" if event.probe is Probe.PING else "canaries_total", LATE)
            case CanaryOk():
                self.canary = _good(event.latency_s)
                counts.add("canaries_total", OK)
                self._record.canary_times.add(event.latency_s)
            case CanaryFailed():
                self.canary = _bad(event.detail)
                counts.add("canaries_total", event.failure)
            case SentinelClosed():
                counts.add("sentinel_closed_total")
            case Symptom():
                self._record.symptom(event)
            case SymptomsUnknown():
                self._record.symptoms.readable(event.reason)
            case _:
                pass


def _good(latency_s: float) -> Probed:
    return Probed(ok=True, at=time.time(), ms=round(latency_s * 1000, 3))


def _bad(detail: str) -> Probed:
    return Probed(ok=False, at=time.time(), detail=detail)
