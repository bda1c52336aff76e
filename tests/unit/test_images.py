"""Images that are on a node when it gets another snapshotter: pods must start afterwards as they did
before.
"""

from __future__ import annotations

import json

import pytest

from agent import paths
from agent.apply.execute import unpack_image
from agent.config.model import Config, ContainerdConfig, ContainerdMode
from agent.errors import ApplyError
from agent.facts.node import Facts, Unknown
from agent.node.images import full_name
from agent.node.observe import observe
from agent.plan.diff import plan
from agent.ports import Finished, ImageRecord
from agent.steps import AwaitContainerd, Plan, UnpackImage
from tests.fakes.node import FakeNode
from tests.unit.plan_node import carry_out, node

PAUSE = "registry.k8s.io/pause:3.8"
DEFAULT = Config()
RUNTIME_CLASS = Config(containerd=ContainerdConfig(mode=ContainerdMode.RUNTIME_CLASS))
PLUGIN_ONLY = Config(containerd=ContainerdConfig(mode=ContainerdMode.PLUGIN_ONLY))


def a_node(*, sandbox: str = PAUSE) -> FakeNode:
    made = node()
    made.containerd.status["config"] = json.dumps({"sandboxImage": sandbox})
    return made


def look(made: FakeNode) -> Facts:
    return observe(DEFAULT, made.ports, look_at_images=True)


def unpacks(made: Plan) -> list[UnpackImage]:
    return [step for step in made.steps if isinstance(step, UnpackImage)]


def let_ctr_unpack(made: FakeNode, record: ImageRecord) -> None:
    def act(argv: tuple[str, ...], _stdin: bytes) -> Finished:
        assert argv[-4:] == ("unpack", "--snapshotter", paths.PROXY_PLUGIN, record.digest)
        made.containerd.unpack(record, paths.PROXY_PLUGIN)
        return Finished(argv, 0, "unpacking", "")

    made.processes.act("ctr", "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io", by=act)


def test_the_sandbox_image_is_unpacked_once_the_new_containerd_answers_and_not_again() -> None:
    made = a_node()
    let_ctr_unpack(made, made.containerd.put_image(PAUSE, layers=(b"one", b"two")))
    first = plan(DEFAULT, look(made))
    (step,) = unpacks(first)
    assert (step.name, step.runtime, step.complete) == (PAUSE, "", True)
    assert isinstance(first.steps[first.steps.index(step) - 1], AwaitContainerd)
    carry_out(made, first)
    unpack_image(made.ports, step)
    assert plan(DEFAULT, look(made)).empty
    assert made.containerd.pulled == []


@pytest.mark.parametrize("configured", ["pause:3.9", "library/pause:3.9", "docker.io/library/pause:3.9"])
def test_the_sandbox_image_is_found_by_whatever_name_the_operator_gave_it(configured: str) -> None:
    made = a_node(sandbox=configured)
    made.containerd.put_image("docker.io/library/pause:3.9")
    assert [step.name for step in unpacks(plan(DEFAULT, look(made)))] == ["docker.io/library/pause:3.9"]


def test_names_are_spelled_out_as_containerd_keeps_them() -> None:
    assert full_name("localhost/kubernetes/pause") == "localhost/kubernetes/pause:latest"
    assert full_name("127.0.0.1:5000/pause@sha256:1") == "127.0.0.1:5000/pause@sha256:1"
    assert full_name("kind/pause") == "docker.io/kind/pause:latest"


def test_containerd_2_marks_the_sandbox_image_itself() -> None:
    made = node()
    made.containerd.put_image("registry.example/copy-of-pause:1")
    made.containerd.put_image("registry.k8s.io/pause:3.10", pinned=True)
    made.containerd.put_image("registry.example/app:1", layers=(b"app",))
    assert [step.name for step in unpacks(plan(DEFAULT, look(made)))] == ["registry.k8s.io/pause:3.10"]


def test_a_sandbox_image_of_several_platforms_is_judged_by_the_one_that_was_pulled() -> None:
    made = a_node()
    record = made.containerd.put_image(PAUSE)
    index = {"manifests": [{"digest": "sha256:of-another-platform"}, {"digest": record.digest}]}
    made.containerd.blobs["k8s.io", "sha256:index"] = json.dumps(index).encode()
    made.containerd.namespace_images["k8s.io"] = [ImageRecord(PAUSE, "sha256:index", "", {})]
    first = plan(DEFAULT, look(made))
    (step,) = unpacks(first)
    assert (step.digest, step.complete) == ("sha256:index", True)
    carry_out(made, first)
    made.containerd.unpack(record, paths.PROXY_PLUGIN)
    assert unpacks(plan(DEFAULT, look(made))) == []


def test_an_image_that_is_not_on_the_node_is_left_to_the_kubelet() -> None:
    assert unpacks(plan(DEFAULT, look(a_node()))) == []


