"""Real images become nydus images: every file as it was, containers run from them, and nothing is left over."""

from __future__ import annotations

import base64
import json
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.node import layout, parts, scene, token_registry, trees
from tests.node.boot import Node

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")

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

    def convert(self, source: str, target: str, *options: str, check: bool = True) -> dict[str, Any]:
        """Convert within the node's registry; the last event."""
        done = self.run(source, target, *options)
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert left_over(self.node) == []
        last: dict[str, Any] = events[-1]
        return last

    def run(self, source: str, target: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = ["convert", self.ref(source), self.ref(target), "--json", *options]
        return scene.agent(self.node, *command, check=False, timeout=300)

    def begin(self, source: str, target: str) -> subprocess.Popen[bytes]:
        command = ["nydus-agent", "convert", self.ref(source), self.ref(target), "--json"]
        return self.node.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ref(self, name: str) -> str:
        return name if ":" in name else f"{self.host}/{name}:1"

    def pid_of(self, target: str) -> str:
        """The process of a conversion that runs."""
        return self.node.run(
            f"pgrep --full 'python.*nydus-agent convert.*/[{target[0]}]{target[1:]}:1'"
        ).stdout.split()[0]

    @contextmanager
    def frozen_at(self, repository: str, sight: str) -> Iterator[None]:
        """The registry stands still from the moment at which it has something of this repository."""
        where = self.node.inside(f"{REPOSITORIES}/{repository}")
        registry, deadline = parts.Unit(self.node, "test-registry-5000.service"), time.monotonic() + 240
        while not any(where.glob(sight)):
            assert time.monotonic() < deadline, f"there is no {repository}/{sight}"
            time.sleep(0.002)
        registry.signal_now(signal.SIGSTOP)
        try:
            yield
        finally:
            registry.signal_now(signal.SIGCONT)

    def uploads(self, repository: str) -> list[str]:
        """Uploads that are open in the registry (of one that was ended it keeps an empty directory)."""
        place = f"{REPOSITORIES}/{repository}/_uploads"
        return self.node.run(f"find {place} -name data 2>/dev/null || true").stdout.split()


def left_over(node: Node) -> list[str]:
    """What conversions have on the node at this moment: files, processes and mounts."""
    files = node.run(f"find {WORK} -mindepth 1 -maxdepth 1 -name 'nydus-agent-convert*'").stdout.split()
    return files + node.run("pgrep --full '[n]ydus-agent-convert' || true").stdout.split()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node that runs nydus images, with three plain ones in its registry: python, many and layered."""
    directory = tmp_path_factory.mktemp("images")
    made = layout.Layout(directory)
    trees.add_image(made, "many", [trees.many_files(SMALL_FILES)], command=["/none"])
    trees.add_image(made, "layered", trees.LAYERS, base="python", command=["python3", "-c", LOOK])
    program = 'print(open("/usr/share/new").read())'
    trees.add_image(made, "plain-layers", [trees.plain_addition], base="python", command=["python3", "-c", program])
    with scene.staged("python") as stage:
        for name in ("many", "layered", "plain-layers"):
            trees.push(stage.node, directory, name, stage.ref(name))
        yield Place(stage.node, stage.registry.host)


@pytest.mark.parametrize(
    ("name", "options", "files"),
    [
        ("python", ("--compressor=lz4_block", "--chunk-size=64K"), 5000),
        ("many", (), SMALL_FILES),
        ("layered", (), 5000),
        ("plain-layers", ("--reference",), 5000),
    ],
)
def test_every_file_of_a_converted_image_is_what_it_was(
    place: Place, name: str, options: tuple[str, ...], files: int
) -> None:
    made = place.convert(name, f"{name}-{len(options)}-nydus", "--compare", *options)
    compared = made["images"][0]["compared"]
    assert compared["differences"] == 0
    assert compared["files"] > files


def test_a_container_runs_from_a_converted_image_and_sees_what_its_layers_say(place: Place) -> None:
    place.convert("layered", "layered-run")
    started = scene.start_nydus(place.node, place.ref("layered-run"))
    assert started.output == SEEN
    assert scene.nydusd_bytes(place.node) > 0


def test_a_container_reads_its_data_from_the_layers_of_the_source_where_it_stays_in_them(place: Place) -> None:
    made = place.convert("plain-layers", "referenced", "--reference")
    assert made["images"][0]["bytes"] < made["images"][0]["source_bytes"] / 4
    assert made["sent"]["mounted"] == 2
    started = scene.start_nydus(place.node, place.ref("referenced"))
    assert started.output == "in an upper layer\n"
    refused = place.run("layered", "not-referenced", "--reference")
    assert (refused.returncode, "/private without naming it" in refused.stderr) == (1, True), refused.stderr


def test_what_the_registry_has_is_not_sent_again_and_another_repositorys_is_taken_over(place: Place) -> None:
    place.convert("many", "many-first")
    again = place.convert("many", "many-first")
    assert again["sent"]["there"] >= 1
    mounted = place.convert("many", "many-second", "--mount-from=many-first")
    assert mounted["sent"]["mounted"] >= 1


@pytest.mark.parametrize("when", ["work", "send"])
def test_a_conversion_that_is_told_to_end_leaves_nothing_here_and_nothing_in_the_registry(
    place: Place, when: str
) -> None:
    name = f"ended-{when}"
    running = place.begin("layered", name)
    if when == "work":
        place.node.wait_until(lambda: left_over(place.node), 240, "the conversion works")
        place.node.run(["kill", "-TERM", place.pid_of(name)])
    else:
        with place.frozen_at(name, "_uploads/*/data"):
            place.node.run(["kill", "-TERM", place.pid_of(name)])
    out, err = running.communicate(timeout=120)
    assert running.returncode == 1, out
    assert b"NNA1428" in err
    assert left_over(place.node) == []
    assert place.uploads(name) == []
    assert f"{name}:1" not in place.node.run(["curl", "-s", f"http://{place.host}/v2/{name}/tags/list"]).stdout


def test_a_conversion_that_is_killed_leaves_nothing_here_that_the_next_one_does_not_clear_or_use(place: Place) -> None:
    running = place.begin("layered", "killed")
    with place.frozen_at("killed", "_layers/sha256/*/link"):
        place.node.run(["kill", f"-{signal.SIGKILL}", place.pid_of("killed")])
        running.communicate(timeout=120)
    assert [one for one in left_over(place.node) if one.startswith("/")] != []
    made = place.convert("layered", "killed")
    assert made["sent"]["there"] >= 1


def test_a_layout_on_the_disk_becomes_an_index_for_both_platforms(place: Place, tmp_path: Path) -> None:
    trees.add_platforms(tmp_path, "both", [trees.many_files(200)], ("amd64", "arm64"))
    tar = subprocess.run(["tar", "--create", "--directory", str(tmp_path), "."], capture_output=True, check=True)
    place.node.run(["mkdir", "-p", "/root/layout"])
    place.node.run(["tar", "--extract", "--directory", "/root/layout"], input=tar.stdout)
    made = place.convert("oci:/root/layout:both", "both", "--platform=amd64,arm64", "--compare")
    assert [(one["platform"], one["compared"]["differences"]) for one in made["images"]] == [
        ("linux/amd64", 0), ("linux/arm64", 0),
    ]  # fmt: skip
    again = place.run("both", "both-again", "--platform=arm64")
    assert "NNA1404" in again.stderr, "a nydus image is not converted again"
    refused = place.run("oci:/root/layout:both", "none", "--platform=riscv64")
    assert (refused.returncode, "it has: linux/amd64, linux/arm64" in refused.stderr) == (1, True)


def test_a_registry_with_a_private_ca_is_spoken_to_by_tls_alone_and_not_at_all_without_it(place: Place) -> None:
    registry = parts.start_tls_registry(place.node)
    target = f"{registry.host}/over-tls:1"
    refused = place.run("many", target)
    assert (refused.returncode, "its certificate does not verify" in refused.stderr) == (1, True), refused.stderr
    hosts = f'[[registries.hosts]]\nhost = "{registry.host}"\nscheme = "https"\nca = "{registry.ca}"\n'
    place.node.write("/root/site/tls.toml", hosts)
    assert place.convert("many", target, "--conf-d=/root/site")["target"] == target
    assert place.run(target, f"{registry.host}/again:1", "--conf-d=/root/site").stderr.count("NNA1404") == 1


def test_a_registry_that_asks_is_told_who_we_are_and_nobody_else_is(place: Place) -> None:
    registry = parts.start_auth_registry(place.node)
    refused = place.run("many", f"{registry.host}/private:1")
    assert refused.returncode == 1
    scene.docker_login(place.node, registry)
    target = f"{registry.host}/private:1"
    assert place.convert("many", target)["target"] == target
    assert parts.PASSWORD not in place.node.journal()


def test_within_a_registry_that_wants_tokens_layers_are_taken_over_and_no_secret_is_told(place: Place) -> None:
    node = place.node
    registry, tokens = token_registry.start(node, password=secrets.token_hex(16))
    source, target = f"{registry.host}/plain-layers:1", f"{registry.host}/behind-tokens:1"
    refused = place.run(source, target)
    assert (refused.returncode, "NNA1205" in refused.stderr) == (1, True), refused.stderr
    scene.docker_login(node, registry)
    done = place.run(source, target, "--reference")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["sent"]["mounted"] == 2
    asked = [
        json.loads(line)["scopes"]
        for line in node.journal(tokens.name, output="cat").splitlines()
        if '"scopes"' in line
    ]
    assert ["repository:behind-tokens:pull,push", "repository:plain-layers:pull"] in asked, asked
    whole = done.stdout + done.stderr + refused.stderr + node.journal()
    basic = base64.b64encode(f"{registry.user}:{registry.password}".encode()).decode()
    for secret in (registry.password, basic, *node.read(token_registry.ISSUED).split()):
        assert secret not in whole
