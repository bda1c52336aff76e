"""What is on the node: a frozen snapshot, in which what could not be read is unknown, never a default."""
