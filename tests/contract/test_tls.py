"""Tls: the contract on the fake and on real handshakes on the loopback."""

from __future__ import annotations

import abc
import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import FileError, HttpError
from agent.netfilter.sock_diag import uid_of_peer
from agent.ports import Tls, TlsSight
from agent.system.loopback import RegistryTls
from tests.contract import certificates
from tests.contract.waiting import ENDS_S
from tests.fakes.tls import FakeTls

Fetch = Callable[[str], None]


class TlsWorld(abc.ABC):
    """The port under test, a registry with a certificate, and clients that come to a listener in different
    ways.
    """

    port: Tls
    host: str
    ca: str
    """Signed the registry's certificate."""
    other_ca: str
    nobody: str
    """A host where nobody listens."""

    @abc.abstractmethod
    def client(self, sight: TlsSight) -> Fetch:
        """A fetch that makes a client come in this way."""


class TlsContract:
    """Run by a class that has a fixture `world`."""

    def test_a_certificate_verifies_against_the_ca_that_signed_it(self, world: TlsWorld) -> None:
        assert world.port.verify(world.host, world.ca, deadline_s=5) == ""

    def test_a_certificate_of_another_ca_does_not_verify_and_why_is_told(self, world: TlsWorld) -> None:
        assert "certificate" in world.port.verify(world.host, world.other_ca, deadline_s=5)

    def test_a_registry_that_is_down_is_no_wrong_certificate(self, world: TlsWorld) -> None:
        with pytest.raises(HttpError) as caught:
            world.port.verify(world.nobody, world.ca, deadline_s=5)
        assert caught.value.code == "NNA0821"

    @pytest.mark.parametrize("sight", list(TlsSight))
    def test_a_listener_sees_how_a_mirror_comes(self, world: TlsWorld, sight: TlsSight) -> None:
        assert world.port.sight(world.client(sight), user="root", deadline_s=5) is sight

    def test_a_mirror_that_gives_an_error_is_still_seen(self, world: TlsWorld) -> None:
        come = world.client(TlsSight.TLS)

        def fetch(address: str) -> None:
            come(address)
            raise HttpError("NNA0821", "the mirror closed the connection")

        assert world.port.sight(fetch, user="root", deadline_s=5) is TlsSight.TLS


class FakeWorld(TlsWorld):
    def __init__(self) -> None:
        self.fake = FakeTls()
        self.port = self.fake
        self.host, self.ca, self.other_ca, self.nobody = (
            "r.example:5000",
            "/ca.pem",
            "/other.pem",
            "r.example:1",
        )
        self.fake.certificates = {
            (self.host, self.ca): "",
            (self.host, self.other_ca): "self-signed certificate",
        }

    def client(self, sight: TlsSight) -> Fetch:
        self.fake.sight_of = lambda: sight
        return lambda _address: None


class TestFake(TlsContract):
    @pytest.fixture
    def world(self) -> TlsWorld:
        return FakeWorld()


def dial(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def come_by_tls(address: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with dial(address) as plain, pytest.raises(OSError):  # noqa: PT011 - the listener cuts every client off
        context.wrap_socket(plain)


def come_in_plain(address: str) -> None:
    with dial(address) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(1) == b""


class RealWorld(TlsWorld):
    def __init__(self, keys: Path, port: int) -> None:
        self.port = RegistryTls(uid_of_peer)
        self.host, self.nobody = f"127.0.0.1:{port}", "127.0.0.1:1"
        self.ca, self.other_ca = str(keys / "ca.pem"), str(keys / "other.pem")

    def client(self, sight: TlsSight) -> Fetch:
        return {
            TlsSight.TLS: come_by_tls,
            TlsSight.PLAIN: come_in_plain,
            TlsSight.NOBODY: lambda _address: None,
        }[sight]


@contextlib.contextmanager
def registry(keys: Path) -> Iterator[int]:
    """A TLS server that makes handshakes and nothing else; its port."""
    context = certificates.server_side(keys)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _address = listener.accept()
            except OSError:
                return
            with plain, contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as client:
                client.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        listener.close()


class TestReal(TlsContract):
    @pytest.fixture
    def world(self, keys: Path) -> Iterator[TlsWorld]:
        with registry(keys) as port:
            yield RealWorld(keys, port)

    def test_a_certificate_for_another_name_does_not_verify(self, world: TlsWorld) -> None:
        name = world.host.replace("127.0.0.1", "localhost")
        assert "localhost" in world.port.verify(name, world.ca, deadline_s=5)

    def test_the_system_s_store_does_not_know_a_private_ca(self, world: TlsWorld) -> None:
        assert world.port.verify(world.host, "", deadline_s=5) != ""

    def test_a_ca_file_that_holds_no_certificate_is_an_error_of_the_file(
        self, world: TlsWorld, tmp_path: Path
    ) -> None:
        empty = tmp_path / "empty.pem"
        empty.write_text("nothing\n")
        for path in (str(empty), str(tmp_path / "missing.pem")):
            with pytest.raises(FileError, match="cannot use the CA"):
                world.port.verify(world.host, path, deadline_s=5)

    def test_a_port_that_speaks_no_tls_is_no_verified_registry(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer_in_plain() -> None:
                client, _address = listener.accept()
                with client:
                    client.recv(1024)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            thread = threading.Thread(target=answer_in_plain)
            thread.start()
            said = RegistryTls(uid_of_peer).verify(f"127.0.0.1:{listener.getsockname()[1]}", "", deadline_s=5)
            thread.join(10)
        assert said.startswith("no TLS there")

    def test_a_registry_that_hangs_in_the_handshake_ends_at_the_deadline(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            began = time.monotonic()
            with pytest.raises(HttpError):
                RegistryTls(uid_of_peer).verify(f"127.0.0.1:{listener.getsockname()[1]}", "", deadline_s=0.3)
            assert time.monotonic() - began < ENDS_S

    def test_a_mirror_that_tries_again_is_not_left_hanging(self) -> None:
        def twice(address: str) -> None:
            come_by_tls(address)
            come_in_plain(address)

        assert RegistryTls(uid_of_peer).sight(twice, user="root", deadline_s=5) is TlsSight.TLS

    def test_another_local_user_is_not_taken_for_the_mirror(self) -> None:
        knock = (
            "import contextlib, socket, sys\n"
            "port = int(sys.argv[1])\n"
            "with socket.create_connection(('127.0.0.1', port), 5) as client, contextlib.suppress(OSError):\n"
            "    client.sendall(b'\\x16')\n"
            "    client.recv(1)  # until it is cut off: a socket that is closed has no owner\n"
        )

        def as_nobody(address: str) -> None:
            port = address.rpartition(":")[2]
            command = ["setpriv", "--reuid=nobody", "--clear-groups", sys.executable, "-c", knock, port]
            subprocess.run(command, check=True, timeout=60)

        assert RegistryTls(uid_of_peer).sight(as_nobody, user="root", deadline_s=5) is TlsSight.NOBODY
        assert RegistryTls(uid_of_peer).sight(as_nobody, user="nobody", deadline_s=5) is TlsSight.TLS