def test_nothing_is_unpacked_where_no_pod_will_use_the_snapshotter() -> None:
    made = a_node()
    made.containerd.put_image(PAUSE)
    made.containerd.put_image("registry.example/app:1", discarded=True)
    without = plan(PLUGIN_ONLY, look(made))
    assert unpacks(without) == []
    assert not any("discarded" in warning for warning in without.warnings)


def test_a_sandbox_image_whose_layers_were_discarded_is_pulled_again_for_those_who_use_it() -> None:
    for config, runtime in ((DEFAULT, ""), (RUNTIME_CLASS, "nydus")):
        made = a_node()
        made.containerd.put_image(PAUSE, discarded=True)
        made.containerd.registry.add(PAUSE)
        (step,) = unpacks(plan(config, look(made)))
        unpack_image(made.ports, step)
        assert made.containerd.pulled == [(PAUSE, runtime)]
        assert not any(argv[0] == "ctr" for argv in made.processes.ran)


def test_where_ctr_cannot_unpack_it_is_pulled() -> None:
    made = a_node()
    made.containerd.put_image(PAUSE)
    made.containerd.registry.add(PAUSE)
    (step,) = unpacks(plan(DEFAULT, look(made)))
    unpack_image(made.ports, step)  # there is no ctr on this node
    assert made.containerd.pulled == [(PAUSE, "")]


def test_a_change_after_which_no_pod_could_start_fails_with_both_causes() -> None:
    made = a_node()
    made.containerd.put_image(PAUSE)
    made.processes.on("ctr", code=1, stderr="ctr: failed to extract layer\n")
    (step,) = unpacks(plan(DEFAULT, look(made)))
    with pytest.raises(ApplyError) as caught:
        unpack_image(made.ports, step)
    assert caught.value.code == "NNA0419"
    assert "failed to extract layer" in caught.value.cause
    assert "failed to resolve" in caught.value.cause


def test_images_that_cannot_start_any_more_are_counted_before_the_change() -> None:
    made = a_node()
    for number in range(4):
        made.containerd.put_image(
            f"registry.example/app:{number}", layers=(f"{number}".encode(),), discarded=True
        )
    made.containerd.put_image("registry.example/kept:1", layers=(b"kept",))
    (warning,) = [text for text in plan(DEFAULT, look(made)).warnings if "discarded" in text]
    assert warning.startswith("4 images (registry.example/app:0, ")
    assert "kept" not in warning


def test_images_that_the_snapshotter_has_already_are_not_counted() -> None:
    made = a_node()
    record = made.containerd.put_image("registry.example/app:1", discarded=True)
    carry_out(made, plan(DEFAULT, look(made)))
    made.containerd.unpack(record, paths.PROXY_PLUGIN)
    assert not any("discarded" in text for text in plan(DEFAULT, look(made)).warnings)


def test_the_blob_of_a_nydus_image_is_not_missed() -> None:
    made = a_node()
    record = made.containerd.put_image("registry.example/lazy:1", layers=(b"blob", b"bootstrap"))
    manifest = json.loads(made.containerd.blobs["k8s.io", record.digest])
    manifest["layers"][0]["annotations"] = {"containerd.io/snapshot/nydus-blob": "true"}
    made.containerd.blobs["k8s.io", record.digest] = json.dumps(manifest).encode()
    del made.containerd.blobs["k8s.io", manifest["layers"][0]["digest"]]
    assert look(made).images == ()


def test_a_containerd_that_does_not_answer_leaves_the_images_unknown_and_the_plan_without_them() -> None:
    made = a_node()
    made.containerd.put_image(PAUSE)
    made.containerd.up = False
    facts = look(made)
    assert isinstance(facts.images, Unknown)
    assert unpacks(plan(DEFAULT, facts)) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 100 levels"),
        (b'{"layers":' * 2_000 + b"1" + b"}" * 2_000, "nested deeper than 100 levels"),
        (b"<html>", "Expecting value"),
        (b"[]", "is no JSON object"),
    ],
    ids=["deep", "deep-objects", "no-json", "no-object"],
)
def test_an_image_that_cannot_be_read_is_named_and_keeps_nobody_from_a_plan(
    content: bytes, reason: str
) -> None:
    made = a_node()
    let_ctr_unpack(made, made.containerd.put_image(PAUSE, layers=(b"one",)))
    bad = made.containerd.put_image("registry.example.org/evil:1", layers=(b"two",))
    made.containerd.blobs[("k8s.io", bad.digest)] = content
    found = plan(DEFAULT, look(made))
    assert [step.name for step in unpacks(found)] == [PAUSE]
    (warning,) = [text for text in found.warnings if "evil" in text]
    assert reason in warning
    assert "crictl rmi registry.example.org/evil:1" in warning
