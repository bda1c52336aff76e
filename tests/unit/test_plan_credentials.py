"""What a plan says of the registries' credentials: what is wrong with them, and never what is in them."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from agent import paths
from agent.config.model import Config
from agent.errors import PlanError
from agent.plan import show
from agent.plan.diff import plan
from agent.steps import Plan
from tests.fakes.node import FakeNode
from tests.unit.plan_node import PLAIN, carry_out, config, look, node, verbs, writes

SECRET = "s3cr3t-of-the-fleet"
GOOD = json.dumps(
    {"auths": {PLAIN.host: {"auth": base64.b64encode(f"puller:{SECRET}".encode()).decode()}}}
).encode()
NAMED = "/etc/registry/config.json"


def wanted(credentials: str) -> Config:
    base = config(PLAIN)
    return replace(base, registries=replace(base.registries, credentials=credentials))


def made(
    credentials: str, place: str = "", content: bytes = GOOD, *, mode: int = 0o600
) -> tuple[Plan, FakeNode]:
    one = node()
    if place:
        one.files.put(place, content, mode=mode)
    return plan(wanted(credentials), look(one, wanted(credentials))), one


def shown(found: Plan) -> str:
    return "\n".join(
        [*map(str, found.warnings), *map(str, found.notes), *map(show.what, found.steps), repr(found)]
    )


@pytest.mark.parametrize(
    ("credentials", "place"),
    [
        ("", "/root/.docker/config.json"),
        (NAMED, NAMED),
        ("pull", "/etc/credstore/pull"),
        ("pull", "/run/credstore/pull"),
    ],
)
def test_credentials_are_in_no_part_of_a_plan_and_in_nothing_that_is_written(
    credentials: str, place: str
) -> None:
    found, one = made(credentials, place)
    carry_out(one, found)
    everything = shown(found) + "".join(
        file.content.decode(errors="replace") for path, file in one.files.files.items() if path != place
    )
    assert SECRET not in everything
    assert base64.b64encode(f"puller:{SECRET}".encode()).decode() not in everything
    assert found.warnings == ()


def test_other_credentials_change_the_unit_and_restart_the_snapshotter_alone() -> None:
    one = node()
    carry_out(one, plan(wanted(""), look(one, wanted(""))))
    one.files.put(NAMED, GOOD, mode=0o600)
    found = plan(wanted(NAMED), look(one, wanted(NAMED)))
    assert list(writes(found)) == [paths.SNAPSHOTTER_UNIT_FILE]
    assert verbs(found) == [f"restart {paths.SNAPSHOTTER_UNIT}"]


@pytest.mark.parametrize(
    ("credentials", "place", "content", "mode", "code", "told"),
    [
        (NAMED, "", b"", 0, "NNA1201", ("is not there", "registries.credentials")),
        ("pull", "", b"", 0, "NNA1201", ("/etc/credstore/pull or /run/credstore/pull", "is not there")),
        (NAMED, NAMED, GOOD, 0o644, "NNA1201", ("mode 0644", "chmod 600")),
        (NAMED, NAMED, GOOD[:-9], 0o644, "NNA1201", ("mode 0644", "chmod 600", "is not JSON")),
    ],
)
def test_credentials_that_the_operator_named_and_that_cannot_be_used_are_refused_with_all_reasons(
    credentials: str, place: str, content: bytes, mode: int, code: str, told: tuple[str, ...]
) -> None:
    with pytest.raises(PlanError) as caught:
        made(credentials, place, content, mode=mode)
    text = " ".join([str(caught.value), *caught.value.seen, caught.value.try_])
    assert caught.value.code == code
    assert all(word in text for word in told), text
    assert SECRET not in text


def test_what_docker_wrote_for_root_is_only_warned_about() -> None:
    found, _ = made("", "/root/.docker/config.json", mode=0o644)
    (warning,) = found.warnings
    assert "mode 0644" in warning
    assert "chmod 600 /root/.docker/config.json" in warning
    assert found.steps
