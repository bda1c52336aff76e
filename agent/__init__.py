"""nydus-node-agent: lazy image starts through Dragonfly on a containerd node, with a proved way back to the
origin.
"""

__version__ = "0.1.0"
COMMAND = "nydus-agent"
"""What people type."""
API_VERSION = "nydus-agent/v1"
"""Of every document that we print or leave in a file. Within v1 fields are only added."""
