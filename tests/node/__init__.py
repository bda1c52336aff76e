"""Real Debian nodes for tests: booted with systemd, with real containerd, nydus, registry and Dragonfly parts."""
