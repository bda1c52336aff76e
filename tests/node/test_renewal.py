"""A credential helper gives a new credential, the old one expires a little later, and a container reads on.

A nydusd that takes new credentials (2.4.1 and newer) cannot be built from where the tests have their parts.
With the one that can, these tests show that the operator was told before the reads fail, and what the
snapshotter does with our configuration. $NYDUSD names a newer program (`make test-nydusd`): with it no read
may fail at all.
"""

from __future__ import annotations

import base64
import json
import secrets
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.node import images, parts, scene, stock
from tests.node.boot import Node
from tests.node.change import LEFT_OVER

pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: mirror \w+ -> ",  # reads are refused once the old credential has expired
    LEFT_OVER,
)

NEWER = stock.given_version() >= (2, 4, 1)
HELPER, HELPERS_FILE = "/usr/local/bin/docker-credential-test", "/etc/test-registry/helper.json"
RENEW_S = 2
NYDUSD = "/usr/local/bin/nydusd"
CONFIGS = "/var/lib/containerd-nydus/config/*/config.json"


@dataclass
class Private:
    """A node whose image comes from a registry with a password that a helper knows."""

    node: Node
    registry: parts.Registry

    @property
    def ref(self) -> str:
        return f"{self.registry.host}/reader-nydus:1"

    def hand_out(self) -> None:
        """The helper says a new credential from now on; the registry takes the old one too, as clouds do."""
        old = {self.registry.user or "": self.registry.password}
        self.registry.user, self.registry.password = f"user-{secrets.token_hex(4)}", secrets.token_hex(16)
        parts.accept(self.registry, {**old, self.registry.user: self.registry.password})
        self.tell_helper()

    def expire(self) -> None:
        """The registry takes what the helper says now, and nothing older."""
        parts.accept(self.registry, {self.registry.user or "": self.registry.password})

    def tell_helper(self) -> None:
        answer = {
            "ServerURL": self.registry.host,
            "Username": self.registry.user,
            "Secret": self.registry.password,
        }
        self.node.write(HELPERS_FILE, json.dumps(answer), mode=0o600)

    def renewed(self) -> bool:
        """Whether the credential of now is in the configuration that the snapshotter has written for the
        image.
        """
        pair = base64.b64encode(f"{self.registry.user}:{self.registry.password}".encode()).decode()
        return self.node.run(f"grep -qF {pair} {CONFIGS}", check=False).returncode == 0

    def unrenewed(self) -> list[str]:
        """Images that doctor says will not be renewed."""
        found: list[str] = scene.agent_json(self.node, "doctor")["unrenewed"]
        return found


@pytest.fixture(scope="module")
def private() -> Iterator[Private]:
    with Node() as node:
        made = Private(node, parts.start_auth_registry(node, password=secrets.token_hex(16)))
        parts.start_mirror(node)
        images.push(node, "reader-nydus", made.ref, user=made.registry.user, password=made.registry.password)
        images.load_pause(node)
        made.tell_helper()
        node.write(HELPER, f'#!/bin/sh\ntest "$1" = get && exec cat {HELPERS_FILE}\n', mode=0o755)
        node.write(
            "/root/.docker/config.json", json.dumps({"credHelpers": {made.registry.host: "test"}}), mode=0o600
        )
        host = f'[[registries.hosts]]\nhost = "{made.registry.host}"\nscheme = "http"\n'
        scene.install(node, f"[apply]\non_install = true\n[registries]\nrenew_s = {RENEW_S}\n{host}")
        scene.pull(node, made.ref, credentials=f"{made.registry.user}:{made.registry.password}")
        yield made


def told(node: Node) -> list[dict[str, Any]]:
    problems = scene.agent_json(node, "status")["problems"]
    return [one for one in problems if one["code"] == "NNA1207"]


def test_reads_go_on_after_a_credential_has_expired_or_who_will_fail_was_told_before(
    private: Private,
) -> None:
    node = private.node
    plan = "\n".join(scene.agent_json(node, "plan")["warnings"])
    assert (f"{private.registry.host} (docker-credential-test)" in plan) is not NEWER, plan
    with scene.Reader(node, private.ref, pause_ms=150, rounds=1) as reader:
        reader.wait_for(5, 60)
        scene.agent(node, "inspect")
        problems = told(node)
        private.hand_out()
        if NEWER:
            assert (problems, private.unrenewed()) == ([], [])
            node.wait_until(private.renewed, 30, "the snapshotter has renewed the credential")
            private.expire()
            reader.wait_for(100, 120)
            assert reader.errors() == []
        else:
            private.expire()
            (problem,) = problems
            assert f"{private.registry.host}/reader-nydus (docker-credential-test): " in str(
                problem["seen"]
            ), problem
            assert "nydus-agent programs lock" in problem["try"]
            node.wait_until(lambda: bool(reader.errors()), 120, "a cold read has failed")
            assert "Input/output error" in reader.errors()[0]
            assert not private.renewed()
    for text in (plan, str(problems)):
        assert private.registry.password not in text


def test_the_snapshotter_hands_on_what_the_helper_says_now_and_an_old_nydusd_does_not_take_it(
    private: Private,
) -> None:
    node = private.node
    if not NEWER:  # a program that says of itself what the configuration is rendered for
        node.run(["mv", NYDUSD, f"{NYDUSD}.was"])
        says = r"nydusd Version: \tv2.4.4\nGit Commit: \tabc\n"
        script = f'[ "$1" = --version ] && exec printf "{says}"\nexec {NYDUSD}.was "$@"\n'
        node.write(NYDUSD, f"#!/bin/sh\n{script}", mode=0o755)
        scene.agent(node, "apply")
    written = tomllib.loads(node.read("/etc/nydus/snapshotter.toml"))
    assert written["remote"]["auth"]["credential_renewal_interval"] == f"{RENEW_S}s"
    private.hand_out()
    node.wait_until(private.renewed, 30, "the snapshotter has renewed the credential")
    lines = node.journal("nydus-snapshotter.service").splitlines()
    refused = [line for line in lines if "failed to hot-reload auth config" in line]
    assert bool(refused) is not NEWER, refused
    print(*refused[:1])
    assert [one.rpartition(": ")[2] for one in private.unrenewed()] == (
        [] if NEWER else ["its nydusd unknown does not (2.4.1 does)"]
    )
    assert private.registry.password not in node.journal("nydus-snapshotter.service")
