"""What we write, as text: one module for each kind of file. Pure."""
