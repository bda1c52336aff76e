"""Upstream's programs: which ones the lock allows, what a set of them is, where sets lie."""
