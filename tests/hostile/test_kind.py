"""Sources that mean well, and have their ways: the programs arrive, and credentials stay where they belong."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from agent import wire
from agent.adapters.artifact_bundle import BundleFiles
from agent.apply.sources import source_of, unlocked
from agent.artifacts import bundle
from agent.artifacts.fetching import Source, SourceKind
from agent.artifacts.lock import Artifact
from agent.artifacts.refusals import REASONS, Refusal
from agent.config.model import ArtifactsConfig
from agent.errors import ArtifactError
from tests.contract.netns import own_network
from tests.hostile.case import PATH, Scene
from tests.hostile.cases_ranges import after_first, cut_parts, lies, no_parts, shifted, true_range
from tests.hostile.server import Exchange, Handler, Server, answer, chunked, head, parts, redirect, release_host
from tests.hostile.stage import GOOD, LIMITS, NYDUSD, Stage, blank, pinned
from tests.unit.artifacts import lock


def _expect_arrival(stage: Stage) -> None:
    current = stage.store.current()
    assert current is not None
    assert current.id != stage.old.id
    assert (stage.root / "store" / current.id / "programs" / "nydusd").read_bytes() == NYDUSD
    assert stage.store.verify(current.id) == ()


def test_a_release_comes_through_four_connections_from_where_it_is_led_to(stage: Stage) -> None:
    with release_host() as host:
        stage.install(pinned(GOOD, host.publish(PATH, GOOD)))
        _expect_arrival(stage)
        asked = sorted(request.asked() or (0, 0) for request in host.objects.requests)
        assert asked == [(at, min(at + LIMITS.piece, len(GOOD)) - 1) for at in range(0, len(GOOD), LIMITS.piece)]
        assert 2 <= host.objects.connections <= 4
        assert len(host.front.requests) == 1  # the parts are asked for where the first one was
    assert stage.heard[-1].received == len(GOOD)
    assert stage.heard[-1].note == ""


def test_a_release_can_be_pinned_by_its_own_checksum(stage: Stage) -> None:
    with release_host() as host:
        artifact = pinned(GOOD, host.publish(PATH, GOOD))
        host.publish(f"{PATH}.sha256sum", f"{artifact.sha256}  {artifact.archive}\n".encode())
        stage.install(blank(artifact.url), trust=True)
        _expect_arrival(stage)


def _cut_once(where: int) -> Handler:
    """One connection, no parts at first; it breaks once, and goes on from there."""
    seen: list[Exchange] = []

    def handle(exchange: Exchange) -> bool:
        seen.append(exchange)
        if len(seen) == 1:
            exchange.send(head(Content_Length=str(len(GOOD)), ETag='"one"') + GOOD[:where])
            return False
        return parts(GOOD)(exchange)

    return handle


def _in_chunks(exchange: Exchange) -> bool:
    exchange.send(head(Transfer_Encoding="chunked") + chunked(GOOD[:100_000], GOOD[100_000:]) + b"0\r\n\r\n")
    return True


_KIND: dict[str, tuple[Handler, str]] = {
    "parts": (parts(GOOD), ""),
    "parts, without saying of which file": (lies(lambda first, last: f"bytes {first}-{last}/{len(GOOD)}", ETag=""),
                                            "of which file"),
    "no parts": (answer(GOOD), ""),
    "no parts, and no length": (_in_chunks, ""),
    "no parts, and a compression that it has not": (answer(GOOD, Content_Encoding="x-gzip"), ""),
    "416 for all parts": (no_parts(GOOD), "416"),
    "416 for later parts": (after_first(parts(GOOD), no_parts(GOOD)), "416"),
    "the whole file instead of later parts": (after_first(parts(GOOD), answer(GOOD)), "whole file"),
    "other parts than were asked for": (lies(shifted), "another part"),
    "another name for the file on each backend": (after_first(parts(GOOD), parts(GOOD, '"two"')), "whole file"),
    "another name for the file, and parts of it": (after_first(parts(GOOD), lies(true_range, ETag='"two"')), "ETag"),
    "parts that break off": (cut_parts(GOOD, 60_000), ""),
    "a file that breaks off": (_cut_once(150_000), ""),
}  # fmt: skip


@pytest.mark.parametrize("server", _KIND)
def test_the_programs_arrive_from_a_server_that_gives(server: str, scene: Scene, stage: Stage) -> None:
    handler, note = _KIND[server]
    stage.install(scene.serve(handler, GOOD))
    _expect_arrival(stage)
    assert note in stage.heard[-1].note
    assert bool(note) == bool(stage.heard[-1].note)


def test_a_broken_download_goes_on_where_it_was_and_only_with_the_same_file(scene: Scene, stage: Stage) -> None:
    stage.install(scene.serve(_cut_once(150_000), GOOD))
    again = scene.web.requests[1]
    assert again.asked() is not None
    assert 100_000 < (again.asked() or (0, 0))[0] <= 150_000
    assert again.headers["if-range"] == '"one"'


def test_a_mirror_s_credentials_go_to_the_mirror_only(scene: Scene, stage: Stage) -> None:
    name = PATH.rpartition("/")[2]
    scene.web.routes[f"/nydus/{name}"] = redirect(f"http://user:password@localhost:{scene.other.port}/file")
    scene.other.routes["/file"] = parts(GOOD)
    mirror = Source(SourceKind.MIRROR, scene.web.url("/nydus/"), "Bearer s3cret")
    stage.install(pinned(GOOD, f"https://example.org/x/{name}"), mirror)
    _expect_arrival(stage)
    assert {request.headers.get("authorization") for request in scene.web.requests} == {"Bearer s3cret"}
    assert {request.headers.get("authorization") for request in scene.other.requests} == {None}
    assert {request.headers.get("cookie") for request in scene.other.requests} == {None}


def test_a_mirror_with_a_certificate_of_the_site_s_own_authority_is_believed(scene: Scene, stage: Stage) -> None:
    scene.secure.routes[PATH] = parts(GOOD)
    stage.install(pinned(GOOD, scene.secure.url(PATH)), Source(SourceKind.RELEASE, ca=scene.ca))
    _expect_arrival(stage)


def _private_mirror(scene: Scene, authority: str) -> Source:
    """base_url with a certificate that only the authority in [artifacts] ca vouches for."""
    scene.secure.routes[f"/nydus/{PATH.rpartition('/')[2]}"] = parts(GOOD)
    ca = scene.directory / "site.pem"
    ca.write_text(authority)
    wanted = ArtifactsConfig(base_url=scene.secure.url("/nydus"), ca=str(ca) if authority else "")
    return unlocked(wire.root_files("/"), wanted, {}, source_of(wanted, "", is_directory=False))


def test_base_url_is_believed_by_the_ca_that_the_configuration_names(scene: Scene, stage: Stage) -> None:
    artifact = pinned(GOOD, f"https://example.org{PATH}")
    with pytest.raises(ArtifactError) as caught:
        stage.install(artifact, _private_mirror(scene, ""))
    assert caught.value.cause == REASONS[Refusal.TLS].cause
    stage.install(artifact, _private_mirror(scene, scene.ca))
    _expect_arrival(stage)


def test_a_ca_that_is_damaged_is_named_and_not_passed_over(scene: Scene, stage: Stage) -> None:
    source = _private_mirror(scene, scene.ca.replace("MII", "AAA", 1))
    with pytest.raises(ArtifactError) as caught:
        stage.install(pinned(GOOD, f"https://example.org{PATH}"), source)
    assert caught.value.cause == REASONS[Refusal.TLS].cause
    assert "the CA that was given cannot be used" in caught.value.seen[0]


def test_a_release_s_server_cannot_lead_this_node_to_its_own_ports(stage: Stage) -> None:
    """A network of its own, in which 10.9.9.9 is somebody else's host."""
    refused: list[ArtifactError] = []

    def install() -> None:
        with own_network():
            subprocess.run(["ip", "address", "add", "10.9.9.9/32", "dev", "lo"], check=True, timeout=60)
            with Server("10.9.9.9").run() as far, Server().run() as near:
                far.routes[PATH] = redirect(near.url("/secrets"))
                try:
                    stage.install(pinned(GOOD, far.url(PATH)))
                except ArtifactError as error:
                    refused.append(error)
                assert near.requests == []

    thread = threading.Thread(target=install)
    thread.start()
    thread.join(300)
    assert [error.cause for error in refused] == [REASONS[Refusal.ADDRESS_LOOPBACK].cause]


def test_a_bundle_brings_the_same_without_a_network(stage: Stage, tmp_path: Path) -> None:
    artifact = pinned(GOOD, f"https://example.org{PATH}")
    path = _bundle(artifact, tmp_path)
    stage.install(artifact, Source(SourceKind.BUNDLE, str(path)))
    _expect_arrival(stage)


@pytest.mark.parametrize("at", [100, 5000])
def test_a_bundle_that_was_tampered_with_brings_nothing(at: int, stage: Stage, tmp_path: Path) -> None:
    artifact = pinned(GOOD, f"https://example.org{PATH}")
    path = _bundle(artifact, tmp_path)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    before = stage.tree()
    with pytest.raises(ArtifactError) as caught:
        stage.install(artifact, Source(SourceKind.BUNDLE, str(path)))
    assert (caught.value.code, stage.tree()) == ("NNA1123" if at == 100 else "NNA1115", before)


def _bundle(artifact: Artifact, place: Path) -> Path:
    (place / artifact.archive).write_bytes(GOOD)
    path = place / "bundle.tar"
    BundleFiles("/").write(str(path), bundle.planned(lock(artifact), (artifact,)), str(place), lambda *_: None)
    return path
