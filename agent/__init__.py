"""nydus-node-agent: lazy image starts through Dragonfly on a containerd node, with a proved way back to the origin."""

__version__ = "0.1.0"
