"""Tests that set the clock of the machine on which they run: `make test-clock`, for a machine that is theirs
alone.
"""
