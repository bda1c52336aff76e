"""A node for arm64, emulated on a machine of another kind."""
