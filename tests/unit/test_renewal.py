"""Credentials that expire: what is rendered where the programs can renew them, and what is told where they
cannot.
"""

from __future__ import annotations

import base64
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from agent import paths
from agent.config.model import Config, Dialect, RegistriesConfig
from agent.facts.node import Facts
from agent.plan import diff, mounts
from agent.registry import docker_config
from tests.fakes.http import answer
from tests.fakes.node import FakeNode
from tests.unit.plan_node import PLAIN, carry_out, config, look, node, verbs, writes
from tests.unit.proved_node import CONFIG, ProvedNode
from tests.unit.published import Answer, PublishedNode

DOCKER = "/root/.docker/config.json"
PASSWORD = "s3cr3t-of-some-hours"
ABLE = {"snapshotter": "0.16.1", "nydusd": "v2.4.4"}
HELPER = {"credHelpers": {"1.dkr.ecr.eu.amazonaws.com": "ecr-login"}}


def entry(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()}


def with_docker(document: object, *, snapshotter: str = "0.13.4", nydusd: str = "v2.2.0") -> FakeNode:
    made = node(snapshotter=snapshotter, nydusd=nydusd)
    made.files.put(DOCKER, json.dumps(document).encode(), mode=0o600)
    return made


def interval(made: FakeNode, wanted: Config | None = None) -> str | None:
    wanted = wanted or config(PLAIN)
    text = writes(diff.plan(wanted, look(made, wanted)))[paths.SNAPSHOTTER_CONFIG].content.decode()
    found = tomllib.loads(text)["remote"].get("auth", {}).get("credential_renewal_interval")
    return str(found) if found is not None else None


def told(made: FakeNode, wanted: Config | None = None) -> str:
    wanted = wanted or config(PLAIN)
    return "\n".join(one for one in diff.plan(wanted, look(made, wanted)).warnings if "NNA1207" in one)


def set_to(seconds: int) -> Config:
    return replace(config(PLAIN), registries=RegistriesConfig(hosts=(PLAIN,), renew_s=seconds))


@pytest.mark.parametrize(
    "document", [HELPER, {"credsStore": "gcloud"}, {"auths": {PLAIN.host: entry("puller")}}]
)
def test_running_containers_get_new_credentials_where_both_programs_can(document: object) -> None:
    made = with_docker(document, **ABLE)
    assert interval(made) == "300s"
    assert interval(made, set_to(60)) == "60s"
    assert told(made) == ""


@pytest.mark.parametrize(("snapshotter", "nydusd", "old"), [
    ("0.13.4", "v2.4.4", "snapshotter 0.13.4 does not (0.15.14 does)"),
    ("0.15.13", "v2.4.1", "snapshotter 0.15.13 does not"),
    ("0.15.14", "v2.4.0", "nydusd 2.4.0 does not (2.4.1 does)"),
    ("0.16.1", "unknown", "nydusd unknown does not"),
])  # fmt: skip
def test_an_older_program_gets_no_key_that_it_would_ignore_and_the_operator_is_told(
    snapshotter: str, nydusd: str, old: str
) -> None:
    made = with_docker(HELPER, snapshotter=snapshotter, nydusd=nydusd)
    assert interval(made) is None
    assert "1.dkr.ecr.eu.amazonaws.com (docker-credential-ecr-login)" in told(made)
    assert old in told(made)
    assert "nydus-agent programs lock" in told(made)


def test_the_first_versions_that_can_are_used() -> None:
    assert interval(with_docker(HELPER, snapshotter="0.15.14", nydusd="v2.4.1")) == "300s"


def test_a_node_without_credentials_is_left_as_it_was() -> None:
    assert interval(node(**ABLE)) is None
    assert interval(with_docker({"auths": {"hub.example": {}}, "currentContext": "default"}, **ABLE)) is None


def test_whoever_wants_no_renewal_gets_none_and_no_warning() -> None:
    assert interval(with_docker(HELPER, **ABLE), set_to(0)) is None
    assert told(with_docker(HELPER), set_to(0)) == ""


