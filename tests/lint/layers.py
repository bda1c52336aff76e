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
        "agent.documents.codec",
        "agent.paths",
        "agent.ports_change",
        "agent.ports_processes",
        "agent.unit_syntax",
    ),
    ("agent.catalogue", "agent.config", "agent.node.moment", "agent.plan.steps", "agent.ports_fence"),
    ("agent.console", "agent.node.facts", "agent.ports_daemon"),
    (
        "agent.node.elf",
        "agent.ports_clock",
        "agent.ports_files",
        "agent.programs.lock",
        "agent.programs.release",
        "agent.registry",
    ),
    ("agent.dragonfly", "agent.health", "agent.plan", "agent.ports_containerd", "agent.ports_credentials"),
    ("agent.documents", "agent.ports"),
    ("agent.ports_bench", "agent.ports_dragonfly", "agent.ports_drill"),
    ("agent.node",),
    ("agent.apply", "agent.daemon", "agent.images", "agent.programs"),
    ("agent.wire",),
    ("agent.commands",),
    ("agent.cli",),
    ("agent.__main__",),
)
