"""Private images start lazily through a real dfdaemon, from a registry with basic authentication and one with
tokens; the secrets stay where they were put, in no other file that others can read, in no log and on no
command line.
"""

from __future__ import annotations

import base64
import json
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.node import images, parts, scene, token_registry
from tests.node.boot import Node
from tests.node.dragonfly import benched, ran

HELPER, HELPERS_FILE = "/usr/local/bin/docker-credential-test", "/etc/test-registry/helper.json"
CREDENTIAL = "/etc/credstore/pull"
DROP_IN = "/etc/systemd/system/test-dfdaemon.service.d/50-restart.conf"
"""Ours for dfdaemon.service.

Without it dfdaemon writes each request with its Authorization header into its log.
"""
MARK = "/run/before-the-secrets"
SOURCES = {CREDENTIAL, HELPERS_FILE, "/etc/test-registry/account", token_registry.ISSUED}
"""Where the test itself has put secrets, each 0600."""


@dataclass
class Private:
    """A node, two registries that want to know who asks, and a mirror."""

    node: Node
    basic: parts.Registry
    bearer: parts.Registry
    tokens: parts.Unit
    dfdaemon: parts.Dfdaemon

    def ref(self, registry: parts.Registry) -> str:
        return f"{registry.host}/{'reader' if registry is self.basic else 'python'}-nydus:1"

    def values(self) -> list[str]:
        """Every secret, in the forms in which programs write them."""
        found = list(self.node.read(token_registry.ISSUED).split())
        for registry in (self.basic, self.bearer):
            found += [
                registry.password,
                base64.b64encode(f"{registry.user}:{registry.password}".encode()).decode(),
            ]
        return found


@pytest.fixture(scope="module")
def private() -> Iterator[Private]:
    with Node(shares=parts.dragonfly_shares()) as node:
        node.run(["touch", MARK])
        basic = parts.start_auth_registry(node, password=secrets.token_hex(16))
        bearer, tokens = token_registry.start(node, password=secrets.token_hex(16))
        hosts = "".join(
            f'[[registries.hosts]]\nhost = "{one.host}"\nscheme = "http"\n' for one in (basic, bearer)
        )  # fmt: skip
        scene.install_only(node, f"[fleet]\nreturn_window_s = 0\n{hosts}")
        node.write(DROP_IN, scene.agent(node, "dragonfly", "render", "dfdaemon-unit").stdout)
        made = Private(node, basic, bearer, tokens, parts.start_dfdaemon(node))
        for name in ("reader-nydus", "python-nydus"):  # all registries of a node share one storage
            ref = f"{basic.host}/{name}:1"
            images.push(node, name, ref, user=basic.user, password=basic.password)
        images.load_pause(node)
        scene.agent(node, "apply")
        for registry in (basic, bearer):  # as the kubelet does, with a pull secret: containerd's part
            scene.pull(node, made.ref(registry), credentials=f"{registry.user}:{registry.password}")
        yield made


