"""A node without a single nydus program, from `apt install` alone to running containers, upgrades, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.artifacts.lock import ArtifactName
from tests.node import images, parts, releases_host, scene, upstream
from tests.node.boot import Node
from tests.node.test_safety import NO_CHANGE

pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: (mirror \w+ -> |BothBad: |Drift: |ChangedSinceProof: )",
    r"^init.scope: nydus-snapshotter.service: (Found left-over process|This usually indicates unclean)",
    r"ERROR this build does not work here",
)

STORE = "/var/lib/nydus-agent/artifacts"
LOCK = "/etc/nydus-agent/artifacts.lock.toml"
NYDUS, SNAPSHOTTER = ArtifactName.NYDUS, ArtifactName.SNAPSHOTTER
PINNED = f"""\
[artifacts]
nydus = "2.2.0"
snapshotter = "0.16.1"
base_url = "{releases_host.URL}"
"""
CURRENT = PINNED.replace('"2.2.0"', '"current"').replace('"0.16.1"', '"current"')


def current(node: Node) -> str:
    return Path(node.run(["readlink", f"{STORE}/current"]).stdout.strip()).name


def sets(node: Node) -> dict[str, dict[str, str]]:
    """Id -> {artifact: version} of what is in the store."""
    listed = scene.agent_json(node, "artifacts", "list")["sets"]
    return {one["id"]: {each["name"]: each["version"] for each in one["artifacts"]} for one in listed}


def rendered(node: Node) -> str:
    return node.read("/etc/nydus/snapshotter.toml") + node.read("/etc/systemd/system/nydus-snapshotter.service")


def running_nydusd(node: Node) -> set[str]:
    """Programs of the nydusd processes, by their links in /proc."""
    script = "for one in $(pgrep --full '[n]ydusd.* fuse ' || true); do readlink /proc/$one/exe; done"
    return set(node.run(script).stdout.split())


def empty_node() -> Node:
    return Node(nydus=False, snapshotter="none")


def set_the_scene(node: Node) -> parts.Registry:
    """Registry, mirror and images; no nydus program in PATH."""
    registry = parts.start_registry(node)
    parts.start_mirror(node)
    for name in ("reader-nydus", "python-nydus"):
        images.push(node, name, f"{registry.host}/{name}:1")
    images.load_pause(node)
    assert node.run("command -v nydusd nydus-image containerd-nydus-grpc || true").stdout == ""
    return registry


class Place:
    """A node that `apt install` alone has set up, with programs that the installation's own change has fetched."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.registry = set_the_scene(node)
        server = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", releases_host.PLACE]
        first = (
            releases_host.publish(node, NYDUS, "v2.2.0", releases_host.nydus(node)),
            releases_host.publish(node, SNAPSHOTTER, "v0.16.1", releases_host.snapshotter()),
        )
        parts.start_unit(node, "releases", [*server, str(releases_host.PORT)], port=releases_host.PORT)
        node.write(LOCK, upstream.lock_of(*first, serial=2026010101))
        self.install_s = scene.install(node, scene.HTTP_SITE + PINNED, deadline_s=120)

    def ref(self, name: str) -> str:
        return f"{self.registry.host}/{name}:1"

    def site(self, text: str) -> None:
        self.node.write("/etc/nydus-agent/conf.d/50-site.toml", scene.HTTP_SITE + text)

    def apply(self, code: int = 0) -> str:
        done = scene.agent(self.node, "apply", "--now", check=False)
        assert done.returncode in ({0, 3} if code == 0 else {code}), done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with empty_node() as node:
        yield Place(node)


@pytest.fixture(scope="module")
def reader(place: Place) -> Iterator[scene.Reader]:
    """It reads through everything that these tests do."""
    scene.pull(place.node, place.ref("reader-nydus"))
    with scene.Reader(place.node, place.ref("reader-nydus")) as made:
        made.wait_for(5)
        yield made
        assert made.errors() == []


def test_apt_install_alone_brings_the_programs_from_a_mirror_and_a_container_runs(
    place: Place, reader: scene.Reader
) -> None:
    node = place.node
    (one,) = sets(node)
    print(f"from apt install to the end of the change: {place.install_s:.1f} s")
    assert current(node) == one, "an accepted change makes its set current"
    assert rendered(node).count(f"{STORE}/{one}/") == 3
    which = scene.agent(node, "artifacts", "which", "nydusd").stdout.strip()
    assert which == f"{STORE}/{one}/nydusd"
    assert scene.agent(node, "artifacts", "verify").returncode == 0
    assert scene.start_nydus(node, place.ref("python-nydus")).output == "hello from python\n"
    assert node.run(["find", STORE, "-perm", "/022", "!", "-type", "l"]).stdout == ""
    reader.wait_for(5)


