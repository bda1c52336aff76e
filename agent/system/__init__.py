"""The edges: one thing each, behind the Protocols of `agent.ports`. Only `agent.wire` imports them."""
