"""The shape of the code, held by tests: layers, sizes, handlers, words."""
