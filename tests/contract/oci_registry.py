"""What a conversion counts on in a registry: the same tests on Debian's docker-registry and on the fake one."""

from __future__ import annotations

import hashlib
import itertools
import socket
from pathlib import Path
from typing import Protocol

import pytest

from agent.adapters.registry import RegistrySource, RegistryTarget
from agent.adapters.registry_http import RegistryHttp, Times
from agent.errors import RegistryError
from agent.oci import formats
from agent.oci.formats import Descriptor
from agent.oci.nydus import Blob
from agent.oci.reference import Reference
from tests.contract.breaking_relay import WHOLE, Late, cut_after, relay, without_pieces
from tests.fakes.oci_registry import Tokens

CONTENT = hashlib.sha256(b"x").digest() * 100_000  # 3.2 MB


class RegistryWorld(Protocol):
    """A registry that anybody may read and write."""

    host: str


class End:
    """Both ends of one repository."""

    def __init__(
        self, host: str, repository: str, tokens: Tokens | None = None, connect_s: float = 10, chunk: int = 1 << 20
    ) -> None:
        times = Times(connect_s=connect_s, pause_s=0.001)
        http = RegistryHttp(host, secure=False, ca="", tokens=tokens or Tokens(), times=times)
        reference = Reference(host, repository, "1")
        self.noted: list[str] = []
        self.http = http
        self.target = RegistryTarget(http, reference, self.noted.append, chunk=chunk)
        self.source = RegistrySource(http, reference)


def blob_of(content: bytes) -> Blob:
    return Blob(formats.digest_of(content), len(content))


def described(content: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", formats.digest_of(content), len(content))


class RegistryContract:
    """Subclasses give `world`."""

    @pytest.fixture
    def end(self, world: RegistryWorld, request: pytest.FixtureRequest) -> End:
        return End(world.host, f"contract/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}")

    def pushed(self, end: End, directory: Path, content: bytes = CONTENT) -> Blob:
        file = directory / "blob"
        file.write_bytes(content)
        told: list[int] = []
        end.target.push(blob_of(content), str(file), told.append)
        assert told[-1] == len(content)
        return blob_of(content)

    def test_a_blob_that_was_sent_in_pieces_comes_back_as_it_was(self, end: End, tmp_path: Path) -> None:
        assert not end.target.has(formats.digest_of(CONTENT))
        blob = self.pushed(end, tmp_path)
        assert end.target.has(blob.digest)
        end.source.fetch(described(CONTENT), str(tmp_path / "back"), lambda _: None)
        assert (tmp_path / "back").read_bytes() == CONTENT

    def test_the_upload_is_noted_while_it_is_open_and_forgotten_at_its_end(self, end: End, tmp_path: Path) -> None:
        self.pushed(end, tmp_path)
        assert len(end.noted) > 3
        assert all("/blobs/uploads/" in one for one in end.noted[:-1])
        assert end.noted[-1] == ""

    def test_a_blob_of_one_byte_can_be_sent(self, end: End, tmp_path: Path) -> None:
        assert end.target.has(self.pushed(end, tmp_path, b"1").digest)

    def test_a_blob_of_another_repository_is_taken_over_without_sending_it(
        self, world: RegistryWorld, end: End, tmp_path: Path
    ) -> None:
        content = CONTENT + b"mounted"
        blob = self.pushed(End(world.host, "contract/elsewhere"), tmp_path, content)
        assert end.target.mount(blob.digest, "contract/elsewhere")
        assert end.source.small(described(content), len(content)) == content

    def test_a_blob_that_the_other_repository_has_not_is_to_be_sent(self, end: End) -> None:
        assert not end.target.mount(formats.digest_of(b"nowhere"), "contract/never-was")

    def test_a_manifest_is_found_by_its_tag_and_by_its_digest(self, end: End) -> None:
        content = self.manifest(end)
        end.target.put("1", formats.OCI_MANIFEST, content)
        for named in ("1", formats.digest_of(content)):
            found = end.source.document(named, 1 << 20)
            assert (found.content, found.media_type) == (content, formats.OCI_MANIFEST)
            assert found.digest == formats.digest_of(content)

    def manifest(self, end: End) -> bytes:
        config = b"{}"
        end.target.push_bytes(config)
        described_config = Descriptor(formats.OCI_CONFIG, formats.digest_of(config), len(config)).plain()
        body = {"schemaVersion": 2, "mediaType": formats.OCI_MANIFEST, "config": described_config, "layers": []}
        return formats.encoded(body)

    def test_an_upload_that_a_killed_run_left_can_be_ended(self, end: End, tmp_path: Path) -> None:
        file = tmp_path / "blob"
        file.write_bytes(CONTENT)

        def killed(done: int) -> None:
            if done >= 1 << 20:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            end.target.push(blob_of(CONTENT), str(file), killed)
        left = [one for one in end.noted if one][-1]
        end.http.read("GET", left, (), ok=(404,)).close()  # the run that was told to end has ended it itself
        end.target.drop(left)
        assert not end.target.has(formats.digest_of(CONTENT))

    def test_a_blob_arrives_although_the_connection_breaks_in_the_middle(
        self, world: RegistryWorld, end: End, tmp_path: Path
    ) -> None:
        content = CONTENT + b"broken"
        with relay(world.host, (cut_after(2_500_000), cut_after(700_000))) as host:
            broken = End(host, "contract/broken")
            blob = self.pushed(broken, tmp_path, content)
        assert End(world.host, "contract/broken").target.has(blob.digest)

    @pytest.mark.parametrize("piece", [3, 4], ids=["within", "at-its-end"])
    def test_a_blob_arrives_although_bytes_of_a_broken_connection_come_late(
        self, world: RegistryWorld, end: End, tmp_path: Path, piece: int
    ) -> None:
        """The registry is asked how far the upload is before it has seen all that was sent."""
        content = CONTENT + b"late" + bytes([piece])
        late = Late(world.host, b"PATCH /", piece, 50_000)
        with relay(world.host, itertools.repeat(late.carry)) as host:
            broken = End(host, "contract/broken")
            blob = self.pushed(broken, tmp_path, content)
        assert End(world.host, "contract/broken").target.has(blob.digest)

    def test_a_blob_that_is_sent_whole_comes_back_as_it_was(
        self, world: RegistryWorld, end: End, tmp_path: Path
    ) -> None:
        with relay(world.host, itertools.repeat(without_pieces)) as host:
            whole = End(host, "contract/whole")
            blob = self.pushed(whole, tmp_path, CONTENT + b"whole")
        back = End(world.host, "contract/whole").source.small(described(CONTENT + b"whole"), blob.size)
        assert back == CONTENT + b"whole"

    def test_a_blob_takes_one_connection_for_all_of_its_requests(
        self, world: RegistryWorld, end: End, tmp_path: Path
    ) -> None:
        """Each other one would cost a handshake, of TLS as well."""
        connections = []

        def counted(client: socket.socket, server: socket.socket) -> None:
            connections.append(client)
            WHOLE(client, server)

        with relay(world.host, itertools.repeat(counted)) as host:
            near = End(host, "contract/near")
            assert not near.target.has(formats.digest_of(CONTENT))
            assert near.target.has(self.pushed(near, tmp_path).digest)
        assert len(connections) == 1

    def test_what_is_not_there_is_told_with_the_registrys_words(self, end: End) -> None:
        with pytest.raises(RegistryError, match="404") as raised:
            end.source.document("no-such-tag", 1 << 20)
        assert raised.value.code == "NNA1412"
        with pytest.raises(RegistryError, match="404"):
            end.source.small(described(b"nothing"), 100)
