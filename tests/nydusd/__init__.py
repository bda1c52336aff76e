"""The nydusd that is given, in place of 2.2.0: the tests of `make test-nydusd NYDUSD=PROGRAM
NYDUS_IMAGE=PROGRAM`.
"""
