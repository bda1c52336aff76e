"""Upstream's programs as Debian packages: the lock that pins a release, and the package made of it."""
