"""The store of artifacts on real files."""
