"""Real images become nydus images: every file as it was, containers run from them, and nothing is left
over.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.node import layout, parts, scene, stock, token_registry, trees
from tests.node.boot import Node
from tests.node.change import NO_CHANGE

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")

IMAGES = ("python", "many", "layered", "plain-layers")
"""The three that bench-convert measures, and one whose layers name every directory."""
ACCOUNTS, CERTIFICATES = "/root/accounts.json", "/root/certificates"
WORK = "/var/tmp"
REPOSITORIES = "/var/lib/docker-registry/docker/registry/v2/repositories"
SMALL_FILES = 3000
LOOK = """
import os
here = sorted(os.listdir("/opaque"))
stat = os.stat("/odd/file")
print(here, os.path.exists("/deleted"), open("/turned").read(), os.path.lexists("/odd/soft"))
colour = os.getxattr("/odd/xattrs", "user.colour")
print(stat.st_nlink, stat.st_uid, oct(os.stat("/odd/xattrs").st_mode & 0o7777), colour)
"""
SEEN = "['new'] False a file now False\n2 5 0o4755 b'green'\n"


@dataclass(frozen=True)
class Place:
    node: Node
    host: str

    def convert(self, source: str, target: str, *options: str) -> dict[str, Any]:
        """Convert within the node's registry; the answer."""
        done = self.run(source, target, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert left_over(self.node) == []
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def run(self, source: str, target: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = ["convert", self.ref(source), self.ref(target), "--format", "json", *options]
        return scene.agent(self.node, *command, check=False, timeout=300)

    def begin(self, source: str, target: str) -> subprocess.Popen[bytes]:
        command = ["nydus-agent", "convert", self.ref(source), self.ref(target), "--format", "json"]
        return self.node.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ref(self, name: str) -> str:
        return name if ":" in name else f"{self.host}/{name}:1"

    def skopeo(self, *words: str) -> str:
        return self.node.run(["skopeo", "--insecure-policy", *words], timeout=120).stdout

    def manifest(self, name: str, *options: str) -> str:
        """What a name leads to now."""
        return self.skopeo("inspect", "--raw", "--tls-verify=false", *options, f"docker://{self.ref(name)}")

    def pid_of(self, target: str) -> str:
        """The process of a conversion that runs."""
        return self.node.run(
            f"pgrep --full 'python.*nydus-agent convert.*/[{target[0]}]{target[1:]}:1'"
        ).stdout.split()[0]

    @contextmanager
    def frozen_at_upload(self, repository: str) -> Iterator[None]:
        """The registry stands still from the moment at which something is sent to this repository."""
        where = self.node.inside(f"{REPOSITORIES}/{repository}")
        registry, deadline = parts.Unit(self.node, "test-registry-5000.service"), time.monotonic() + 240
        while not any(where.glob("_uploads/*/data")):
            assert time.monotonic() < deadline, f"nothing is sent to {repository}"
            time.sleep(0.002)
        registry.signal_now(signal.SIGSTOP)
        try:
            yield
        finally:
            registry.signal_now(signal.SIGCONT)


def left_over(node: Node) -> list[str]:
    """What conversions have on the node at this moment: files, processes and mounts."""
    files = node.run(f"find {WORK} -mindepth 1 -maxdepth 1 -name 'nydus-agent-convert*'").stdout.split()
    return files + node.run("pgrep --full '[n]ydus-agent-convert' || true").stdout.split()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node that runs nydus images, with four plain ones in its registry: python, many, layered and
    plain-layers.
    """
    directory = tmp_path_factory.mktemp("images")
    made = layout.Layout(directory)
    trees.add_image(made, "many", [trees.many_files(SMALL_FILES)], command=["/none"])
    trees.add_image(made, "layered", trees.LAYERS, base="python", command=["python3", "-c", LOOK])
    program = 'print(open("/usr/share/new").read())'
    trees.add_image(
        made, "plain-layers", [trees.plain_addition], base="python", command=["python3", "-c", program]
    )
    with scene.staged("python") as stage:
        for name in ("many", "layered", "plain-layers"):
            trees.push(stage.node, directory, name, stage.ref(name))
        yield Place(stage.node, stage.registry.host)


@pytest.fixture(scope="module")
def guarded(place: Place) -> parts.Registry:
    """A registry with a private CA and accounts, https only; it holds what the other one does."""
    node = place.node
    parts.start_auth_registry(node, port=5011)  # its file of accounts
    ca = parts.make_ca(node)
    certificate, key = parts.make_certificate(node, ca, parts.REGISTRY_NAME)
    parts.name_host(node, parts.REGISTRY_NAME)
    auth = {"htpasswd": {"realm": "test", "path": parts.HTPASSWD}}
    tls = {"tls": {"certificate": certificate, "key": key}}
    registry = parts.run_registry(node, "registry-5012", 5012, tls, auth)
    registry.host, registry.tls, registry.ca = f"{parts.REGISTRY_NAME}:5012", True, ca
    registry.user, registry.password = parts.USER, parts.PASSWORD
    scene.docker_login(node, registry)
    node.run(["mv", "/root/.docker/config.json", ACCOUNTS])
    node.run(["mkdir", "-p", CERTIFICATES])
    node.run(["cp", ca, f"{CERTIFICATES}/ca.crt"])
    for name in IMAGES:
        access = ("--src-tls-verify=false", "--dest-authfile", ACCOUNTS, "--dest-cert-dir", CERTIFICATES)
        target = f"docker://{registry.host}/{name}:1"
        place.skopeo("copy", "--quiet", *access, f"docker://{place.ref(name)}", target)
    return registry


@pytest.mark.parametrize(
    ("name", "options", "files"),
    [
        ("python", ("--compressor=lz4_block", "--chunk-size=64K"), 5000),
        ("many", (), SMALL_FILES),
        ("layered", (), 5000),
        ("plain-layers", ("--reference",), 5000),
    ],
)
def test_every_file_of_an_image_converted_through_credentials_and_a_private_ca_is_what_it_was(
    place: Place, guarded: parts.Registry, name: str, options: tuple[str, ...], files: int
) -> None:
    source, target = (f"{guarded.host}/{name}:{tag}" for tag in ("1", "nydus"))
    access = ("--ca", guarded.ca or "", "--authfile", ACCOUNTS)
    made = place.convert(source, target, "--compare", *access, *options)
    compared = made["images"][0]["compared"]
    assert compared["differences"] == 0
    assert compared["files"] > files


def test_a_container_runs_from_a_converted_image_and_sees_what_its_layers_say(place: Place) -> None:
    made = place.convert("layered", "layered-run")
    manifest = json.loads(place.manifest("layered-run"))
    assert [layer["mediaType"].rpartition(".image.")[2] for layer in manifest["layers"][:-1]] == [
        "layer.nydus.blob.v1"
    ] * made["images"][0]["blobs"]
    started = scene.start_nydus(place.node, place.ref("layered-run"))
    assert started.output == SEEN
    assert scene.nydusd_bytes(place.node) > 0


def test_a_container_reads_its_data_from_the_layers_of_the_source_where_it_stays_in_them(
    place: Place,
) -> None:
    made = place.convert("plain-layers", "referenced", "--reference")
    assert made["images"][0]["bytes"] < made["images"][0]["source_bytes"] / 4
    started = scene.start_nydus(place.node, place.ref("referenced"))
    assert started.output == "in an upper layer\n"
    refused = place.run("layered", "not-referenced", "--reference")
    assert (refused.returncode, "without naming it" in refused.stdout) == (1, True), refused.stdout


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_every_file_of_an_image_in_an_archive_is_what_it_was(place: Place, form: str) -> None:
    archive = f"{form}:/root/{form}.tar:odd:1"
    place.skopeo("copy", "--quiet", "--src-tls-verify=false", f"docker://{place.ref('layered')}", archive)
    made = place.convert(archive, form, "--compare")
    assert (made["images"][0]["layers"], made["images"][0]["compared"]["differences"]) == (4, 0)
    there = place.convert("many", "oci:/root/made:it")
    assert there["target"] == "oci:/root/made:it"


@pytest.mark.parametrize("when", ["work", "send"])
def test_a_conversion_that_is_told_to_end_leaves_nothing_here_and_no_name_in_the_registry(
    place: Place, when: str
) -> None:
    name = f"ended-{when}"
    running = place.begin("layered", name)
    if when == "work":
        place.node.wait_until(lambda: left_over(place.node), 240, "the conversion works")
        place.node.run(["kill", "-TERM", place.pid_of(name)])
    else:
        with place.frozen_at_upload(name):
            place.node.run(["kill", "-TERM", place.pid_of(name)])
    out, err = running.communicate(timeout=120)
    assert running.returncode == 1, err
    assert b"NNA0404" in out
    assert left_over(place.node) == []
    assert (
        f"{name}:1" not in place.node.run(["curl", "-s", f"http://{place.host}/v2/{name}/tags/list"]).stdout
    )


def test_a_conversion_that_is_killed_half_way_leaves_the_old_name(place: Place) -> None:
    place.convert("many", "killed")
    before = place.manifest("killed")
    running = place.begin("layered", "killed")
    with place.frozen_at_upload("killed"):
        place.node.run(["kill", f"-{signal.SIGKILL}", place.pid_of("killed")])
        running.communicate(timeout=120)
    place.node.wait_until(
        lambda: len(left_over(place.node)) == 1, 30, "all that it started has ended with it"
    )
    place.node.run(["rm", "-r", *left_over(place.node)])
    assert place.manifest("killed") == before
    place.convert("layered", "killed")
    assert place.manifest("killed") != before


def test_an_index_for_two_platforms_goes_through_a_registry_with_credentials_and_a_private_ca(
    place: Place, guarded: parts.Registry, tmp_path: Path
) -> None:
    node, ca = place.node, ("--ca", guarded.ca or "")
    trees.add_platforms(tmp_path, "both", [trees.many_files(200)], ("amd64", "arm64"))
    shutil.copytree(tmp_path, node.inside("/root/layout"))
    source, target = f"{guarded.host}/both:1", f"{guarded.host}/both:nydus"
    unknown = place.run("oci:/root/layout:both", source, *ca, "--platform=amd64")
    assert unknown.returncode == 1
    assert [word for word in ("NNA1410", "--authfile") if word not in unknown.stdout] == []
    scene.docker_login(node, guarded)
    untrusted = place.run("oci:/root/layout:both", source, "--platform=amd64")
    assert untrusted.returncode == 1
    assert [word for word in ("x509", "--ca FILE") if word not in untrusted.stdout] == []
    to = ("--dest-cert-dir", CERTIFICATES, f"docker://{source}")
    place.skopeo("copy", "--all", "--quiet", "oci:/root/layout:both", *to)
    made = place.convert(source, target, *ca, "--platform=amd64,arm64", "--compare")
    assert [(one["platform"], one["compared"]["differences"]) for one in made["images"]] == [
        ("linux/amd64", 0), ("linux/arm64", 0),
    ]  # fmt: skip
    node.run(["rm", "/root/.docker/config.json"])
    index = json.loads(place.manifest(target, f"--authfile={ACCOUNTS}"))
    assert [one["platform"]["architecture"] for one in index["manifests"]] == ["amd64", "arm64"]
    again = place.run(target, source, *ca, "--platform=arm64", f"--authfile={ACCOUNTS}")
    assert "it is a nydus image already" in again.stdout
    none = place.run(source, target, *ca, "--platform=riscv64", f"--authfile={ACCOUNTS}")
    assert (none.returncode, "NNA1403" in none.stdout) == (1, True), none.stdout
    for said in (unknown, untrusted, again, none):
        assert parts.PASSWORD not in said.stdout + said.stderr
    assert parts.PASSWORD not in node.journal()


def test_a_registry_that_wants_tokens_gets_one_and_no_secret_is_told(place: Place) -> None:
    node = place.node
    registry, _ = token_registry.start(node, password="a-secret-of-the-test")
    scene.docker_login(node, registry)
    done = place.run("many", f"{registry.host}/behind-tokens:1")
    assert done.returncode == 0, done.stderr
    whole = done.stdout + done.stderr + node.journal()
    for secret in (registry.password, *node.read(token_registry.ISSUED).split()):
        assert secret not in whole


def test_the_oldest_skopeo_that_debian_supports_keeps_what_a_nydus_image_is(tmp_path: Path) -> None:
    trees.add_platforms(tmp_path, "both", trees.LAYERS, ("amd64", "arm64"))
    with Node(root=stock.root("bookworm")) as node:
        scene.install_only(node, NO_CHANGE)
        place = Place(node, parts.start_registry(node).host)
        assert place.skopeo("--version").startswith("skopeo version 1.9.3")
        shutil.copytree(tmp_path, node.inside("/root/layout"))
        made = place.convert("oci:/root/layout:both", "both", "--platform=amd64,arm64", "--compare")
        assert [one["compared"]["differences"] for one in made["images"]] == [0, 0]
        (digest, _) = (one["digest"] for one in json.loads(place.manifest("both"))["manifests"])
        manifest = json.loads(place.manifest(f"{place.host}/both@{digest}"))
        kinds = [layer["mediaType"].rpartition("/vnd.oci.image.")[2] for layer in manifest["layers"]]
        assert kinds == ["layer.nydus.blob.v1", "layer.nydus.blob.v1", "layer.v1.tar+gzip"]
