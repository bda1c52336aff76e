"""A registry that wants bearer tokens, and the token server (inside/tokens.py) that gives them."""

from __future__ import annotations

from tests.node import parts
from tests.node.boot import Node

ISSUED = "/etc/test-registry/issued"
"""Every token that the token server has signed, a line each; root's, 0600."""


def start(node: Node, *, port: int = 5002, password: str) -> tuple[parts.Registry, parts.Unit]:
    """http with bearer tokens, from a token server on the next port that knows USER and the password."""
    base, account = f"{parts.PKI}/tokens", "/etc/test-registry/account"
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=tokens"
    node.run(f"mkdir -p {parts.PKI} && {request} -keyout {base}.key -out {base}.crt 2>&1")
    node.write(account, f"{parts.USER}:{password}\n", mode=0o600)
    names = {"issuer": "tokens.test", "service": "registry.test"}
    arguments = ["--listen", f"127.0.0.1:{port + 1}", "--key", f"{base}.key", "--certificate", f"{base}.crt"]
    arguments += ["--account", account, "--issued", ISSUED]
    arguments += [word for name, value in names.items() for word in (f"--{name}", value)]
    server = parts.start_program(node, f"tokens-{port + 1}", "tokens", *arguments, port=port + 1)
    auth = {
        "token": {**names, "realm": f"http://127.0.0.1:{port + 1}/token", "rootcertbundle": f"{base}.crt"}
    }
    registry = parts.run_registry(node, f"registry-{port}", port, {}, auth)
    registry.user, registry.password = parts.USER, password
    return registry, server