def test_installing_again_fetches_nothing_and_is_quick(place: Place) -> None:
    node = place.node
    answer = scene.agent_json(node, "artifacts", "install")
    assert answer["fetched"] is False
    script = "import subprocess, sys, time; b = time.perf_counter(); subprocess.run(sys.argv[1:], check=True, "
    script += "stdout=subprocess.DEVNULL); print(time.perf_counter() - b)"
    times = {}
    for name, argv in (("install", ["nydus-agent", "artifacts", "install"]), ("start", ["python3", "-I", "-c", ""])):
        taken = sorted(float(node.run(["python3", "-I", "-c", script, *argv]).stdout) for _ in range(5))
        times[name] = taken[2]
    print(f"artifacts install, nothing to do: {times['install'] * 1000:.0f} ms, python: {times['start'] * 1000:.0f} ms")


def test_an_upgrade_restarts_the_snapshotter_alone_and_running_containers_read_on(
    place: Place, reader: scene.Reader
) -> None:
    """Pinned anew from the release's own files, installed, and only then applied."""
    node = place.node
    before, old = rendered(node), current(node)
    pids = {unit: node.main_pid(unit) for unit in ("containerd", "nydus-snapshotter")}
    releases_host.publish(node, NYDUS, "v2.2.1", releases_host.nydus(node, b"\0"))
    words = ("--nydus", "2.2.1", "--snapshotter", "0.16.1", "--from", releases_host.URL)
    made = scene.agent_json(node, "artifacts", "lock", *words)
    assert made["serial"] > 2026010101
    place.site(CURRENT)
    scene.agent(node, "artifacts", "install")
    new = current(node)
    assert sets(node)[new] == {"nydus": "v2.2.1", "nydus-snapshotter": "v0.16.1"}
    assert (rendered(node), node.main_pid("nydus-snapshotter")) == (before, pids["nydus-snapshotter"])
    assert "snapshotter.toml" in scene.agent(node, "plan").stdout
    place.apply()
    assert node.main_pid("nydus-snapshotter") != pids["nydus-snapshotter"]
    assert node.main_pid("containerd") == pids["containerd"]
    assert f"{STORE}/{new}/nydusd" in rendered(node)
    assert f"{STORE}/{old}/containerd-nydus-grpc" in rendered(node), "its bytes are the same, so its path is"
    reader.wait_for(10)
    assert scene.start_nydus(node, place.ref("python-nydus")).output == "hello from python\n"


def test_a_set_with_the_same_bytes_in_use_restarts_nothing(place: Place, reader: scene.Reader) -> None:
    node = place.node
    programs = {**releases_host.nydus(node, b"\0"), "nydusctl": releases_host.nydus(node)["nydusctl"] + b"other"}
    artifact = releases_host.publish(node, NYDUS, "v2.2.1", programs)  # upstream has built that version again
    kept = releases_host.publish(node, SNAPSHOTTER, "v0.16.1", releases_host.snapshotter())
    node.write(LOCK, upstream.lock_of(artifact, kept, serial=2099010101))
    before, was, old = rendered(node), node.main_pid("nydus-snapshotter"), current(node)
    scene.agent(node, "artifacts", "install")
    assert current(node) != old
    place.apply()
    assert (rendered(node), node.main_pid("nydus-snapshotter")) == (before, was)
    reader.wait_for(5)


def test_a_lock_that_is_played_back_is_refused(place: Place) -> None:
    node = place.node
    newest = node.read(LOCK)
    was = current(node)
    node.write(LOCK, newest.replace("2099010101", "2026010101"))
    done = scene.agent(node, "artifacts", "install", check=False)
    assert (done.returncode, "NNA1105" in done.stderr) == (2, True)
    assert current(node) == was
    node.write(LOCK, newest)


def test_rollback_and_apply_go_back_to_the_programs_before(place: Place, reader: scene.Reader) -> None:
    node = place.node
    now = current(node)
    before = scene.agent_json(node, "artifacts", "rollback")["set"]["id"]
    assert current(node) == before != now
    place.apply()
    assert f"{STORE}/{before}/nydusd" in rendered(node)
    reader.wait_for(5)


def test_a_set_whose_nydusd_does_not_work_is_taken_back_and_so_is_current(
    place: Place, reader: scene.Reader, tmp_path: Path
) -> None:
    node = place.node
    before, old = rendered(node), current(node)
    programs = {**releases_host.nydus(node), "nydusd": releases_host.broken(tmp_path)}
    artifact = releases_host.publish(node, NYDUS, "v2.2.3", programs)
    kept = releases_host.publish(node, SNAPSHOTTER, "v0.16.1", releases_host.snapshotter())
    node.write(LOCK, upstream.lock_of(artifact, kept, serial=2099010102))
    scene.agent(node, "artifacts", "install")
    assert current(node) != old
    told = place.apply(1)
    assert "NNA0737" in told
    assert "the node is as it was before" in told
    assert (rendered(node), current(node)) == (before, old)
    assert scene.agent(node, "apply").returncode == 0, "nothing to do: what failed is not tried again by itself"
    reader.wait_for(10)
    assert scene.start_nydus(node, place.ref("python-nydus")).output == "hello from python\n"


