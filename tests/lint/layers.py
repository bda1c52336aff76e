"""The layers of agent/, lowest first. adapters/ stands beside them and knows only the ports
(test_layers.py).
"""

from __future__ import annotations

# A module may import from its own package's part of its layer and from every lower layer.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "agent",
        "agent.bench",
        "agent.durations",
        "agent.errors",
        "agent.node.facts_daemon",
        "agent.node.transfer",
        "agent.outside_json",
        "agent.paths",
        "agent.unit_syntax",
    ),
    ("agent.catalogue", "agent.config", "agent.documents.codec", "agent.node.moment", "agent.plan.steps"),
    ("agent.console", "agent.node.facts"),
    (
        "agent.programs.lock",
        "agent.programs.release",
        "agent.registry",
    ),
    ("agent.dragonfly", "agent.health", "agent.plan", "agent.ports"),
    (
        "agent.apply.documents",
        "agent.apply.generations",
        "agent.apply.undo",
        "agent.apply.waits",
        "agent.documents",
        "agent.node",
    ),
    ("agent.daemon", "agent.images", "agent.programs", "agent.proof"),
    ("agent.apply", "agent.wire"),
    ("agent.commands",),
    ("agent.cli",),
    ("agent.__main__",),
)
