"""The layers of agent/, lowest first, as docs/design.md draws them (see test_layers.py)."""

from __future__ import annotations

# A module may import from its own room and from every lower layer. A room is a directory of agent/. The
# modules beside the directories are one room too, in each layer where they stand.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "agent",
        "agent.codec",
        "agent.durations",
        "agent.errors",
        "agent.outside_json",
        "agent.paths",
        "agent.steps",
    ),
    ("agent.bench", "agent.catalogue", "agent.config"),
    ("agent.console", "agent.facts"),
    ("agent.registry",),
    ("agent.containerd", "agent.dragonfly", "agent.health", "agent.ports"),
    ("agent.documents", "agent.netfilter", "agent.programs", "agent.system"),
    ("agent.node", "agent.plan"),
    ("agent.records",),
    ("agent.daemon", "agent.images", "agent.proof"),
    ("agent.apply", "agent.wire"),
    ("agent.commands",),
    ("agent.__main__", "agent.cli"),
)
