"""Thresholds of the health machine as one frozen value in seconds, each with its reason.

`Policy.of` makes it from the operator's configuration; what the operator cannot set has its reason at the
field.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from agent.config.model import HealthConfig


@dataclass(frozen=True, slots=True)
class Policy:
    """All numbers that the machine uses. Times are seconds; `return_delay_s` is this node's own slot."""

    interval_s: float = 0.25
    """Between two pings.

    Four a second cost 0.1 % of a core and bound the detection of a hang by interval + window.
    """
    window_s: float = 0.6
    """A mirror of which five staggered probes got no answer for this long is hung. Long enough for one lost
    packet (TCP retransmits after 200 ms at the earliest) and for a busy node, short enough to fence within a
    second."""
    fall: int = 2
    """Soft failures (silence) in succession that make the health state down."""
    rise: int = 10
    """Successes in succession before a mirror that was down is on probation: 2.5 s at the default
    interval.
    """
    dwell_s: float = 5.0
    """A mirror stays down at least this long, so that one that crashes in a loop is not believed between
    crashes.
    """
    canary_interval_s: float = 1.0
    """Between two canaries, which cost the mirror 1 to 2 ms each. With the canary's window it bounds the
    detection of a data path that hangs behind a healthy ping: 2.3 s."""
    tentative_s: float = 3.0
    """The first evidence fences for this long. Two canaries, each with its own patience, fit into it."""
    lease_s: float = 10.0
    """Life of the fence without renewal: what a crashed or frozen agent leaves behind ends by then."""
    renew_s: float = 1.0
    """Between two renewals; the table is asserted with each, because somebody may flush the ruleset."""
    return_delay_s: float = 0.0
    """This node's slot in the fleet's window; waited only after an outage that was seen here."""
    loopback: bool = True
    """Whether the mirror's address is one of the node's loopback (see agent.health.evidence.is_loopback)."""
    canary: bool = True
    """Whether the mirror can reach the node's loopback, on which the canary's object is served. Without a
    canary, pings alone decide: `clean_pings` of them take its place."""

    canary_window_s: float = 1.2
    """A canary that got no answer for this long failed. Twice the window: the data path of a loaded dfdaemon
    on a busy node was seen to take 0.55 s."""
    window_cap_s: float = 3.0
    """No window grows beyond this, however slow the mirror: reads stall for as long before they are moved. An
    answer that comes within it, after its window, is still looked at: that mirror is slow, not hung."""
    window_factor: float = 2.0
    """A window is this many times the slowest honest answer of late: the next slowest one must not be an
    alarm.
    """
    window_half_life_s: float = 120.0
    """What was learned of slowness halves in this time: after a peak the window is back at its floor in
    minutes.
    """
    window_memory_s: float = 60.0
    """Two late answers within this time, one sent after the other had come, are slowness; one alone is a
    hiccup.
    """
    clean_pings: int = 3
    """Without a canary: successes in succession that clear a suspicion."""
    doubt_s: float = 600.0
    """Who raised a suspicion that was refuted is believed less for this long: silence must last for `fall`
    rounds before it fences, a ping port that fails or reads that fell back only ask for a canary."""
    vouch_s: float = 3.4
    """So long after it began, a clean canary speaks for a mirror whose pings fail: an interval and two
    windows. Where canaries are rarer, because a registry answers them, this must be longer."""
    late_rounds: int = 4
    """Rounds in succession that may be dropped because the agent itself was late, or lacked something; then
    they count after all, or a node that is always overloaded would never notice a hang."""
    want_canary_s: float = 1.5
    """A canary that began this soon after the agent lacked something does not count: our endpoint takes no
    connection for 1 s after accept() failed for want (_ACCEPT_AGAIN_S), and the canary comes back to it."""
    want_told_s: float = 60.0
    """What the agent lacked is told for this long after the last time."""

    patience_s: float = 6.0
    """A mirror that has stalled again and again is fenced only when it has been silent for this long: longer
    than a stall that ends by itself (up to 5 s were seen), shorter than nydusd waits for an answer."""
    borne_s: float = 15.0
    """... or for so long in all, which halves in `borne_half_life_s`: a mirror that answers now and then is
    no use. A stall of 5 s each 30 s comes to 10 s."""
    borne_half_life_s: float = 30.0
    stall_half_life_s: float = 1200.0
    """Silence fences twice at once, then about once in this time: five times an hour at most, so that a node
    with the latest place in the fleet's return is away for less than a tenth of the time. Longer than the
    pauses between stalls, or they would not be seen as one trouble."""

    honour_refusals: bool = False
    """Whether a read that the mirror refuses by its own word (a block list) is to fail; else it goes to the
    origin.
    """
    symptom_window_s: float = 60.0
    """Hard evidence from real reads that comes this soon after a suspicion of its kind was cleared is an
    outage.
    """
    fallback_settle_s: float = 1.0
    """Reads that fell back this soon after the fence was lifted met the fence and not the mirror (nydusd's
    back-off is 0.4 to 1 s). Hard symptoms count from the lift on: a fence causes none, and nydusd 2.4.4 fails
    a read 1.01 s after a cut body."""
    symptom_origin_after_s: float = 2.0
    """nydusd's retries through the fence are over by then (its back-off is 0.4 to 1 s); later ones met the
    origin.
    """
    symptom_origin_count: int = 3
    """So many symptoms from the origin refute a suspicion that symptoms have raised."""
    symptom_refuted_s: float = 600.0
    """After that, symptoms of these kinds count no more for this long."""
    fallback_pair_s: float = 1.0
    """Two reads that fell back within this time are hard evidence; one alone asks for a canary."""

    flap_penalty: float = 1000.0
    """Each outage adds this much (the scheme of RFC 2439, which FRR uses for routes)."""
    flap_suspicion: float = 500.0
    """Each fence that was raised for a suspicion which was then refuted adds this much (RFC 2439 takes half
    of an outage for a change too): the fifth in quick succession is an outage."""
    flap_half_life_s: float = 300.0
    """The penalty halves in this time."""
    flap_suppress: float = 2000.0
    """Above this a mirror is not believed again ..."""
    flap_reuse: float = 750.0
    """... until the penalty has fallen below this: three quick outages cost about ten minutes."""
    flap_cap: float = 6000.0
    """Never held longer than 15 minutes: operators switched damping off where it punished too much (RFC
    7196).
    """

    @classmethod
    def of(
        cls,
        health: HealthConfig,
        *,
        return_delay_s: float,
        canary: bool,
        loopback: bool = True,
        honour_refusals: bool = False,
    ) -> Policy:
        """The policy that the operator's configuration asks for."""
        window_s, canary_interval_s = health.window_ms / 1000, health.canary_interval_ms / 1000
        return cls(
            interval_s=health.interval_ms / 1000,
            window_s=window_s,
            fall=health.fall,
            rise=health.rise,
            dwell_s=health.dwell_ms / 1000,
            canary_interval_s=canary_interval_s,
            tentative_s=min(health.tentative_ms, health.lease_ms) / 1000,
            lease_s=health.lease_ms / 1000,
            renew_s=health.renew_ms / 1000,
            return_delay_s=return_delay_s,
            canary=canary,
            loopback=loopback,
            honour_refusals=honour_refusals,
            canary_window_s=2 * window_s,
            vouch_s=canary_interval_s + 4 * window_s,
        )


def return_delay_s(node_id: str, window_s: int) -> float:
    """Seconds in [0, window) that this node waits before it returns: always the same for one identity.

    Drawn from the identity and not at random, so that a node that returns twice keeps its place and a fleet's
    return is spread evenly (crc32 is uniform enough and, unlike `hash`, the same in each process).
    """
    if window_s <= 0:
        return 0.0
    return zlib.crc32(node_id.encode()) / 2**32 * window_s
