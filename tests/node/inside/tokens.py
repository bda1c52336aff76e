"""A token server as docker-registry wants one (distribution, docs/spec/auth): one account, tokens for what it
asks for.

Signs by openssl, which every node has; the certificate goes with each token (x5c), so the registry needs no
key id. The account is in a file of root's, because everyone reads command lines; issued tokens go into
another.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

HOLDS_S = 300


def _url64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class TokenServer(ThreadingHTTPServer):
    """GET /token with basic authentication, as docker and nydusd ask, or POST with a form, as containerd
    does.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        host, _, port = options.listen.rpartition(":")
        super().__init__((host, int(port)), Handler)
        account = Path(options.account).read_text().strip()
        self.basic = "Basic " + base64.b64encode(account.encode()).decode()
        self.user, _, self.password = account.partition(":")
        self.key, self.issuer, self.service = options.key, options.issuer, options.service
        lines = Path(options.certificate).read_text().splitlines()
        self.certificate = "".join(line for line in lines if line and not line.startswith("-----"))
        self.issued = options.issued

    def token(self, scopes: list[str]) -> str:
        """A signed token that grants these scopes."""
        now = int(time.time())
        access = [
            dict(zip(("type", "name", "actions"), scope.split(":", 2), strict=True)) for scope in scopes
        ]
        granted = [{**one, "actions": one["actions"].split(",")} for one in access]
        claims = {
            "iss": self.issuer, "sub": self.user, "aud": self.service, "exp": now + HOLDS_S, "nbf": now - 10,
            "iat": now, "jti": os.urandom(8).hex(), "access": granted,
        }  # fmt: skip
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]}
        signed = ".".join(_url64(json.dumps(part).encode()) for part in (header, claims))
        argv = ["openssl", "dgst", "-sha256", "-sign", self.key]
        done = subprocess.run(argv, input=signed.encode(), capture_output=True, check=True, timeout=10)
        token = f"{signed}.{_url64(done.stdout)}"
        with open(os.open(self.issued, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w") as file:
            file.write(token + "\n")
        return token


class Handler(BaseHTTPRequestHandler):
    """One request; the log says who asked for what, and never with which password."""

    server: TokenServer

    def do_GET(self) -> None:
        """Tokens for the account, 401 for all others."""
        query = parse_qs(urlsplit(self.path).query)
        self._answer(query, right=self.headers.get("Authorization") == self.server.basic)

    def do_POST(self) -> None:
        """OAuth2's way, with the password in the form (distribution, docs/spec/auth/oauth)."""
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        self._answer(form, right=form.get("password") == [self.server.password])

    def _answer(self, asked: dict[str, list[str]], *, right: bool) -> None:
        scopes = [one for scope in asked.get("scope", []) for one in scope.split()]
        print(json.dumps({"scopes": scopes, "right": right}), flush=True)
        if right:
            token = self.server.token(scopes)
            body = json.dumps({"token": token, "access_token": token, "expires_in": HOLDS_S}).encode()
        else:
            body = b'{"errors": [{"code": "UNAUTHORIZED"}]}'
        self.send_response(200 if right else 401)
        if not right:
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
        """Its own lines are told above."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("listen", "key", "certificate", "account", "issuer", "service", "issued"):
        parser.add_argument(f"--{name}", required=True)
    TokenServer(parser.parse_args()).serve_forever()


if __name__ == "__main__":
    main()
