"""Archives from servers and directories: whole, bounded, and with what is wrong in plain words."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import subprocess
from pathlib import Path

import pytest

from agent.errors import ProgramsError
from agent.programs import archive
from agent.programs.archive import Fetched
from tests.contract import certificates
from tests.contract.netns import own_network
from tests.contract.server import Script, answering, serving

CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "nydus-static-v2.4.4-linux-amd64.tgz"
URL = f"https://github.com/d/{NAME}"


def fetch(place: str, tmp_path: Path, cap: int = 1 << 20) -> Fetched:
    heard: list[int] = []
    fetched = archive.fetch(place, tmp_path / "into", cap, heard.append)
    assert heard[-1] == fetched.size == (tmp_path / "into").stat().st_size
    return fetched


def test_an_archive_comes_from_a_server_and_from_a_directory(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch(archive.place_of(URL, str(tmp_path)), tmp_path) == Fetched(len(CONTENT), DIGEST)
    (tmp_path / "into").unlink()
    with serving(answering("200 OK", CONTENT)) as server:
        assert fetch(archive.place_of(URL, f"{server.url}/mirror/"), tmp_path) == Fetched(
            len(CONTENT), DIGEST
        )
    assert server.heads[0].startswith(f"GET /mirror/{NAME} ".encode())
    assert archive.place_of(URL, "") == URL


def test_no_more_is_taken_than_a_piece_beyond_the_bound(tmp_path: Path) -> None:
    with serving(pour) as server:
        fetched = archive.fetch(f"{server.url}/x", tmp_path / "into", 100_000, lambda _: None)
    assert 100_000 < fetched.size <= 100_000 + (64 << 10)


def pour(connection: socket.socket, _head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(10_000):
        connection.sendall(bytes(64 << 10))


def test_what_is_sent_is_what_counts_whatever_it_is_called(tmp_path: Path) -> None:
    """Some servers say that a .tgz is a page encoded with gzip."""
    with serving(answering("200 OK", CONTENT, "Content-Encoding: gzip")) as server:
        assert fetch(f"{server.url}/x", tmp_path).sha256 == DIGEST


@pytest.mark.parametrize(
    ("script", "code", "cause"),
    [
        (answering("404 Not Found", b"<html>"), "NNA1111", "HTTP 404"),
        (answering("401 Unauthorized", b""), "NNA1111", "HTTP 401"),
        (answering("206 Partial Content", CONTENT), "NNA1111", "HTTP 206"),
        (answering("302 Found", b"", "Location: ftp://example.org/x"), "NNA1111", "InvalidSchema"),
        (lambda connection, _head: connection.sendall(b"no http\r\n\r\n"), "NNA1111", "broke"),
        (lambda _connection, _head: None, "NNA1111", "broke"),
    ],
)
def test_a_server_that_gives_no_archive_is_told_plainly(
    tmp_path: Path, script: Script, code: str, cause: str
) -> None:
    with serving(script) as server, pytest.raises(ProgramsError) as error:
        fetch(f"{server.url}/x", tmp_path)
    assert error.value.code == code
    assert cause in error.value.cause


def test_a_body_that_is_cut_off_is_no_whole_archive(tmp_path: Path) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode()
    script: Script = lambda connection, _head: connection.sendall(head + CONTENT[:100])  # noqa: E731
    with serving(script) as server, pytest.raises(ProgramsError, match="broke"):
        fetch(f"{server.url}/x", tmp_path)


def test_a_server_that_nobody_runs_is_told_plainly(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ProgramsError, match="refused") as error:
            fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/x", tmp_path)
    assert error.value.code == "NNA1111"


def test_tls_is_verified_and_never_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = certificates.make(tmp_path)
    with serving(answering("200 OK", CONTENT), tls=certificates.server_side(made)) as server:
        with pytest.raises(ProgramsError, match="certificate does not verify"):
            fetch(f"{server.url}/x", tmp_path)
        (tmp_path / "into").unlink()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made / "ca.pem"))
        assert fetch(f"{server.url}/x", tmp_path).sha256 == DIGEST
    (tmp_path / "into").unlink()
    with serving(answering("200 OK", CONTENT)) as plain:
        leads = answering("302 Found", b"", f"Location: {plain.url}/x")
        tls = certificates.server_side(made)
        with serving(leads, tls=tls) as server, pytest.raises(ProgramsError, match="it leads out of https"):
            fetch(f"{server.url}/x", tmp_path)
        assert plain.heads == []


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "[::ffff:169.254.169.254]"])
@pytest.mark.parametrize("hops", [0, 1, 3])
def test_a_clouds_metadata_is_never_asked_for_an_archive(tmp_path: Path, host: str, hops: int) -> None:
    with own_network(), contextlib.ExitStack() as stack:
        subprocess.run(["ip", "address", "add", "169.254.169.254/32", "dev", "lo"], check=True, timeout=60)
        secret = stack.enter_context(serving(answering("200 OK", CONTENT), host="169.254.169.254"))
        url = f"http://{host}:{secret.port}/x"
        for _ in range(hops):
            url = stack.enter_context(serving(answering("302 Found", b"", f"Location: {url}"))).url
        with pytest.raises(ProgramsError, match="cloud's metadata"):
            fetch(url, tmp_path)
        assert secret.heads == []


def test_a_checksum_is_read_in_upstream_s_form(tmp_path: Path) -> None:
    place = tmp_path / f"{NAME}.sha256sum"
    for text in (f"{DIGEST}  {NAME}\n", f"{DIGEST} *{NAME}"):
        place.write_text(text)
        assert archive.fetch_checksum(URL, str(tmp_path)) == DIGEST


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (f"{DIGEST}  other.tgz\n", "is no checksum of"),
        (f"{DIGEST}\n", "is no checksum"),
        ("<html>not found</html>", "is no checksum"),
        ("", "is no checksum"),
        (f"{DIGEST}  {NAME}\n" * 2, "is no checksum"),
        (f"{DIGEST}  {NAME}\n" + "x" * 5000, "is no checksum"),
    ],
)
def test_what_is_no_checksum_is_refused(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / f"{NAME}.sha256sum").write_text(content)
    with pytest.raises(ProgramsError, match=what) as error:
        archive.fetch_checksum(URL, str(tmp_path))
    assert error.value.code == "NNA1115"


@pytest.mark.parametrize("source", ["ftp://example.org", "/nowhere", "https://me:secret@example.org/x"])
def test_a_source_that_cannot_be_one_is_refused_without_its_secret(source: str) -> None:
    with pytest.raises(ProgramsError) as error:
        archive.check_source(source)
    assert error.value.code == "NNA1101"
    assert "secret" not in f"{error.value} {error.value.seen}"


def test_sources_that_can_be_are_taken(tmp_path: Path) -> None:
    for source in ("", "http://mirror.example.org:8080/nydus", str(tmp_path)):
        archive.check_source(source)
    with pytest.raises(ProgramsError) as error:
        fetch(str(tmp_path / "not-there.tgz"), tmp_path)
    assert error.value.code == "NNA1111"