def test_a_login_after_the_node_was_set_up_restarts_the_snapshotter_alone() -> None:
    made, wanted = node(**ABLE), config(PLAIN)
    carry_out(made, diff.plan(wanted, look(made, wanted)))
    made.files.put(DOCKER, json.dumps(HELPER).encode(), mode=0o600)
    found = diff.plan(wanted, look(made, wanted))
    assert list(writes(found)) == [paths.SNAPSHOTTER_CONFIG]
    assert verbs(found) == [f"restart {paths.SNAPSHOTTER_UNIT}"]


def test_the_mirrors_dialect_is_named_where_it_is_in_the_way() -> None:
    made = with_docker(HELPER)
    wanted = replace(config(PLAIN, dialect=Dialect.MIRRORS, registry=f"http://{PLAIN.host}"))
    assert "the mirrors dialect excludes such a nydusd" in told(made, wanted)


def facts_after(made: FakeNode, wanted: Config) -> Facts:
    carry_out(made, diff.plan(wanted, look(made, wanted)))
    return look(made, wanted)


def test_only_what_is_on_the_node_counts_as_in_force() -> None:
    made = with_docker(HELPER, **ABLE)
    assert not mounts.renews(look(made, config(PLAIN)))
    assert mounts.renews(facts_after(made, config(PLAIN)))
    assert not mounts.renews(facts_after(with_docker(HELPER), config(PLAIN)))


def in_use(made: ProvedNode, document: object = None) -> ProvedNode:
    """An image of PLAIN's registry runs, whose credential comes from a helper."""
    helper = document or {"credHelpers": {PLAIN.host: "ecr-login"}}
    made.node.files.put(DOCKER, json.dumps(helper).encode(), mode=0o600)
    made.apply()
    made.use_image()
    made.say()
    return made


def test_an_image_in_use_whose_credential_will_expire_is_named_with_its_helper_and_the_way_out() -> None:
    proof = in_use(ProvedNode()).proof()
    (one,) = proof.unrenewed
    assert one.startswith(
        f"{PLAIN.host}/image (docker-credential-ecr-login): nydusd 2.2.0 does not (2.4.1 does)"
    )
    assert (proof.headline, proof.exit) == (None, 0), (
        "nothing is wrong yet, and a change must not be undone for it"
    )
    assert PASSWORD not in str(proof)


def test_a_nydusd_that_was_started_before_the_programs_were_replaced_is_judged_by_what_it_is() -> None:
    made = ProvedNode()
    made.node = _with(made, nydusd="v2.4.4")
    (one,) = in_use(made).proof().unrenewed
    assert "its nydusd 2.2.0 does not (2.4.1 does)" in one
    socket, info = next(iter(made.node.nydusd.daemons.items()))
    made.node.nydusd.daemons[socket] = replace(info, version="v2.4.4")
    assert made.proof().unrenewed == ()


def _with(made: ProvedNode, nydusd: str) -> FakeNode:
    for name in ("nydusd", "nydus-image"):
        said = f"{name} \rVersion: \t{nydusd}\nGit Commit: \tabc\n"
        made.node.processes.on(f"/usr/local/bin/{name}", "--version", stdout=said)
    return made.node


def test_what_was_not_applied_yet_is_told_with_the_command() -> None:
    made = ProvedNode()
    made.node = _with(made, nydusd="v2.4.4")
    made.apply()
    made.use_image()
    made.say()
    made.node.files.put(DOCKER, json.dumps({"credsStore": "gcloud"}).encode(), mode=0o600)
    proof = made.proof()
    assert (
        [one for one in proof.unrenewed if one.endswith("nydus-agent apply")] == list(proof.unrenewed) != []
    )
    assert any("snapshotter.toml" in one for one in proof.pending)


def test_images_of_other_registries_and_passwords_that_stay_are_not_told() -> None:
    assert in_use(ProvedNode(), HELPER).proof().unrenewed == ()
    assert in_use(ProvedNode(), {"auths": {PLAIN.host: entry("robot")}}).proof().unrenewed == ()


