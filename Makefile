# Every target does its own set-up (packages of this machine, tools, node roots) and says what it is doing; what is slow to
# make is kept in /var/cache/nydus-node-agent-tests. The work is in tests/run; this file only names it.

STAGES = lint types unit contract package node
# What else `make test` runs: make test TIERS="test-survival test-dragonfly" is what CI runs.
TIERS =
BY_HAND = test-survival test-dragonfly test-model test-matrix test-arm64 test-clock test-nydusify test-nydusd
NIGHTLY = test-survival test-dragonfly test-model test-matrix test-arm64 test-clock

.PHONY: help test test-nightly $(STAGES) $(BY_HAND) demo deb protos clean
.DEFAULT_GOAL := help

help:
	@tests/run --help

test:
	@tests/run $(STAGES) $(TIERS)

# All that takes long: it sets this machine's clock, and the benches alone take hours.
test-nightly:
	@tests/run --benches $(NIGHTLY)

$(STAGES) $(BY_HAND) demo deb protos:
	@tests/run $@

# QUICK=1: the same with a small n.
bench-%:
	@tests/run $(if $(QUICK),--quick) $@

clean:
	rm -rf build agent/_pb .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
