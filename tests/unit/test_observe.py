"""What is seen of a node, and what is said where something could not be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.config.model import Config, RegistriesConfig
from agent.errors import ContainerdUnavailableError, FenceError, FileError, HttpError, SystemdError
from agent.facts.node import ANY_HOST, Arch, Binary, Facts, FileFact, Unknown
from agent.node.observe import CANARY_PATH, judged, observe
from agent.ports import HttpAnswer, TlsSight
from agent.programs import versions
from agent.programs.versions import elf_architecture
from tests.fakes.http import answer
from tests.fakes.node import FakeNode
from tests.unit.plan_node import AMD64, ARM64, CONTAINERD_CONFIG, PLAIN, SECURE, config, look, node

MIRROR = "http://127.0.0.1:4001"


def binary(fact: object) -> Binary:
    assert isinstance(fact, Binary)
    return fact


def test_the_operator_s_program_comes_before_the_distribution_s() -> None:
    made = node()
    assert binary(look(made, Config()).snapshotter).path == "/usr/bin/containerd-nydus-grpc"
    made.files.put("/usr/local/bin/containerd-nydus-grpc", AMD64)
    assert binary(look(made, Config()).snapshotter).path == "/usr/local/bin/containerd-nydus-grpc"


def test_a_program_that_is_not_there_is_none_and_not_unknown() -> None:
    made = node()
    made.files.drop("/usr/local/bin/nydusd")
    assert look(made, Config()).nydusd is None


@pytest.mark.parametrize(
    ("head", "arch"),
    [
        (AMD64, Arch.AMD64),
        (ARM64, Arch.ARM64),
        (b"#!/bin/sh\nexec nydusd\n", Arch.SCRIPT),
        (AMD64[:4] + b"\x01" + AMD64[5:], Arch.OTHER),  # 32 bits
        (AMD64[:5] + b"\x02" + AMD64[6:], Arch.OTHER),  # big-endian
        (AMD64[:18] + b"\xf3\x00", Arch.OTHER),  # RISC-V
        (b"\x7fELF", Arch.OTHER),
        (b"", Arch.OTHER),
    ],
)
def test_a_program_for_another_machine_is_seen_without_running_it(head: bytes, arch: Arch) -> None:
    assert elf_architecture(head) is arch


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("nydusd \rVersion: \tv2.3.8\nGit Commit: \tabc\n", (2, 3, 8)),
        ("Version:     v0.16.1\nRevision:    unknown\n", (0, 16, 1)),
        ("Version: 2.4.0-rc.1", (2, 4, 0)),
    ],
)
def test_versions_are_read_as_the_programs_print_them(output: str, version: tuple[int, ...]) -> None:
    assert versions.nydus(output)[0] == version


def test_a_distribution_s_snapshotter_has_the_version_of_its_package() -> None:
    found = binary(look(node(), Config()).snapshotter)
    assert (found.version, found.version_text) == ((0, 13, 4), "0.13.4")


def test_a_nydusd_from_crates_has_the_version_of_its_crate() -> None:
    made = node(nydusd="unknown")
    made.processes.on("grep", "-a", "-o", stdout="nydus-storage-0.6.2\n")
    assert binary(look(made, Config()).nydusd).version == (2, 2, 0)


@pytest.mark.parametrize("found", ["", "nydus-storage-0.7.7\n"])
def test_a_version_that_nobody_knows_stays_unknown(found: str) -> None:
    made = node(nydusd="unknown")
    made.processes.on("grep", "-a", "-o", stdout=found)
    assert isinstance(binary(look(made, Config()).nydusd).version, Unknown)


@pytest.mark.parametrize(
    ("text", "version"), [("1:2.3.8-1+deb13u1", (2, 3, 8)), ("0.13.4-2.1+b10", (0, 13, 4))]
)
def test_a_package_s_epoch_and_revision_are_no_part_of_the_version(
    text: str, version: tuple[int, ...]
) -> None:
    assert versions.package(text)[0] == version


def test_a_nydusd_that_dropped_mirrors_is_known_by_its_own_words() -> None:
    assert look(node(nydusd="v2.2.0"), Config()).nydusd_reads_mirrors is True
    assert look(node(nydusd="v2.3.5"), Config()).nydusd_reads_mirrors is False


def test_a_wrapper_around_nydusd_tells_nothing_about_it() -> None:
    made = node(nydusd="v2.3.5")
    made.processes.on("grep", "-q", "-a", "-F", "connect_timeout", code=1)
    assert isinstance(look(made, Config()).nydusd_reads_mirrors, Unknown)


def test_a_conffile_of_dpkg_is_named_with_its_package() -> None:
    made = node()
    owners = f"diversion by mo from: {CONTAINERD_CONFIG}\ncontainerd, other: {CONTAINERD_CONFIG}\n"
    made.processes.on("dpkg-query", "-S", CONTAINERD_CONFIG, code=1, stdout=owners)
    made.processes.on(
        "dpkg-query", "-W", "-f", "${Conffiles}\n", "containerd", stdout=f"\n {CONTAINERD_CONFIG} 01\n"
    )
    assert look(made, Config()).dpkg_conffiles == ((CONTAINERD_CONFIG, "containerd"),)
    made.processes.on("dpkg-query", "-W", "-f", "${Conffiles}\n", "containerd", stdout="\n /etc/else 01\n")
    assert look(made, Config()).dpkg_conffiles == ()


def test_every_file_that_a_plan_may_touch_was_looked_at() -> None:
    made = node()
    made.files.put("/etc/containerd/certs.d/old.example/hosts.toml", b"# old\n")
    seen = observe(config(PLAIN), made.ports, extra_paths=("/etc/nydus/former",))
    for path in (
        CONTAINERD_CONFIG, "/etc/containerd/certs.d/_default/hosts.toml", "/etc/nydus/former",
        f"/etc/containerd/certs.d/{PLAIN.host}/hosts.toml", "/etc/containerd/certs.d/old.example/hosts.toml",
    ):  # fmt: skip
        assert not isinstance(seen.file(path), Unknown)


def test_hosts_files_are_looked_for_where_containerd_s_configuration_says() -> None:
    made = node()
    text = (
        b'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/cri/certs.d:/x"\n'
    )
    made.files.put(CONTAINERD_CONFIG, text)
    made.files.put("/etc/cri/certs.d/old.example/hosts.toml", b"# old\n")
    assert isinstance(look(made, Config()).file("/etc/cri/certs.d/old.example/hosts.toml"), FileFact)


def test_busy_ports_are_seen_and_not_guessed() -> None:
    made = node()
    made.tables.held = {9110: 0, 14012: 1000, 80: 0}
    assert look(made, Config()).listening == (9110, 14012)
    made.tables.broken = "Permission denied"
    assert isinstance(look(made, Config()).listening, Unknown)


def broken(error: Exception) -> Any:
    """A port of which every call fails."""

    class Broken:
        def __getattr__(self, name: str) -> Callable[..., object]:
            def fail(*args: object, **kwargs: object) -> object:
                raise error

            return fail

    return Broken()


def test_no_failing_port_becomes_a_default() -> None:
    """One picture comes out whatever fails, and each part that could not be read says so."""
    ports = replace(
        FakeNode().ports,
        files=broken(FileError("NNA0421", "no file")),
        units=broken(SystemdError("NNA0501", "no bus")),
        containerd=broken(ContainerdUnavailableError("NNA0602", "no socket")),
        fence=broken(FenceError("NNA0801", "no nft")),
        http=broken(HttpError("NNA0821", "no mirror")),
        tls=broken(HttpError("NNA0821", "no loopback")),
        tables=broken(FenceError("NNA0805", "no table of sockets")),
    )
    seen = observe(config(PLAIN, SECURE), ports)
    parts: list[object] = [
        seen.nydusd,
        seen.snapshotter,
        seen.containerd,
        seen.running_containerd,
        seen.containerd_unit,
    ]
    parts += [seen.snapshotter_unit, seen.mirror_reads_ns, seen.nydusd_reads_mirrors, seen.listening]
    parts += [
        seen.file(CONTAINERD_CONFIG),
        *(canary.ok for canary in seen.tls_canaries),
        seen.certificates[0].ok,
    ]
    assert [part for part in parts if not isinstance(part, Unknown)] == []
    assert not seen.systemd_running
    assert not isinstance(seen.fence, Unknown)
    assert (seen.fence.usable, seen.fence.reason) == (False, "no nft")


def test_the_fence_is_tried_only_when_asked() -> None:
    made = node()
    assert isinstance(observe(Config(), made.ports, probe_fence=False).fence, Unknown)


def canaries(made: FakeNode, wanted: Config) -> dict[str, bool | Unknown]:
    seen: Facts = look(made, wanted)
    return {canary.host: canary.ok for canary in seen.tls_canaries}


@pytest.mark.parametrize("status", [401, 404])
def test_a_rule_that_speaks_tls_is_seen_by_the_registry_s_own_answer(status: int) -> None:
    made = node()
    found = answer(status, docker_distribution_api_version="registry/2.0")
    made.http.on(f"http://{SECURE.host}{CANARY_PATH}", found, via=MIRROR)
    made.tls.sight_of = lambda: TlsSight.TLS
    assert canaries(made, config(SECURE)) == {SECURE.host: True, ANY_HOST: True}


@pytest.mark.parametrize(
    "body",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<center>The plain HTTP request was sent to HTTPS port",
    ],
)
def test_a_missing_rule_is_seen_by_the_tls_port_s_complaint(body: bytes) -> None:
    assert judged(answer(400, body))[0] is False


@pytest.mark.parametrize(
    "found",
    [
        answer(400, x_dragonfly_error_type="backend"),  # what Dragonfly makes of the complaint
        answer(404, b"<html>not found</html>"),  # another web server on port 80
        answer(403, x_dragonfly_error_type="proxy"),
        answer(400, b"bad digest"),
        answer(301, location="https://x"),
        answer(200, b"ok"),
    ],
)
def test_no_other_answer_is_taken_for_a_proof(found: HttpAnswer) -> None:
    assert judged(found)[0] is False


@pytest.mark.parametrize("found", [answer(429), answer(500, x_dragonfly_error_type="dfdaemon"), answer(502)])
def test_a_mirror_in_trouble_disproves_nothing(found: HttpAnswer) -> None:
    assert isinstance(judged(found)[0], Unknown)


@pytest.mark.parametrize(("sight", "ok"), [(TlsSight.TLS, True), (TlsSight.PLAIN, False)])
def test_registries_that_nobody_named_are_stood_for_by_a_listener_of_ours(sight: TlsSight, ok: bool) -> None:
    made = node()
    made.tls.sight_of = lambda: sight
    assert canaries(made, config(SECURE))[ANY_HOST] is ok
    asked = [
        request for request in made.http.asked if request.url == f"http://{made.tls.ADDRESS}{CANARY_PATH}"
    ]
    assert [request.proxy for request in asked] == [MIRROR]


def test_no_registry_of_others_is_asked_through_the_mirror() -> None:
    made = node()
    look(made, config(PLAIN, SECURE))
    hosts = {request.url.split("/")[2] for request in made.http.asked}
    assert hosts == {PLAIN.host, SECURE.host, made.tls.ADDRESS, "127.0.0.1:4001"}


def test_a_mirror_that_reads_ns_is_known_by_coming_to_us() -> None:
    made = node()
    made.tls.sight_of = lambda: TlsSight.TLS
    assert look(made, Config()).mirror_reads_ns is True


def test_a_mirror_that_answers_from_elsewhere_does_not_read_ns() -> None:
    made = node()
    made.http.on(MIRROR, answer(401))
    assert look(made, Config()).mirror_reads_ns is False


@pytest.mark.parametrize("status", [429, 500])
def test_a_mirror_that_cannot_reach_us_is_not_taken_for_an_old_one(status: int) -> None:
    made = node()
    made.http.on(MIRROR, answer(status))
    assert isinstance(look(made, Config()).mirror_reads_ns, Unknown)


def test_a_mirror_that_is_down_leaves_that_unknown() -> None:
    assert isinstance(look(node(), Config()).mirror_reads_ns, Unknown)


def test_nobody_asks_where_no_default_file_is_wanted() -> None:
    made = node()
    look(made, Config(registries=RegistriesConfig(include=("one.example",))))
    assert made.http.asked == []


def test_a_wrong_ca_is_a_problem_and_a_registry_that_is_down_is_not() -> None:
    made = node()
    made.tls.certificates[SECURE.host, SECURE.ca] = "self-signed certificate"
    (check,) = look(made, config(SECURE)).certificates
    assert (check.ok, check.evidence) == (False, "self-signed certificate")
    (check,) = look(node(), config(SECURE)).certificates
    assert isinstance(check.ok, Unknown)