def access(proof: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What doctor says of registries, by name."""
    return {one["registry"]: one for one in proof["registries"]}


def grant(private: Private) -> None:
    """The basic registry's password in a credential of systemd, the other's with a helper."""
    basic, bearer = private.basic, private.bearer
    auth = base64.b64encode(f"{basic.user}:{basic.password}".encode()).decode()
    document = {"auths": {basic.host: {"auth": auth}}, "credHelpers": {bearer.host: "test"}}
    answer = {"ServerURL": bearer.host, "Username": bearer.user, "Secret": bearer.password}
    private.node.write(HELPERS_FILE, json.dumps(answer), mode=0o600)
    private.node.write(HELPER, f'#!/bin/sh\ntest "$1" = get && exec cat {HELPERS_FILE}\n', mode=0o755)
    private.node.write(CREDENTIAL, json.dumps(document), mode=0o600)
    private.node.write("/etc/nydus-agent/conf.d/60-who.toml", '[registries]\ncredentials = "pull"\n')


def test_a_registry_that_refuses_the_node_is_named_with_what_was_tried(private: Private) -> None:
    found = access(scene.agent_json(private.node, "doctor"))
    for registry in (private.basic, private.bearer):
        one = found[registry.host]
        assert (one["state"], one["code"]) == ("failed", "NNA1205"), one
        assert one["evidence"] == ["/root/.docker/config.json: there is no such file"]
        assert f"docker login {registry.host}" in str(one["try"])


def test_a_credential_that_others_can_read_is_refused_before_anything_is_changed(private: Private) -> None:
    grant(private)
    private.node.run(["chmod", "644", CREDENTIAL])
    done = scene.agent(private.node, "apply", check=False)
    assert done.returncode == 2, done
    assert "mode 0644" in done.stdout + done.stderr
    assert f"chmod 600 {CREDENTIAL}" in done.stdout + done.stderr
    assert "DOCKER_CONFIG" not in private.node.run(["systemctl", "cat", "nydus-snapshotter.service"]).stdout
    private.node.run(["chmod", "600", CREDENTIAL])


def test_private_images_run_through_the_mirror_and_their_secrets_stay_with_root(private: Private) -> None:
    node = private.node
    grant(private)
    scene.agent(node, "plan")
    scene.agent(node, "apply")
    before = scene.mirror_bytes(private.dfdaemon)
    assert run(private, private.bearer) == "hello from python\n"
    assert run(private, private.basic, "/reader", "read", "/data", "600", "0")
    fetched, through = scene.nydusd_bytes(node), scene.mirror_bytes(private.dfdaemon) - before
    print(f"{through} bytes through the mirror, {fetched} fetched by nydusd")
    assert through >= 0.9 * fetched > 0

    proof = scene.agent_json(node, "doctor")
    found = {host: (one["state"], one["detail"]) for host, one in access(proof).items()}
    assert {state for state, _ in found.values()} == {"ok"}, found
    assert f'{CREDENTIAL}, auths."{private.basic.host}"' in str(found[private.basic.host])
    assert "docker-credential-test get" in str(found[private.bearer.host])
    lines = node.journal(private.tokens.name, output="cat").splitlines()
    asked = [json.loads(line) for line in lines if line.startswith("{")]
    assert [one for one in asked if one["right"] and one["scopes"] == ["repository:python-nydus:pull"]]
    check = proof["checks"][-1]
    assert (check["name"], check["state"]) == ("real read", "ok"), check

    holders = places_of(private)
    print("secrets are in", sorted(holders))
    copies = {path for path in holders if path.startswith("/var/lib/containerd-nydus/config/")}
    assert copies, "nydusd's own configuration holds one, or this search finds nothing"
    strange = holders - SOURCES - copies
    assert {
        path for path in strange if not path.startswith("/run/credentials/nydus-snapshotter.service/")
    } == set()
    assert readable_by_others(node, holders) == []
    assert told(private) == []
    assert [one for one in proof["cautions"] if "Authorization" in one] == []


def run(private: Private, registry: parts.Registry, *command: str) -> str:
    scene.drop_caches()
    name = registry.host.rpartition(":")[2]
    return scene.run(private.node, "k8s.io", "nydus", private.ref(registry), *command, name=f"private-{name}")


def places_of(private: Private) -> set[str]:
    """Every file on the node that holds one of the secrets, on any file system that keeps files. It must have
    been written after they were born, so older ones are not read. A container's root is looked at where it is
    kept.
    """
    private.node.write("/root/values", "\n".join(private.values()) + "\n", mode=0o600)
    script = (
        "findmnt --raw --noheadings --output TARGET --types ext4,btrfs,xfs,overlay,tmpfs,ramfs "
        "| grep -v ^/run/containerd/ "
        f"| while read -r top; do find $top -xdev -type f -cnewer {MARK} -print0; done "
        "| xargs -0 grep -lF -f /root/values -- || true"
    )
    return set(private.node.run(["bash", "-c", script], timeout=120).stdout.splitlines()) - {"/root/values"}


def readable_by_others(node: Node, holders: set[str]) -> list[str]:
    """Those that somebody else than root can open: tried as a user, not told from modes."""
    script = 'for path in "$@"; do if head -c 1 "$path" >/dev/null 2>&1; then echo "$path"; fi; done'
    return node.run(["bash", "-c", script, "try", *sorted(holders)], user="nobody").stdout.splitlines()


def told(private: Private) -> list[str]:
    """Where a secret is in a log, on a command line or in an answer of the agent."""
    node = private.node
    texts: dict[str, Sequence[str]] = {
        "journal": ["journalctl", "--no-pager", "--quiet", "--output=export", "--all"],
        "command lines": ["bash", "-c", "cat /proc/[0-9]*/cmdline"],
        "status": ["nydus-agent", "status", "--format", "json"],
        "plan": ["nydus-agent", "plan"],
        "generations": ["nydus-agent", "generations", "--diff=2"],
        "unit": ["systemctl", "show", "nydus-snapshotter.service"],
        "metrics": ["curl", "--silent", "--unix-socket", "/run/nydus-agent/api.sock", "http://x/metrics"],
    }
    found = []
    for name, argv in texts.items():
        line = f"{shlex.join(argv)} 2>&1 | grep -aqF -f /root/values"
        if node.run(["bash", "-c", line], check=False, timeout=60).returncode == 0:
            found.append(name)
    return found


@pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |ReadsGoAround: )")
def test_a_bench_of_private_images_is_let_in_and_shows_the_secret_to_nobody(private: Private) -> None:
    node, basic, bearer = private.node, private.basic, private.bearer
    grant(private)
    images.push(node, "reader", f"{basic.host}/reader:1", user=basic.user, password=basic.password)
    node.run(["crictl", "rmi", private.ref(basic)])
    holders = places_of(private)
    started = ("--command", "/reader read /data 20 0 1")
    over, leaked = "/run/bench-is-over", "/run/command-line-leaked"
    look = f"if cat /proc/[0-9]*/cmdline 2>/dev/null | grep -aqF -f /root/values; then touch {leaked}; fi"
    with node.popen(["bash", "-c", f"while [ ! -e {over} ]; do {look}; sleep 0.1; done"]):
        try:
            pair = benched(node, "--oci", f"{bearer.host}/reader:1", "--nydus", private.ref(basic), *started)
            plain = benched(node, "--oci", f"{basic.host}/reader:1", *started)
        finally:
            node.write(over, "")
    assert ran(pair) == {"oci-cold", "nydus-cold", "mirror-cold", "local-peer", "nydus-cache"}
    assert ran(plain) == {"oci-cold"}
    assert node.run(["ls", leaked], check=False).returncode == 2
    assert told(private) == []
    written = places_of(private) - holders
    assert {path for path in written if not path.startswith("/var/lib/containerd-nydus/config/")} == set()


def test_a_secret_that_did_leak_would_be_found(private: Private) -> None:
    path = "/var/tmp/leaked"
    private.node.write(path, f"x{private.basic.password}x")
    private.node.run(["systemd-cat", "echo", f"who is {private.bearer.password}"])
    holders = places_of(private)
    assert path in readable_by_others(private.node, holders)
    assert told(private) == ["journal"]


@pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")  # dfdaemon is started again
def test_doctor_tells_of_a_mirror_that_writes_credentials_into_its_log(private: Private) -> None:
    private.node.run(["rm", DROP_IN])
    private.node.run(["systemctl", "daemon-reload"])
    private.dfdaemon.start_again()
    cautions = scene.agent_json(private.node, "doctor")["cautions"]
    assert [one for one in cautions if "Authorization" in one and "--log-level" in one], cautions
