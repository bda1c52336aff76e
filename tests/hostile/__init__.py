"""Servers and archives that mean harm, and a release host that does not: `make test-hostile`."""
