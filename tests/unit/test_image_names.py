"""References and platforms as people write them, and images as skopeo names them."""

from __future__ import annotations

import pytest

from agent.errors import ConvertError
from agent.images.manifest import Platform, parse_platforms, parse_source, parse_target, platform_of
from agent.registry.names import parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "host", "repository", "named"),
    [
        ("registry.example.org/team/app:1.2", "registry.example.org", "team/app", "1.2"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000", "app", "latest"),
        ("localhost/a/b/c:x", "localhost", "a/b/c", "x"),
        ("[::1]:5000/app:1", "[::1]:5000", "app", "1"),
        ("debian", "docker.io", "library/debian", "latest"),
        ("debian:trixie", "docker.io", "library/debian", "trixie"),
        ("team/app", "docker.io", "team/app", "latest"),
        (f"r.example.org/app:1@{DIGEST}", "r.example.org", "app", DIGEST),
        (f"r.example.org/app@{DIGEST}", "r.example.org", "app", DIGEST),
    ],
)
def test_a_reference_means_what_it_means_to_containerd(
    text: str, host: str, repository: str, named: str
) -> None:
    found = parse(text)
    assert (found.host, found.repository, found.digest or found.tag) == (host, repository, named)
    assert parse(str(found)) == found
    name = parse_source(text)
    assert (name.host, name.skopeo) == (
        host,
        f"docker://{host}/{repository}{'@' if '@' in text else ':'}{named}",
    )
    assert parse_source(f"docker://{text}") == name


@pytest.mark.parametrize(
    "text",
    ["", "/", "r.example.org/", "r.example.org/App", "r.example.org/app:", "r.example.org/app:a b",
     "r.example.org/../app", "r.example.org/app@sha256:12", "r.example.org/app@md5:" + "a" * 32,
     "user:pw@r.example.org/app", "http://r/app", "r.example.org/a//b", "r.example.org/app?x=1",
     "r.example.org/app#x",
     "r.example.org/app:" + "a" * 129, "r.example.org/" + "a" * 256, "oci:", "oci-archive::1"],
)  # fmt: skip
def test_what_is_no_reference_is_refused_before_anything_is_asked(text: str) -> None:
    with pytest.raises(ConvertError) as raised:
        parse_source(text)
    assert raised.value.code == "NNA1401"


def test_places_on_this_machine_are_named_as_skopeo_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    assert parse_source("oci:share").skopeo == "oci:/usr/share"
    assert parse_source("docker-archive:/a/b.tar:registry:5000/app:1").skopeo == (
        "docker-archive:/a/b.tar:registry:5000/app:1"
    )
    assert parse_source("oci-archive:./x.tar:@1").host == ""


@pytest.mark.parametrize("text", [f"r.example.org/app@{DIGEST}", "docker-archive:/x.tar"])
def test_a_target_is_what_a_nydus_image_can_be_put_into(text: str) -> None:
    with pytest.raises(ConvertError) as raised:
        parse_target(text)
    assert raised.value.code == "NNA1401"
    assert parse_target("oci:/a@b:name").skopeo == "oci:/a@b:name"


def test_platforms_are_taken_each_once_in_the_order_in_which_they_were_asked_for() -> None:
    assert list(map(str, parse_platforms("arm64,amd64,linux/arm64"))) == ["linux/arm64", "linux/amd64"]


@pytest.mark.parametrize("text", ["arm/v7", "linux/arm/v7"])
def test_a_variant_needs_no_system_before_it_as_for_containerd(text: str) -> None:
    assert parse_platforms(text) == (Platform("linux", "arm", "v7"),)


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "amd64,,arm64", "linux/arm 64"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(ConvertError) as raised:
        parse_platforms(text)
    assert raised.value.code == "NNA1401"


@pytest.mark.parametrize(
    ("said", "wanted", "serves"),
    [
        ({"architecture": "arm64", "os": "linux"}, "arm64", True),
        ({"architecture": "arm64", "os": "linux", "variant": "v8"}, "arm64", True),
        ({"architecture": "arm64"}, "arm64/v8", True),
        ({"architecture": "arm", "os": "linux", "variant": "v6"}, "arm/v7", False),
        ({"architecture": "amd64", "os": "linux"}, "arm64", False),
        ({"architecture": "amd64", "os": "windows"}, "amd64", False),
    ],
)
def test_an_image_serves_a_platform_where_it_says_nothing_else(
    said: dict[str, str], wanted: str, serves: bool
) -> None:
    assert platform_of(said).serves(*parse_platforms(wanted)) is serves
