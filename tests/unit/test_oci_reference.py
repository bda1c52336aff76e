"""References as people write them."""

from __future__ import annotations

import pytest

from agent.errors import ConvertError
from agent.oci import platforms
from agent.oci.formats import Descriptor, Index, Platform
from agent.oci.reference import parse

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
def test_a_reference_means_what_it_means_to_containerd(text: str, host: str, repository: str, named: str) -> None:
    found = parse(text)
    assert (found.host, found.repository, found.named) == (host, repository, named)
    assert parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "/", "r.example.org/", "r.example.org/App", "r.example.org/app:", "r.example.org/app:a b",
     "r.example.org/../app", "r.example.org/app@sha256:12", "r.example.org/app@md5:" + "a" * 32,
     "user:pw@r.example.org/app", "http://r/app", "r.example.org/a//b", "r.example.org/app?x=1", "r.example.org/app#x",
     "r.example.org/app:" + "a" * 129, "r.example.org/" + "a" * 256],
)  # fmt: skip
def test_what_is_no_reference_is_refused_before_anything_is_asked(text: str) -> None:
    with pytest.raises(ConvertError) as raised:
        parse(text)
    assert raised.value.code == "NNA1401"


def index(*names: str) -> Index:
    return Index(tuple(Descriptor("x", DIGEST, at, Platform(*name.split("/"))) for at, name in enumerate(names)))


def test_platforms_are_chosen_in_the_order_in_which_they_were_asked_for() -> None:
    found = platforms.chosen(
        index("linux/amd64", "linux/arm64/v8", "unknown/unknown"), platforms.parse("arm64,amd64"), "x"
    )
    assert [one.size for one in found] == [1, 0]


def test_a_platform_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ConvertError, match=r"linux/arm/v7.*linux/amd64") as raised:
        platforms.chosen(index("linux/amd64", "unknown/unknown"), platforms.parse("linux/arm/v7"), "x")
    assert "unknown" not in raised.value.cause


@pytest.mark.parametrize("text", ["arm/v7", "linux/arm/v7"])
def test_a_variant_needs_no_system_before_it_as_for_containerd(text: str) -> None:
    assert platforms.parse(text) == (Platform("linux", "arm", "v7"),)


def test_a_platform_that_an_index_has_twice_is_told_once() -> None:
    """buildah 1.39: `manifest push --add-compression` lists each image once more."""
    with pytest.raises(ConvertError) as raised:
        platforms.chosen(index("linux/amd64", "linux/arm64", "linux/amd64"), platforms.parse("s390x"), "x")
    assert raised.value.cause == "it has: linux/amd64, linux/arm64"


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "amd64,,arm64", "linux/arm 64"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(ConvertError) as raised:
        platforms.parse(text)
    assert raised.value.code == "NNA1402"
