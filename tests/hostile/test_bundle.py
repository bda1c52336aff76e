"""`nydus-agent artifacts bundle` from a server: what an installation would refuse gets into no bundle either."""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent import wire
from agent.adapters.artifact_bundle import BundleFiles
from agent.artifacts.lock import Artifact, Lock, render
from agent.artifacts.refusals import REASONS, Refusal
from agent.commands import artifacts_bundle
from agent.commands.context import Context
from agent.config.model import ArtifactsConfig, Config
from agent.console import Console
from agent.errors import ArtifactError, Exit
from agent.node.facts import Arch
from tests.hostile import tars
from tests.hostile.case import PATH, Scene
from tests.hostile.server import answer, parts
from tests.hostile.stage import GOOD, IMAGE, Stage, lock_made_now, pinned, release
from tests.unit.artifacts import elf

FOREIGN = {"nydusd": elf(b"nydusd" * 30_000, Arch.ARM64), "nydus-image": IMAGE[:18] + b"\xb7\0" + IMAGE[20:]}
OTHER = tars.gz(release(FOREIGN))
OTHER_PATH = PATH.replace("amd64", "arm64")


def served(scene: Scene) -> tuple[Artifact, Artifact]:
    """nydus for two architectures; one server knows parts, as the other does not."""
    scene.web.routes[PATH] = parts(GOOD)
    scene.web.routes[OTHER_PATH] = answer(OTHER)
    foreign = replace(pinned(OTHER, scene.web.url(OTHER_PATH), FOREIGN), arch=Arch.ARM64)
    return pinned(GOOD, scene.web.url(PATH)), foreign


def made(stage: Stage, place: Path, lock: Lock, *words: str, artifacts: ArtifactsConfig | None = None) -> Path:
    """The bundle that the verb makes of a lock."""
    (place / "my.lock.toml").write_bytes(render(lock))
    parser = argparse.ArgumentParser()
    artifacts_bundle.add_arguments(parser)
    out = place / "out.tar"
    args = parser.parse_args(["--lock", str(place / "my.lock.toml"), "-o", str(out), *words])
    ports = replace(wire.artifact_ports("/"), stores=lambda _: stage.store, downloads=lambda: stage.source)
    context = Context(Console(io.StringIO(), io.StringIO()), uid=0)
    config = Config(artifacts=artifacts or ArtifactsConfig())
    assert artifacts_bundle.put_together(args, context, config, ports) is Exit.OK
    return out


def test_one_command_makes_of_the_releases_what_a_directory_of_them_makes(scene: Scene, stage: Stage) -> None:
    place, artifacts = scene.directory, served(scene)
    lock, before = lock_made_now(*artifacts), stage.tree()
    content = made(stage, place, lock).read_bytes()
    assert BundleFiles("/").read(str(place / "out.tar")).lock == lock
    assert {path: told for path, told in stage.tree().items() if path.startswith(f"{stage.root}/")} == {
        path: told for path, told in before.items() if path.startswith(f"{stage.root}/")
    }
    for artifact, archive in zip(artifacts, (GOOD, OTHER), strict=True):
        (place / artifact.archive).write_bytes(archive)
    assert made(stage, place, lock, "--from", str(place)).read_bytes() == content


def test_base_url_is_asked_as_an_installation_asks_it(scene: Scene, stage: Stage) -> None:
    artifact = pinned(GOOD, "https://example.org/nydus.tgz")
    scene.web.routes["/nydus/nydus.tgz"] = answer(GOOD)
    config = ArtifactsConfig(base_url=scene.web.url("/nydus"))
    whole = BundleFiles("/").read(str(made(stage, scene.directory, lock_made_now(artifact), artifacts=config)))
    assert [member.artifact for member in whole.members] == [artifact]


def _other_bytes(scene: Scene) -> Lock:
    artifacts = served(scene)
    scene.web.routes[PATH] = answer(GOOD[:-1] + b"x")
    return lock_made_now(*artifacts)


def _setuid(scene: Scene) -> Lock:
    """The lock's maker has not looked: the digest is right, and no node would take it."""
    content = tars.gz(tars.archive(tars.member("nydus-static/nydusd", elf(b"x"), mode=0o4755)))
    return lock_made_now(scene.lay(content, {"nydusd": elf(b"x")}))


def _another_machine_s(scene: Scene) -> Lock:
    return lock_made_now(replace(served(scene)[1], arch=Arch.AMD64))


@pytest.mark.parametrize(
    ("lay", "refusal"),
    [(_other_bytes, Refusal.DIGEST), (_setuid, Refusal.SETUID), (_another_machine_s, Refusal.ELF_MACHINE)],
)
def test_what_no_node_would_install_is_bundled_for_none(
    lay: object, refusal: Refusal, scene: Scene, stage: Stage
) -> None:
    assert callable(lay)
    lock = lay(scene)
    (scene.directory / "out.tar").write_bytes(b"the one before")
    with pytest.raises(ArtifactError) as caught:
        made(stage, scene.directory, lock)
    assert (caught.value.code, caught.value.cause) == (REASONS[refusal].code, REASONS[refusal].cause)
    assert (scene.directory / "out.tar").read_bytes() == b"the one before"
    assert {one.id for one in stage.store.sets()} == {stage.old.id}


def test_a_lock_that_has_expired_is_not_what_other_nodes_are_given(scene: Scene, stage: Stage) -> None:
    lock = lock_made_now(*served(scene))
    past = replace(lock, made=lock.made - timedelta(days=9), expires=lock.made - timedelta(days=1))
    with pytest.raises(ArtifactError) as caught:
        made(stage, scene.directory, past)
    assert (caught.value.code, scene.web.requests) == ("NNA1103", [])
