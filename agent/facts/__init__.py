"""What was seen on the node, as frozen values. Pure."""
