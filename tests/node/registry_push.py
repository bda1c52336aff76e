"""Push one image of an OCI layout: `registry_push.py LAYOUT DIGEST HOST:PORT REPOSITORY TAG [--tls] [--user
NAME]`.

Runs with the machine's Python in the node's network namespace and connects to 127.0.0.1, whatever HOST is; a
password is read from standard input. Only what OCI's distribution-spec calls a monolithic upload is used.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Registry:
    """One connection to a registry on this network namespace's loopback."""

    def __init__(self, host: str, repository: str, *, tls: bool, credentials: str | None) -> None:
        self.base = f"/v2/{repository}"
        self.headers = {"Host": host}
        if credentials is not None:
            self.headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
        port = int(host.rpartition(":")[2])
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", port, timeout=60, context=context
            )
        else:
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> http.client.HTTPResponse:
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        # Bytes, file or None.
        self.connection.request(method, path, body=body, headers=sent)  # type: ignore[arg-type]
        answer = self.connection.getresponse()
        self.text = answer.read().decode(errors="replace")
        return answer

    def push_blob(self, digest: str, file: Path) -> None:
        if self.ask("HEAD", f"{self.base}/blobs/{digest}").status == 200:
            return
        begun = self.ask("POST", f"{self.base}/blobs/uploads/", Content_Length="0")
        self._expect(begun, 202)
        where = urlsplit(begun.headers["Location"])
        query = f"{where.query}&" if where.query else ""
        with open(file, "rb") as data:
            length = str(file.stat().st_size)
            done = self.ask(
                "PUT", f"{where.path}?{query}digest={digest}", data,
                Content_Type="application/octet-stream", Content_Length=length,
            )  # fmt: skip
        self._expect(done, 201)

    def push_manifest(self, tag: str, data: bytes) -> None:
        self._expect(self.ask("PUT", f"{self.base}/manifests/{tag}", data, Content_Type=_MANIFEST), 201)

    def _expect(self, answer: http.client.HTTPResponse, status: int) -> None:
        if answer.status != status:
            raise SystemExit(f"{answer.status} {answer.reason}, not {status}: {self.text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layout", type=Path)
    parser.add_argument("digest")
    parser.add_argument("host")
    parser.add_argument("repository")
    parser.add_argument("tag")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--user")
    options = parser.parse_args()
    credentials = f"{options.user}:{sys.stdin.read()}" if options.user is not None else None
    registry = Registry(options.host, options.repository, tls=options.tls, credentials=credentials)
    blobs = options.layout / "blobs" / "sha256"
    data = (blobs / options.digest.removeprefix("sha256:")).read_bytes()
    manifest = json.loads(data)
    for part in (manifest["config"], *manifest["layers"]):
        registry.push_blob(part["digest"], blobs / part["digest"].removeprefix("sha256:"))
    registry.push_manifest(options.tag, data)


if __name__ == "__main__":
    main()
