"""The state of the node in words: what was published, what is wrong, and why reads go where they go."""
