"""What every implementation of the Containerd and SnapshotterSocket ports does."""

from __future__ import annotations

import abc
import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent import paths
from agent.errors import (
    ContainerdError,
    ContainerdInvalidError,
    ContainerdNotFoundError,
    ContainerdUnavailableError,
)
from agent.facts.node import PluginFact
from agent.ports import Containerd, SnapshotterSocket

PROBE = paths.PROBE_NAMESPACE
DEADLINE_S = 5.0
_PROBES = 20


class ContainerdWorld(abc.ABC):
    """A containerd with a proxy snapshotter "nydus", whose backend lives, and one image in namespace
    "contract".

    CRI's default snapshotter is overlayfs.
    """

    port: Containerd
    socket: SnapshotterSocket
    address: str
    """Of the snapshotter's socket."""
    root: str
    """Of the snapshotter, as containerd's configuration exports it."""
    image: str
    digest: str
    """Of the image's manifest."""
    shows_root = True
    """Whether introspection tells a proxy plugin's root (containerd 1.6.32, 1.7.16 and newer)."""

    @abc.abstractmethod
    def stop_containerd(self) -> None: ...

    @abc.abstractmethod
    def start_containerd(self) -> None:
        """Also after a stop; a running one is restarted."""

    @abc.abstractmethod
    def break_cri(self) -> None:
        """Restart containerd with a CRI configuration that names a snapshotter which is not there."""

    @abc.abstractmethod
    def stop_backend(self) -> None:
        """The snapshotter's process ends; containerd runs on."""

    @abc.abstractmethod
    def leftovers(self) -> tuple[str, ...]:
        """Snapshots and namespaces of probes, looked up without the port."""


