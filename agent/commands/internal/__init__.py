"""Verbs for units and maintainer scripts: they work, and no help, completion or manual names them."""
