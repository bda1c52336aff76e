"""The real nydusify, which no package registry has: the tests of `make test-nydusify NYDUSIFY=PROGRAM`."""
