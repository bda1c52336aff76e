"""What `doctor` says of registries: who refuses this node, with what, and what to do; and never the
secret.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from agent import paths
from agent.commands import doctor
from agent.commands.context import Context
from agent.config.model import RegistryHost
from agent.console import Console, Format
from agent.documents.status import CheckState
from agent.errors import Exit
from agent.ports import ImageRecord
from agent.proof import registry_access
from agent.proof.registry_access import Access
from agent.registry.names import ROOTS_DOCKER
from tests.unit.proved_node import ProvedNode, proved
from tests.unit.small_registries import AUTH, SECRET, USER, SmallRegistries
from tests.unit.test_schema import complaints

HOST = "private.example:5000"
IMAGE = f"{HOST}/team/app:1"


@pytest.fixture
def node() -> ProvedNode:
    """Its configuration names HOST, and an image of it is there."""
    made = proved()
    registries = replace(made.config.registries, hosts=(RegistryHost(HOST),))
    made.config = replace(made.config, registries=registries)
    made.node.containerd.namespace_images["k8s.io"] = [
        image(IMAGE),
        image("registry.k8s.io/pause:3.8"),
        image("sha256:ab"),
    ]
    return made


def image(name: str) -> ImageRecord:
    return ImageRecord(name, "sha256:" + "a" * 64, "application/vnd.oci.image.manifest.v1+json", {})


def write(node: ProvedNode, document: object, mode: int = 0o600) -> None:
    node.node.files.put(ROOTS_DOCKER, json.dumps(document).encode(), mode=mode)


def looked(node: ProvedNode, registries: SmallRegistries, snapshotter: str = "0.16.1") -> dict[str, Access]:
    found = registry_access.ask_registries(node.config, node.node.ports, registries.ports, snapshotter)
    assert not [text for text in (SECRET, AUTH) if text in repr(found)]
    return {one.name: one for one in found}


def test_a_registry_that_everyone_may_read_needs_nothing(node: ProvedNode) -> None:
    registries = SmallRegistries(node.node.files)
    one = looked(node, registries)[HOST]
    assert (one.state, one.detail) == (CheckState.OK, f"lets everyone read {HOST}/team/app")
    assert (HOST, "/v2/team/app/manifests/nydus-agent-asks-who-it-is") in registries.asked
    assert {host for host, _path in registries.asked} == {HOST, "plain.example:5000"}, (
        "not that of the sandbox image"
    )


def test_a_401_names_every_source_that_was_tried_and_what_to_do(node: ProvedNode) -> None:
    registries = SmallRegistries(node.node.files, HOST)
    one = looked(node, registries)[HOST]
    assert (one.state, one.code) == (CheckState.FAILED, "NNA1205")
    assert one.evidence == (f"{ROOTS_DOCKER}: there is no such file",)
    assert f"docker login {HOST}" in one.try_
    write(node, {"auths": {"other.example": {"auth": AUTH}}})
    assert looked(node, registries)[HOST].evidence == (f"{ROOTS_DOCKER}: no entry for {HOST}",)


def test_a_credential_that_is_right_is_named_by_its_source(node: ProvedNode) -> None:
    write(node, {"auths": {HOST: {"auth": AUTH}}})
    one = looked(node, SmallRegistries(node.node.files, HOST))[HOST]
    assert (one.state, one.detail) == (
        CheckState.OK, f'lets us read {HOST}/team/app with {ROOTS_DOCKER}, auths."{HOST}"',
    )  # fmt: skip


@pytest.mark.parametrize("status", [401, 403])
def test_a_credential_that_is_wrong_is_told_with_its_source(node: ProvedNode, status: int) -> None:
    write(node, {"auths": {HOST: {"username": "puller", "password": f"{SECRET}-old"}}})
    one = looked(node, SmallRegistries(node.node.files, HOST))[HOST]
    assert (one.state, one.code) == (CheckState.FAILED, "NNA1205")
    assert one.evidence == (f'{ROOTS_DOCKER}, auths."{HOST}"',)
    registries = SmallRegistries(node.node.files)
    registries.answers[HOST] = status
    assert looked(node, registries)[HOST].state is CheckState.FAILED


def test_a_file_that_cannot_be_used_is_the_reason_with_all_that_is_wrong_in_it(node: ProvedNode) -> None:
    write(node, {"auths": {HOST: {"auth": AUTH}}, "credsStore": f"/{SECRET}"}, mode=0o644)
    one = looked(node, SmallRegistries(node.node.files, HOST))[HOST]
    assert (one.state, one.code) == (CheckState.FAILED, "NNA1201")
    assert len(one.evidence) == 2
    assert "chmod 600" in one.evidence[0]


def test_a_helper_that_fails_is_the_reason(node: ProvedNode) -> None:
    write(node, {"credHelpers": {HOST: "vault"}})
    registries = SmallRegistries(node.node.files, HOST)
    registries.processes.on("docker-credential-vault", code=1, stdout=f"panic {SECRET}")
    one = looked(node, registries)[HOST]
    assert (one.state, one.code) == (CheckState.FAILED, "NNA1203")


def test_a_helper_runs_once_for_a_registry_that_has_one_name(node: ProvedNode) -> None:
    write(node, {"credHelpers": {HOST: "vault"}})
    registries = SmallRegistries(node.node.files, HOST)
    registries.processes.on(
        "docker-credential-vault", stdout=json.dumps({"Username": USER, "Secret": SECRET})
    )
    assert looked(node, registries)[HOST].state is CheckState.OK
    assert registries.processes.ran == [("docker-credential-vault", "get")]


def test_a_registry_that_is_down_is_not_called_a_refusal(node: ProvedNode) -> None:
    registries = SmallRegistries(node.node.files, HOST)
    registries.down(HOST)
    assert looked(node, registries)[HOST].state is CheckState.UNKNOWN
    registries.answers[HOST] = 503
    assert looked(node, registries)[HOST].state is CheckState.UNKNOWN


@pytest.mark.parametrize(
    ("key", "snapshotter", "state"),
    [
        ("https://index.docker.io/v1/", "0.13.4", CheckState.OK),
        ("https://index.docker.io/v1/", "v0.15.11", CheckState.OK),
        ("https://index.docker.io/v1/", "v0.16.1", CheckState.FAILED),
        ("docker.io", "v0.16.1", CheckState.OK),
        ("docker.io", "0.13.4", CheckState.FAILED),
        ("docker.io", "unknown", CheckState.OK),
        ("docker.io", "0a1b2c3d", CheckState.OK),  # a build that names its commit alone
    ],
)
def test_docker_hubs_credential_must_have_the_name_that_this_snapshotter_looks_for(
    node: ProvedNode, key: str, snapshotter: str, state: CheckState
) -> None:
    node.node.containerd.namespace_images["k8s.io"] = [image("docker.io/team/app:1")]
    write(node, {"auths": {key: {"auth": AUTH}}})
    one = looked(node, SmallRegistries(node.node.files, "docker.io"), snapshotter)["docker.io"]
    assert one.state is state, one
    assert (one.code == "NNA1206") is (state is CheckState.FAILED)


def test_an_identity_token_is_known_not_to_reach_nydusd(node: ProvedNode) -> None:
    write(node, {"auths": {HOST: {"identitytoken": SECRET}}})
    registries = SmallRegistries(node.node.files, HOST)
    one = looked(node, registries)[HOST]
    assert (one.state, one.code) == (CheckState.FAILED, "NNA1205"), (
        "basic alone is offered, and a token is no password"
    )


@pytest.mark.parametrize(
    ("credentials", "value", "told"),
    [
        ("", "", False), ("", "/root/.docker", False), ("", "/elsewhere", True),
        ("/etc/x/config.json", "/etc/x", False), ("/etc/x/config.json", "/etc/x/", False),
        ("/etc/x/config.json", "", True), ("pull", "/etc/x", True),
        ("pull", "/run/credentials/nydus-snapshotter.service", False),
    ],
)  # fmt: skip
def test_a_snapshotter_that_looks_elsewhere_is_told(
    node: ProvedNode, credentials: str, value: str, *, told: bool
) -> None:
    registries = replace(node.config.registries, credentials=credentials)
    units = node.node.units
    unit = units.get(paths.SNAPSHOTTER_UNIT)
    assert unit is not None
    environment = (*unit.environment, *([f"DOCKER_CONFIG={value}"] if value else []))
    units.units[paths.SNAPSHOTTER_UNIT] = replace(unit, environment=environment)
    found = registry_access.cautions(replace(node.config, registries=registries), node.node.ports)
    assert bool(found) is told


@pytest.mark.parametrize(
    ("line", "environment", "told"),
    [
        ("71 /usr/bin/dfdaemon --config /etc/dragonfly/dfdaemon.yaml", b"", True),
        ("71 dfdaemon --log-level info", b"", True), ("71 dfdaemon --log-level=DEBUG --console", b"", True),
        ("71 dfdaemon --log-level warn", b"", False), ("71 dfdaemon -l error", b"", False), ("", b"", False),
        ("71 dfdaemon --console", b"HOME=/root\0DFDAEMON_LOG_LEVEL=warn\0", False),
    ],
)  # fmt: skip
def test_a_mirror_that_writes_credentials_into_its_log_is_told_where_there_are_any(
    node: ProvedNode, line: str, environment: bytes, *, told: bool
) -> None:
    node.node.processes.on("pgrep", code=0 if line else 1, stdout=f"{line}\n" if line else "")
    if environment:
        node.node.files.put("/proc/71/environ", environment)
    for private in (True, False):
        registries = SmallRegistries(node.node.files, *((HOST,) if private else ()))
        found = tuple(looked(node, registries).values())
        assert bool(registry_access.overheard(node.node.ports, found)) is (told and private)


def test_a_refusal_is_in_doctors_answer_and_its_exit_code(node: ProvedNode) -> None:
    registries = SmallRegistries(node.node.files, HOST)
    answer = ""
    for form in (Format.TEXT, Format.JSON):
        out, err = io.StringIO(), io.StringIO()
        context = Context(Console(out, err, form), uid=0)
        assert doctor.examine(context, node.config, node.node.ports, registries.ports) is Exit.NOT_AS_WANTED
        answer = out.getvalue()
        assert "NNA1205" in answer
        assert f"{ROOTS_DOCKER}: there is no such file" in answer
        assert f"docker login {HOST}" in answer
    found = {one["registry"]: (one["state"], one["code"]) for one in json.loads(answer)["registries"]}
    assert found[HOST] == ("failed", "NNA1205")
    assert complaints(json.loads(answer)) == []
