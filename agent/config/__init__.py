"""What the operator wants: frozen values, parsed once, with every problem reported at once."""
