"""Archives that Debian's skopeo writes: the tests of `make test-skopeo`."""
