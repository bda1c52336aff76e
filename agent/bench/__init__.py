"""How fast images start on this node: the cases of the Dragonfly page, their figures, and what proves them.

Pure.
"""