def test_a_link_that_was_replaced_under_us_is_named_with_its_command_and_mended(
    place: Place, reader: scene.Reader
) -> None:
    """As the snapshotter does it at a hot upgrade (since 0.15.3)."""
    node = place.node
    one = scene.agent(node, "artifacts", "which", "nydusd").stdout.strip()
    set_id = one.split("/")[-2]
    node.run(["ln", "--symbolic", "--force", "--no-dereference", "/bin/true", one])
    doctor = scene.agent(node, "doctor", check=False).stdout
    assert f"program-replaced: {one} does not lead to the nydusd any more" in doctor
    assert f"sudo nydus-agent artifacts verify {set_id[:12]}" in doctor
    told = scene.agent(node, "artifacts", "verify", set_id[:12], check=False)
    assert told.returncode == 3
    assert "to mend" in told.stdout
    command = told.stdout.split("to mend")[1].split(": ", 1)[1].split()
    # The lock has moved on; going back to that release is meant.
    held = [(NYDUS, sets(node)[set_id]["nydus"]), (SNAPSHOTTER, sets(node)[set_id]["nydus-snapshotter"])]
    artifacts = [
        releases_host.publish(
            node, name, version,
            releases_host.snapshotter() if name is SNAPSHOTTER else _bytes_of(node, version),
        )
        for name, version in held
    ]  # fmt: skip
    node.write(LOCK, upstream.lock_of(*artifacts, serial=2099010103))
    node.run(["systemctl", "stop", "test-releases.service"])
    node.run(command)  # no network is needed: the programs themselves are whole
    assert scene.agent(node, "artifacts", "verify", set_id[:12]).returncode == 0
    reader.wait_for(5)


def _bytes_of(node: Node, version: str) -> dict[str, bytes]:
    build = {"v2.2.0": b"", "v2.2.1": b"\0"}[version]
    return releases_host.nydus(node, build)


def test_prune_leaves_what_runs_and_what_can_be_gone_back_to(place: Place, reader: scene.Reader) -> None:
    node = place.node
    before = set(sets(node))
    answer = scene.agent_json(node, "artifacts", "prune", "--keep", "0")
    gone = {one["id"] for one in answer["removed"]}
    assert gone < before
    running = {Path(program).parts[-3] for program in running_nydusd(node) if program.startswith(STORE)}
    assert not running & gone
    assert not {one for one in gone if one in rendered(node)}
    reader.wait_for(5)


def test_purge_leaves_nothing_of_it(place: Place, reader: scene.Reader) -> None:
    node = place.node
    reader.stop()
    removed = node.apt("remove", "nydus-node-agent").stdout
    assert f"stays: {STORE}" in removed
    node.apt("purge", "nydus-node-agent")
    left = "find / /var/lib -xdev \\( -name '*nydus-agent*' -o -name 'nydus-snapshotter.service' \\)"
    kept = [line for line in node.run(left).stdout.splitlines() if not line.startswith(("/var/log/", "/var/tmp/"))]
    assert kept == []
    assert running_nydusd(node) == set()


def test_a_node_without_a_network_is_set_up_from_a_bundle(tmp_path: Path) -> None:
    """Nothing but files: archives and their lock in one, made on a node that has them, and no lock on this one."""
    with empty_node() as node:
        registry = set_the_scene(node)
        artifacts = (
            releases_host.publish(node, NYDUS, "v2.2.0", releases_host.nydus(node)),
            releases_host.publish(node, SNAPSHOTTER, "v0.16.1", releases_host.snapshotter()),
        )
        node.write("/root/my.lock.toml", upstream.lock_of(*artifacts, serial=2026010101))
        scene.install_only(node, NO_CHANGE + CURRENT)
        refused = scene.agent(node, "apply", check=False)
        assert (refused.returncode, "NNA0207" in refused.stderr) == (2, True)
        words = ("--lock", "/root/my.lock.toml", "--from", releases_host.PLACE, "-o", "/root/bundle.tar")
        scene.agent(node, "artifacts", "bundle", *words)
        node.run(["rm", "-r", releases_host.PLACE, "/root/my.lock.toml"])
        told = scene.agent(node, "artifacts", "install", "--from", "/root/bundle.tar")
        assert "nydus v2.2.0, nydus-snapshotter v0.16.1: installed in" in told.stdout
        print(json.dumps(scene.agent_json(node, "artifacts", "list")["sets"][0]["bytes"]))
        done = scene.agent(node, "apply", check=False)
        assert done.returncode in (0, 3), done.stdout + done.stderr
        assert scene.start_nydus(node, f"{registry.host}/python-nydus:1").output == "hello from python\n"
