"""How facts are read off the node, and waited for. What could not be read is unknown, never a default."""
