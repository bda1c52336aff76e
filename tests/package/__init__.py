"""The .deb: what is in it, what its scripts do, and that nothing of it stays."""
