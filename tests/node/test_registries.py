"""Bytes come through the mirror whatever the registry speaks, or the operator is told that they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.node import cache, parts, scene
from tests.node import images as image_store
from tests.node.boot import Node
from tests.node.parts import Faulty

TLS_RULE = {"regex": "blobs/sha256.*", "useTLS": True}


def stand_in(node: Node, rules: list[dict[str, object]]) -> Faulty:
    return parts.start_mirror(node, rules=rules)


@contextmanager
def https_node(
    rules: list[dict[str, object]],
    start: Callable[[Node, list[dict[str, object]]], Faulty] = stand_in,
    shares: Mapping[str, Path] | None = None,
) -> Iterator[tuple[Node, parts.Registry, Faulty]]:
    """A node with an https registry of a private CA that the system trusts, and a mirror with these rules."""
    with Node(shares=shares) as node:
        registry = parts.start_tls_registry(node, trusted=True)
        mirror = start(node, rules)
        image_store.push(node, "python-nydus", f"{registry.host}/python-nydus:1", tls=True)
        image_store.load_pause(node)
        yield node, registry, mirror


def https_site(registry: parts.Registry, ca: str) -> str:
    return (
        f'[apply]\non_install = true\n[[registries.hosts]]\nhost = "{registry.host}"\nscheme = '
        f'"https"\nca = "{ca}"\n'
    )


def shares(node: Node, mirror: Faulty, registry: parts.Registry) -> tuple[int, int]:
    """Run the image; bytes that nydusd fetched, and bytes through the mirror less the bootstrap
    (containerd's).
    """
    before = mirror.stats()["blob_bytes"]
    started = scene.start_nydus(node, f"{registry.host}/python-nydus:1")
    assert started.output == "hello from python\n"
    fetched = scene.nydusd_bytes(node)
    through = mirror.stats()["blob_bytes"] - before - scene.bootstrap_size("python-nydus")
    print(f"{registry.url}: {through} of {fetched} bytes of nydusd through the mirror")
    return fetched, through


def test_an_https_registry_is_accelerated_where_the_mirror_has_a_tls_rule() -> None:
    with https_node([TLS_RULE]) as (node, registry, mirror):
        scene.install(node, https_site(registry, registry.ca or ""))
        fetched, through = shares(node, mirror, registry)
        assert through >= 0.9 * fetched > 0


def test_without_a_tls_rule_reads_go_direct_and_the_operator_is_told() -> None:
    with https_node([{"regex": "blobs/sha256.*"}]) as (node, registry, mirror):
        scene.install(node, https_site(registry, registry.ca or ""))
        fetched, through = shares(node, mirror, registry)
        assert fetched > 0
        assert through < 4096, "nothing but the image's configuration, which containerd pulls"
        status = scene.agent(node, "status", check=False)
        assert registry.host in status.stdout, status.stdout
        assert "not accelerated" in status.stdout


def test_a_registry_whose_certificate_the_ca_did_not_sign_is_refused() -> None:
    with https_node([TLS_RULE]) as (node, registry, _):
        wrong = parts.make_ca(node, "wrong")
        scene.install_only(
            node, https_site(registry, wrong).replace("on_install = true", "on_install = false")
        )
        told = scene.agent(node, "plan", check=False)
        assert registry.host in told.stdout + told.stderr
        assert "certificate" in (told.stdout + told.stderr).lower()
        assert '"use_http": true' not in told.stdout


def test_the_mirrors_dialect_works_with_debians_snapshotter_and_a_registry_with_credentials() -> None:
    assert cache.find("nydus"), "nydusd 2.2.0 knows mirrors"
    with Node(snapshotter="0.13.4") as node:
        registry = parts.start_auth_registry(node)
        mirror = parts.start_mirror(node)
        ref = f"{registry.host}/python-nydus:1"
        image_store.push(node, "python-nydus", ref, user=registry.user, password=registry.password)
        image_store.load_pause(node)
        scene.docker_login(node, registry)
        site = (
            f'[apply]\non_install = true\n[mirror]\ndialect = "mirrors"\nregistry = "{registry.url}"\n'
            f'[[registries.hosts]]\nhost = "{registry.host}"\nscheme = "http"\n'
        )
        scene.install(node, site)
        scene.drop_caches()
        scene.pull(node, ref, credentials=f"{registry.user}:{registry.password}")
        before = mirror.stats()["blob_bytes"]
        output = node.run(
            ["ctr", "-n", "k8s.io", "run", "--rm", "--cpu-shares", "0", "--snapshotter", "nydus", ref, "m"]
        )
        assert output.stdout == "hello from python\n"
        fetched, through = scene.nydusd_bytes(node), mirror.stats()["blob_bytes"] - before
        print(f"mirrors dialect: {through} of {fetched} bytes through the mirror")
        assert through >= 0.9 * fetched > 0
