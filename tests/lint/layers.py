"""The layers of agent/, lowest first. adapters/ stands beside them and knows only the ports (test_layers.py)."""

from __future__ import annotations

# A module may import from its own layer's package and from every lower layer.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("agent", "agent.durations", "agent.errors", "agent.outside_json", "agent.paths", "agent.unit_syntax"),
    ("agent.catalogue",),
    ("agent.console",),
    ("agent.config",),
    ("agent.node.facts_daemon",),
    ("agent.node.facts", "agent.node.transfer", "agent.node.elf", "agent.plan.steps"),
    ("agent.node.moment",),
    ("agent.artifacts", "agent.registry"),
    ("agent.oci",),
    ("agent.ports_artifacts", "agent.ports_fetch"),
    (
        "agent.ports_change",
        "agent.ports_clock",
        "agent.ports_containerd",
        "agent.ports_credentials",
        "agent.ports_fence",
        "agent.ports_files",
        "agent.ports_processes",
    ),
    ("agent.ports_daemon",),
    ("agent.ports",),
    ("agent.bench",),
    ("agent.ports_bench", "agent.ports_convert", "agent.ports_dragonfly", "agent.ports_drill", "agent.ports_install"),
    ("agent.plan", "agent.health", "agent.dragonfly"),
    ("agent.node",),
    ("agent.apply", "agent.convert"),
    ("agent.wire",),
    ("agent.wire_convert",),
    ("agent.daemon",),
    ("agent.commands",),
    ("agent.cli",),
    ("agent.__main__", "agent.artifacts.child"),
)
