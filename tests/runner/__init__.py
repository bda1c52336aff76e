"""Runs the stages of the tests, one after the other, with all the set-up that each needs."""
