"""The transaction: journal, act, prove, or put back."""
