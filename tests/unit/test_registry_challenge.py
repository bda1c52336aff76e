"""WWW-Authenticate as registries write it."""

from __future__ import annotations

import pytest

from agent.registry.credential import Challenge, challenges, chosen, pull_scope, scopes_of

HUB = (
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
    'scope="repository:library/a:pull"'
)


def test_what_docker_hub_asks_for_is_understood() -> None:
    (found,) = challenges(HUB)
    assert found.scheme == "bearer"
    assert found.realm == "https://auth.docker.io/token"
    assert found.parameters["service"] == "registry.docker.io"
    assert scopes_of(found, ["repository:library/a:pull"]) == ("repository:library/a:pull",)
    assert scopes_of(found, [pull_scope("b")]) == ("repository:b:pull", "repository:library/a:pull")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="a, b"', [("basic", {"realm": "a, b"})]),
        ('BASIC Realm=plain , charset = "UTF-8"', [("basic", {"realm": "plain", "charset": "UTF-8"})]),
        ('Basic realm="x", Bearer realm="y", a=z', [("basic", {"realm": "x"}), ("bearer", {"realm": "y",
            "a": "z"})]),
        (r'Basic realm="say \"a\\b\""', [("basic", {"realm": 'say "a\\b"'})]),
        ('Basic realm=""', [("basic", {"realm": ""})]),
        ("Negotiate", [("negotiate", {})]),
        ("", []),
        ('"quoted first', []),
        ('Bearer realm="never ends', [("bearer", {}), ("realm", {})]),
    ],
)  # fmt: skip
def test_headers_are_read_as_rfc_9110_writes_them(
    header: str, found: list[tuple[str, dict[str, str]]]
) -> None:
    assert [(one.scheme, dict(one.parameters)) for one in challenges(header)] == found


def test_bearer_is_answered_before_basic_and_others_are_not() -> None:
    assert chosen('Basic realm="x", Bearer realm="y"') == Challenge("bearer", {"realm": "y"})
    assert chosen('Basic realm="x"') == Challenge("basic", {"realm": "x"})
    assert chosen("Negotiate, NTLM") is None


def test_a_header_of_any_length_is_read_in_no_time() -> None:
    assert len(challenges("a=" * 1_000_000)) < 8192
    assert challenges("Bearer " + 'realm="\\' * 1_000_000)


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ("repository:a:push,pull", ("repository:a:pull,push",)),
        ("repository:a:delete", ("repository:a:pull,push,delete",)),
        (
            "repository:b:5000/c:pull repository:a:pull",
            ("repository:a:pull,push", "repository:b:5000/c:pull"),
        ),
        ("registry:catalog:* one two", ("repository:a:pull,push", "registry:catalog:*", "one", "two")),
        ("", ("repository:a:pull,push",)),
    ],
)
def test_a_token_server_is_asked_for_each_repository_once(named: str, asked: tuple[str, ...]) -> None:
    assert scopes_of(Challenge("bearer", {"scope": named}), ["repository:a:pull,push"]) == asked
