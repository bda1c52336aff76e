"""One module per verb: load, call, print."""
