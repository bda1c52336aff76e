"""What was published on a node, and what it comes to: for the verbs that answer without root."""
