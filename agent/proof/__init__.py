"""The proof: its checks, a real read, and what is not as it was applied."""
