"""Thin adapters, one outside thing each, behind the Protocols of `agent.ports`; only `agent.wire` imports
them.
"""
