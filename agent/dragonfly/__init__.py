"""Dragonfly's side of a node: the files that its page gives, made right for today's versions, and what is
wrong with those that are there. Pure: values in, values out.
"""
