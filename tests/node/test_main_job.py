"""The main job on real parts: one `apt install`, and images start lazily through the mirror, and it is
proved.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node import images, parts, scene


@pytest.fixture(scope="module")
def stage() -> Iterator[scene.Stage]:
    with scene.staged("python", "python-nydus", "reader-nydus") as made:
        yield made


def test_apt_install_alone_configures_and_proves_the_node(stage: scene.Stage) -> None:
    proof = scene.agent_json(stage.node, "doctor")
    states = {check["number"]: check["state"] for check in proof["checks"]}
    assert list(states) == list(range(1, 11))
    unproved = {number for number, state in states.items() if state == "not-proved"}
    assert unproved == {8, 10}, "no nydus image runs on the node yet: what it would show is never called ok"
    assert {state for number, state in states.items() if number not in unproved} == {"ok"}, proof


def test_a_nydus_image_starts_sooner_than_plain_and_fetches_a_third_at_most(stage: scene.Stage) -> None:
    plain = scene.start_plain(stage.node, stage.ref("python"))
    before = stage.mirror.stats()["blob_bytes"]
    lazy = scene.start_nydus(stage.node, stage.ref("python-nydus"))
    fetched, size = scene.nydusd_bytes(stage.node), images.image("python-nydus").size
    through = stage.mirror.stats()["blob_bytes"] - before - scene.bootstrap_size("python-nydus")
    print(f"first output {lazy.first_output_s:.2f} s, plain {plain.first_output_s:.2f} s")
    print(f"nydusd fetched {fetched} of {size} bytes ({fetched / size:.0%}), {through} through the mirror")
    assert lazy.output == plain.output == "hello from python\n"
    assert lazy.first_output_s < plain.first_output_s
    assert fetched < 0.35 * size
    assert through >= 0.9 * fetched


def test_all_checks_are_proved_once_a_nydus_image_is_there(stage: scene.Stage) -> None:
    proof = scene.agent_json(stage.node, "doctor")
    assert {check["state"] for check in proof["checks"]} == {"ok"}, proof


def test_a_pod_runs_from_the_nydus_image(stage: scene.Stage) -> None:
    said = scene.pod(stage.node, stage.ref("python-nydus"), ["python3", "-c", "print('a pod')"])
    assert "a pod" in said


def test_status_answers_without_root_and_its_first_line_says_where_reads_go(stage: scene.Stage) -> None:
    done = stage.node.run(["nydus-agent", "status"], user="nobody", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mirror" in done.stdout.splitlines()[0]


def test_a_second_apply_writes_nothing_and_restarts_nothing(stage: scene.Stage) -> None:
    before = picture(stage)
    result = scene.agent_json(stage.node, "apply")
    assert result["changed"] is False
    assert picture(stage) == before


def test_plan_is_empty_and_says_so_by_its_exit_code(stage: scene.Stage) -> None:
    assert scene.agent(stage.node, "plan", "--exit-code").returncode == 0


def picture(stage: scene.Stage) -> str:
    """Inode and mtime of every file that may be ours, PIDs of containerd and the snapshotter."""
    return stage.node.run(
        "find /etc/nydus /etc/containerd /etc/nydus-agent /var/lib/nydus-agent /etc/systemd/system -type f "
        "! -name lock ! -name proof.json -printf '%p %i %T@\\n' | sort; "
        "systemctl show --property=MainPID containerd.service nydus-snapshotter.service"
    ).stdout


@pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |BothBad: )")
def test_after_a_reboot_all_checks_are_proved_again_without_anybody(stage: scene.Stage) -> None:
    """The last one: the servers around the node do not come back by themselves."""
    node = stage.node
    node.reboot()
    parts.start_registry(node)
    parts.start_mirror(node)
    scene.wait_for_route(node, "mirror", 60)
    units = node.run(["systemctl", "is-active", "nydus-snapshotter", "containerd"]).stdout.split()
    assert units == ["active"] * 2
    assert scene.start_nydus(node, stage.ref("python-nydus")).output == "hello from python\n"
    proof = scene.agent_json(node, "doctor")
    assert {check["state"] for check in proof["checks"]} == {"ok"}, proof
    assert node.failed_units() == []
