"""Plain images: the mirror first, the registry itself always behind it."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from agent.config.model import Config, RegistriesConfig, RegistryHost
from agent.facts.node import CertificateCheck, Facts, RunningContainerd, Unknown
from agent.plan.render import hosts
from tests.unit.plan_node import GOLDEN, PLAIN, SECURE, config, look, node

NS = True
MIRROR = "http://127.0.0.1:4001"


def facts(reads_ns: bool | Unknown = NS) -> Facts:
    return replace(look(node(), Config()), mirror_reads_ns=reads_ns)


def files(wanted: Config, seen: Facts | None = None, *, present: bool = False) -> dict[str, bytes]:
    return dict(hosts.wanted(wanted, seen or facts(), default_present=present).files)


def test_every_registry_is_served_without_configuration() -> None:
    assert set(files(Config())) == {"_default", "docker.io"}


def test_docker_hub_is_asked_for_by_the_name_that_is_a_registry() -> None:
    assert files(Config())["docker.io"] == (GOLDEN / "node/docker.io.hosts.toml").read_bytes()


def test_a_plain_http_registry_is_named_with_its_scheme() -> None:
    assert files(config(PLAIN))[PLAIN.host] == (GOLDEN / "node/plain.hosts.toml").read_bytes()


def test_a_private_ca_verifies_the_registry_behind_the_mirror() -> None:
    found = tomllib.loads(files(config(SECURE))[SECURE.host].decode())
    assert (found["server"], found["ca"]) == (f"https://{SECURE.host}", SECURE.ca)


@pytest.mark.parametrize("name", ["_default", "docker.io", PLAIN.host, SECURE.host])
def test_the_mirror_may_pull_and_resolve_and_nothing_else(name: str) -> None:
    found = tomllib.loads(files(config(PLAIN, SECURE))[name].decode())
    assert list(found["host"]) == [MIRROR]
    assert found["host"][MIRROR]["capabilities"] == ["pull", "resolve"]
    assert "skip_verify" not in found
    assert "skip_verify" not in found["host"][MIRROR]


def test_a_pull_can_always_reach_the_registry_itself() -> None:
    """Each file names a server, or is the default one, behind which containerd puts the registry's usual
    address.
    """
    for name, content in files(config(PLAIN, SECURE)).items():
        assert ("server" in tomllib.loads(content.decode())) is (name != "_default")


@pytest.mark.parametrize("reads_ns", [False, Unknown("the mirror did not answer")])
def test_an_old_mirror_never_gets_a_name_that_it_would_look_up_elsewhere(reads_ns: bool | Unknown) -> None:
    found = hosts.wanted(config(PLAIN), facts(reads_ns), default_present=False)
    assert set(found.files) == {PLAIN.host, "docker.io"}
    assert "only registries that the configuration names go through the mirror" in found.notes[0]


def test_a_mirror_that_is_down_for_a_moment_does_not_change_what_was_proved() -> None:
    down = facts(Unknown("the mirror did not answer"))
    assert "_default" in files(Config(), down, present=True)
    assert "_default" not in files(Config(), facts(reads_ns=False), present=True)


def test_only_the_named_registries_go_through_the_mirror_where_some_are_named() -> None:
    wanted = Config(registries=RegistriesConfig(include=("one.example", PLAIN.host), hosts=(PLAIN, SECURE)))
    found = files(wanted)
    assert set(found) == {"one.example", PLAIN.host}
    assert tomllib.loads(found["one.example"].decode())["server"] == "https://one.example"


def test_a_registry_whose_certificate_is_wrong_is_never_asked_through_a_mirror_that_does_not_look() -> None:
    seen = replace(facts(), certificates=(CertificateCheck(SECURE.host, ok=False, evidence="self-signed"),))
    found = hosts.wanted(config(SECURE), seen, default_present=False)
    assert tomllib.loads(found.files[SECURE.host].decode()).get("host") == {}, (
        "containerd 1.6 and 1.7 want the table"
    )
    assert "self-signed" in found.notes[0]


@pytest.mark.parametrize(("version", "there"), [((1, 7, 24), False), ((2, 0, 5), False), ((2, 1, 0), True)])
def test_a_mirror_that_swallows_packets_costs_a_second_where_containerd_can_say_so(
    version: tuple[int, ...], there: bool
) -> None:
    seen = replace(facts(), running_containerd=RunningContainerd(version, "", 1, ()))
    assert all((b"dial_timeout" in content) is there for content in files(config(PLAIN), seen).values())


def test_docker_hub_can_be_given_another_scheme_and_ca() -> None:
    own = RegistryHost("docker.io", ca="/ca.pem")
    found = tomllib.loads(files(config(own))["docker.io"].decode())
    assert (found["server"], found["ca"]) == ("https://registry-1.docker.io", "/ca.pem")