def test_an_image_that_everyone_may_read_is_not_told_although_a_helper_is_there_for_all() -> None:
    made = in_use(ProvedNode(), {"credsStore": "gcloud"})
    assert len(made.proof().unrenewed) == 1
    path = f"{CONFIG.snapshotter.root}/config/d1/config.json"
    public = json.loads(made.node.files.files[path].content)
    del public["device"]["backend"]["config"]["auth"]
    made.node.files.put(path, json.dumps(public).encode(), mode=0o600)
    assert made.proof().unrenewed == ()


def test_an_image_with_a_credential_is_told_although_another_mount_of_it_was_made_before_the_login() -> None:
    made = in_use(ProvedNode(), {"credsStore": "gcloud"})
    root = CONFIG.snapshotter.root
    before = json.loads(made.node.files.files[f"{root}/config/d1/config.json"].content)
    del before["device"]["backend"]["config"]["auth"]
    made.node.files.put(f"{root}/config/d0/config.json", json.dumps(before).encode(), mode=0o600)
    made.node.files.put(f"{root}/snapshots/2/fs/image/image.boot", b"bootstrap", mode=0o600)
    daemons = [{"id": "d0", "instances": {"2": {}}}, {"id": "d1", "instances": {"3": {}}}]
    made.node.http.on(
        "http://localhost/api/v1/daemons", answer(200, json.dumps(daemons).encode()),
        via=paths.SNAPSHOTTER_SYSTEM_SOCKET,
    )  # fmt: skip
    (one,) = made.proof().unrenewed
    assert one.startswith(f"{PLAIN.host}/image (docker-credential-gcloud)")


def test_status_tells_it_before_the_reads_fail(tmp_path: Path) -> None:
    published = PublishedNode(tmp_path)
    published.proof["unrenewed"] = [
        "reg.example/app (docker-credential-gcloud): nydusd 2.2.0 does not (2.4.1 does)"
    ]
    published.write()
    answer = Answer(published)
    assert answer.code == 3
    assert answer.headline.startswith("serving from mirror")
    assert "problem[NNA1207]: 1 image in use with a credential that expires and is not renewed" in answer.text
    assert "reg.example/app (docker-credential-gcloud)" in answer.text
    assert "nydus-agent programs lock" in answer.text


def sources(document: object) -> dict[str, str]:
    parsed, problems = docker_config.parse(DOCKER, json.dumps(document).encode())
    assert problems == ()
    return dict(docker_config.sources(parsed))


def test_a_token_that_was_written_as_a_password_is_known_by_its_user_and_never_shown() -> None:
    auths = {"1.dkr.ecr.eu.amazonaws.com": entry("AWS"), "europe-docker.pkg.dev": entry("oauth2accesstoken")}
    found = sources({"auths": {**auths, "hub.example": entry("robot")}})
    assert found == {
        "1.dkr.ecr.eu.amazonaws.com": "the password of AWS",
        "europe-docker.pkg.dev": "the password of oauth2accesstoken",
    }
    assert PASSWORD not in told(with_docker({"auths": auths}))


def test_a_helper_that_keeps_passwords_is_not_called_one_that_expires() -> None:
    assert sources({"credsStore": "pass", "auths": {"hub.example": entry("AWS")}}) == {}
    found = docker_config.sources(docker_config.parse(DOCKER, json.dumps({
        "credsStore": "gcloud", "credHelpers": {"hub.example": "secretservice"},
    }).encode())[0])  # fmt: skip
    assert docker_config.source_of(found, "hub.example") == ""
    assert docker_config.source_of(found, "gcr.io") == "docker-credential-gcloud"
    assert "hub.example" not in told(
        with_docker({"credsStore": "gcloud", "credHelpers": {"hub.example": "pass"}})
    )


def test_docker_hub_is_known_by_all_its_names() -> None:
    found = docker_config.sources(
        docker_config.DockerConfig(DOCKER, helpers={"https://index.docker.io/v1/": "x"})
    )
    assert (
        docker_config.source_of(found, "index.docker.io") == docker_config.source_of(found, "docker.io") != ""
    )
