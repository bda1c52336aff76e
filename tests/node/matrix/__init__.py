"""Every containerd in every mode on every form of configuration: what `make test-matrix` runs."""