class ContainerdContract:
    """Run by a class that has a fixture `world`, which is put back after each test."""

    def test_the_running_daemon_tells_version_pid_and_plugins(self, world: ContainerdWorld) -> None:
        server = world.port.server(deadline_s=DEADLINE_S)
        assert server.version[:2] >= (1, 6)
        assert server.version_text.removeprefix("v").startswith(
            ".".join(str(part) for part in server.version)
        )
        assert server.pid > 1
        assert server.plugins == world.port.plugins(deadline_s=DEADLINE_S)

    def test_a_restart_shows_as_another_pid(self, world: ContainerdWorld) -> None:
        before = world.port.server(deadline_s=DEADLINE_S).pid
        world.start_containerd()
        assert world.port.server(deadline_s=DEADLINE_S).pid != before

    def test_a_proxy_plugin_tells_our_address_and_root(self, world: ContainerdWorld) -> None:
        exports = dict(_plugin(world, "nydus").exports)
        assert (exports["address"], exports.get("root", "")) == (
            world.address,
            world.root if world.shows_root else "",
        )
        assert _plugin(world, "nydus").init_err == ""

    def test_cri_tells_where_images_are_kept(self, world: ContainerdWorld) -> None:
        mountpoints = world.port.image_fs_info(deadline_s=DEADLINE_S).mountpoints
        assert mountpoints[0].endswith("io.containerd.snapshotter.v1.overlayfs")

    def test_cri_tells_whether_the_runtime_is_ready(self, world: ContainerdWorld) -> None:
        status = world.port.cri_status(deadline_s=DEADLINE_S)
        assert status["RuntimeReady"] == "true"
        assert status["NetworkReady"] in ("true", "false")

    def test_a_living_snapshotter_is_proved_and_nothing_is_left(self, world: ContainerdWorld) -> None:
        for snapshotter in ("nydus", "overlayfs"):
            world.port.prepare_and_remove(snapshotter, PROBE, "proof", deadline_s=DEADLINE_S)
        assert world.port.snapshot_keys("nydus", PROBE, deadline_s=DEADLINE_S) == ()
        assert PROBE not in world.port.namespaces(deadline_s=DEADLINE_S)
        assert world.leftovers() == ()

    def test_probes_at_the_same_time_do_not_disturb_each_other(self, world: ContainerdWorld) -> None:
        def probe(who: int) -> None:
            for at in range(_PROBES):
                world.port.prepare_and_remove("nydus", PROBE, f"proof-{who}-{at}", deadline_s=30)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(probe, range(2)))
        assert PROBE not in world.port.namespaces(deadline_s=DEADLINE_S)
        assert world.leftovers() == ()

    def test_a_dead_snapshotter_looks_fine_until_it_is_needed(self, world: ContainerdWorld) -> None:
        world.stop_backend()
        assert _plugin(world, "nydus").init_err == ""
        assert world.port.snapshot_keys("nydus", "contract", deadline_s=DEADLINE_S) == ()
        assert world.port.snapshot_parents("nydus", "contract", deadline_s=DEADLINE_S) == {}
        with pytest.raises(ContainerdUnavailableError) as caught:
            world.port.prepare_and_remove("nydus", PROBE, "proof", deadline_s=DEADLINE_S)
        assert caught.value.code == "NNA0602"
        assert PROBE not in world.port.namespaces(deadline_s=DEADLINE_S)
        assert world.leftovers() == ()

    def test_a_snapshotter_that_is_not_registered_is_told_apart_from_a_dead_one(
        self, world: ContainerdWorld
    ) -> None:
        with pytest.raises(ContainerdInvalidError) as caught:
            world.port.prepare_and_remove("no-such", PROBE, "proof", deadline_s=DEADLINE_S)
        assert "not loaded" in caught.value.cause
        with pytest.raises(ContainerdInvalidError):
            world.port.snapshot_keys("no-such", "contract", deadline_s=DEADLINE_S)
        with pytest.raises(ContainerdInvalidError):
            world.port.snapshot_parents("no-such", "contract", deadline_s=DEADLINE_S)
        assert world.leftovers() == ()

    def test_the_snapshotters_own_socket_tells_whether_it_lives(self, world: ContainerdWorld) -> None:
        world.socket.alive(world.address, deadline_s=DEADLINE_S)
        assert world.socket.holder(world.address, deadline_s=DEADLINE_S) > 1
        world.stop_backend()
        for address, ask in itertools.product(
            (world.address, "/run/no-such.sock"), (world.socket.alive, world.socket.holder)
        ):
            with pytest.raises(ContainerdUnavailableError) as caught:
                ask(address, deadline_s=DEADLINE_S)
            assert caught.value.code == "NNA0602"

    def test_a_stopped_containerd_is_unavailable_and_answers_when_it_is_back(
        self, world: ContainerdWorld
    ) -> None:
        world.port.plugins(deadline_s=DEADLINE_S)  # a connection is open
        world.stop_containerd()
        asks: list[Callable[[], object]] = [
            lambda: world.port.server(deadline_s=1),
            lambda: world.port.namespaces(deadline_s=1),
            lambda: world.port.image_fs_info(deadline_s=1),
            lambda: world.port.images("contract", deadline_s=1),
            lambda: world.port.snapshot_keys("overlayfs", "contract", deadline_s=1),
            lambda: world.port.content("contract", world.digest, deadline_s=1),
            lambda: world.port.digests("contract", deadline_s=1),
            lambda: world.port.unpacked("nydus", "contract", deadline_s=1),
            lambda: world.port.pull(world.image, "", deadline_s=1),
            lambda: world.port.prepare_and_remove("overlayfs", PROBE, "proof", deadline_s=1),
        ]
        for ask in asks:
            with pytest.raises(ContainerdUnavailableError):
                ask()
        world.start_containerd()
        assert world.port.server(deadline_s=DEADLINE_S).pid > 1

    def test_a_broken_cri_plugin_is_seen_though_containerd_runs(self, world: ContainerdWorld) -> None:
        world.break_cri()
        assert world.port.server(deadline_s=DEADLINE_S).pid > 1
        plugins = world.port.plugins(deadline_s=DEADLINE_S)
        assert any(
            one.init_err for one in plugins if one.id == "cri" or one.type.startswith("io.containerd.cri.")
        )
        for ask in (world.port.image_fs_info, world.port.cri_status):
            with pytest.raises(ContainerdError) as caught:
                ask(deadline_s=DEADLINE_S)
            assert caught.value.code == "NNA0607"

    def test_an_image_is_found_with_its_manifest(self, world: ContainerdWorld) -> None:
        (image,) = world.port.images("contract", deadline_s=DEADLINE_S)
        assert (image.name, image.digest) == (world.image, world.digest)
        assert image.media_type == "application/vnd.oci.image.manifest.v1+json"
        manifest = world.port.content("contract", image.digest, deadline_s=DEADLINE_S)
        assert json.loads(manifest)["schemaVersion"] == 2
        assert world.port.images("no-such", deadline_s=DEADLINE_S) == ()

    def test_content_is_bounded_and_absence_is_told(self, world: ContainerdWorld) -> None:
        with pytest.raises(ContainerdNotFoundError):
            world.port.content("contract", "sha256:" + "0" * 64, deadline_s=DEADLINE_S)
        with pytest.raises(ContainerdError) as caught:
            world.port.content("contract", world.digest, deadline_s=DEADLINE_S, cap=10)
        assert caught.value.code == "NNA0608"

    def test_what_is_in_the_content_store_is_listed_by_namespace(self, world: ContainerdWorld) -> None:
        listed = world.port.digests("contract", deadline_s=DEADLINE_S)
        assert world.digest in listed
        for digest in listed:
            world.port.content("contract", digest, deadline_s=DEADLINE_S)
        assert world.port.digests("no-such", deadline_s=DEADLINE_S) == frozenset()

    def test_what_was_unpacked_is_told_for_every_snapshotter_and_namespace(
        self, world: ContainerdWorld
    ) -> None:
        """The image here was not. Whether a snapshotter is known, or answers, does not matter."""
        world.stop_backend()
        for snapshotter in ("overlayfs", "nydus", "no-such"):
            for namespace in ("contract", "no-such"):
                assert world.port.unpacked(snapshotter, namespace, deadline_s=DEADLINE_S) == frozenset()

    def test_a_pull_that_no_registry_answers_is_an_error(self, world: ContainerdWorld) -> None:
        for runtime in ("", "runc"):
            with pytest.raises(ContainerdError):
                world.port.pull("127.0.0.1:9/no-such:1", runtime, deadline_s=DEADLINE_S)

    def test_namespaces_are_listed(self, world: ContainerdWorld) -> None:
        assert "contract" in world.port.namespaces(deadline_s=DEADLINE_S)


def _plugin(world: ContainerdWorld, plugin_id: str) -> PluginFact:
    return next(fact for fact in world.port.plugins(deadline_s=DEADLINE_S) if fact.id == plugin_id)
