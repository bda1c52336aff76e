"""The proof: ten checks, a real read, and what is not as it was applied."""
