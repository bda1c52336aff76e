"""Programs that run on a node, with its Python: each is started by a function of ..parts as a unit of its
own.
"""
