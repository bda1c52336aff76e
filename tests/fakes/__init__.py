"""In-memory fakes of the ports: real classes with real behaviour, able to fail at the n-th call.

Each is held to the adapter it stands for by the same assertions (tests/contract). Start at
`tests.fakes.node`.
"""
