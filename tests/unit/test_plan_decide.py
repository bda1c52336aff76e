"""What "auto" comes to, with its reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.config.model import Config, Dialect, RegistriesConfig, RegistryHost, Scheme, Switch
from agent.errors import PlanError
from agent.facts.node import ANY_HOST, CertificateCheck, Facts, FenceAbility, TlsCanary, Unknown
from agent.plan.decide import choose, effective
from agent.plan.diff import plan
from tests.unit.plan_node import ARM64, PLAIN, SECURE, carry_out, config, look, node

OTHER = RegistryHost("other.example")
YES, NO = FenceAbility(usable=True, reason="shown"), FenceAbility(usable=False, reason="no nft")
SEEN: tuple[bool | Unknown, ...] = (True, False, Unknown("no answer"))


def facts(**changes: object) -> Facts:
    # Field names and values of Facts.
    return replace(look(node(), Config()), **changes)  # type: ignore[arg-type]


def https(
    rule: bool | Unknown = True,
    *,
    any_host: bool | Unknown = True,
    certificate: bool | Unknown = True,
    on: Facts | None = None,
) -> Facts:
    """Facts about SECURE."""
    return replace(
        on or facts(),
        tls_canaries=(TlsCanary(SECURE.host, rule, "seen"), TlsCanary(ANY_HOST, any_host, "seen")),
        certificates=(CertificateCheck(SECURE.host, certificate, "seen"),),
    )


@pytest.mark.parametrize(
    ("asked", "fence", "switch"),
    [
        (Switch.AUTO, YES, Switch.FENCE),
        (Switch.AUTO, NO, Switch.NATIVE),
        (Switch.FENCE, YES, Switch.FENCE),
        (Switch.FENCE, NO, Switch.NATIVE),
        (Switch.NATIVE, YES, Switch.NATIVE),
        (Switch.AUTO, Unknown("not asked for"), Switch.NATIVE),
    ],
)
def test_the_mode_is_called_fence_only_where_the_fence_was_shown(
    asked: Switch, fence: FenceAbility | Unknown, switch: Switch
) -> None:
    found = effective(config(switch=asked), facts(fence=fence))
    assert found.switch is switch
    assert found.reasons[0].startswith(f"switch {switch.value}: ")
    assert asked is Switch.NATIVE or fence.reason in found.reasons[0]


def test_a_fence_that_was_not_tried_again_stays_what_it_was() -> None:
    made = node()
    carry_out(made, plan(Config(), look(made, Config())))
    seen = replace(look(made, Config()), fence=Unknown("not asked for"))
    assert effective(Config(), seen).switch is Switch.FENCE
    assert plan(Config(), seen).empty


@pytest.mark.parametrize("asked", [Dialect.AUTO, Dialect.PROXY])
def test_auto_is_the_dialect_that_every_nydusd_knows(asked: Dialect) -> None:
    assert effective(config(dialect=asked), facts()).dialect is Dialect.PROXY


MIRRORS = config(dialect=Dialect.MIRRORS, registry="https://registry.example")


@pytest.mark.parametrize(
    ("nydusd", "snapshotter", "says"),
    [
        ("v2.3.5", "0.13.4", "nydusd 2.3.5 ignores mirrors silently"),
        ("v2.4.4", "0.13.4", "nydusd 2.4.4"),
        ("v2.2.0", "0.16.0", "snapshotter 0.16.0 does not pass mirrors on"),
        ("v2.2.0", "0.16.1", "snapshotter 0.16.1"),
    ],
)
def test_mirrors_that_would_be_ignored_silently_are_refused(nydusd: str, snapshotter: str, says: str) -> None:
    with pytest.raises(PlanError) as caught:
        effective(MIRRORS, look(node(snapshotter, nydusd), MIRRORS))
    assert caught.value.code == "NNA0321"
    assert says in caught.value.cause
    assert caught.value.try_ == 'set mirror.dialect = "proxy"'


@pytest.mark.parametrize(("nydusd", "snapshotter"), [("v2.2.0", "0.13.4"), ("v2.3.4", "0.15.15")])
def test_mirrors_are_had_where_both_programs_know_them(nydusd: str, snapshotter: str) -> None:
    found = effective(MIRRORS, look(node(snapshotter, nydusd), MIRRORS))
    assert (found.dialect, found.use_http) == (Dialect.MIRRORS, False)
    assert any("one template serves all registries" in reason for reason in found.reasons)


def test_mirrors_with_both_programs_too_new_gives_both_reasons() -> None:
    with pytest.raises(PlanError) as caught:
        effective(MIRRORS, look(node("0.16.1", "v2.4.4"), MIRRORS))
    assert "snapshotter 0.16.1" in caught.value.seen[0]


def test_mirrors_without_a_registry_would_ask_a_stranger() -> None:
    with pytest.raises(PlanError, match=r"needs mirror\.registry"):
        effective(config(dialect=Dialect.MIRRORS), facts())


def test_a_nydusd_that_nobody_can_tell_is_tried_and_the_doubt_is_told() -> None:
    made = node(nydusd="unknown")
    for text in ("failure_limit", "connect_timeout"):  # a wrapper holds neither
        made.processes.on("grep", "-q", "-a", "-F", text, code=1)
    found = effective(MIRRORS, look(made, MIRRORS))
    assert any("cannot tell whether this nydusd knows mirrors" in reason for reason in found.reasons)


def test_without_https_registries_nothing_is_asked_for_in_plain_http() -> None:
    found = effective(config(PLAIN), https(on=facts()))
    assert (found.use_http, found.not_accelerated) == (False, ())


def test_https_registries_go_through_a_mirror_that_was_seen_to_speak_tls() -> None:
    found = effective(config(SECURE), https())
    assert (found.use_http, found.not_accelerated) == (True, ())
    assert any("Dragonfly verifies no certificate" in reason for reason in found.reasons)


@pytest.mark.parametrize("seen", SEEN[1:])
@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("rule", "goes direct, because "),
        ("certificate", "certificate"),
        ("any_host", "others could not be read"),
    ],
)
def test_a_registry_that_cannot_be_asked_in_plain_http_is_read_directly_and_said_so(
    what: str, says: str, seen: bool | Unknown
) -> None:
    """The setting is one for all: an https registry that no rule covers would be asked in plain http, and
    fail.
    """
    values = {"rule": True, "certificate": True, "any_host": True, what: seen}
    found = effective(
        config(SECURE),
        https(values["rule"], any_host=values["any_host"], certificate=values["certificate"]),
    )
    assert not found.use_http
    assert found.not_accelerated[0].startswith(f"{SECURE.host}: goes direct, because ")
    assert says in found.not_accelerated[0]


def test_a_rule_for_one_registry_is_enough_where_the_operator_named_all() -> None:
    named = Config(registries=RegistriesConfig(include=(SECURE.host,), hosts=(SECURE,)))
    assert effective(named, https(any_host=False)).use_http


def test_one_registry_that_cannot_takes_the_others_along_and_each_is_named() -> None:
    found = effective(config(SECURE, OTHER), https())
    assert not found.use_http
    assert [text.partition(":")[0] for text in found.not_accelerated] == [
        SECURE.host.partition(":")[0],
        OTHER.host,
    ]
    assert "one setting serves all registries" in found.not_accelerated[0]


def applied_with_https() -> Facts:
    made = node()
    wanted = config(SECURE)
    carry_out(made, plan(wanted, https(on=look(made, wanted))))
    return look(made, wanted)


def test_a_registry_that_is_down_for_a_moment_restarts_nothing() -> None:
    unknown = Unknown("no answer")
    seen = https(unknown, any_host=unknown, certificate=unknown, on=applied_with_https())
    found = effective(config(SECURE), seen)
    assert found.use_http
    assert plan(config(SECURE), seen).empty


def test_a_rule_that_is_gone_is_seen_although_it_was_there_once() -> None:
    seen = https(rule=False, on=applied_with_https())
    assert not effective(config(SECURE), seen).use_http


@pytest.mark.parametrize(
    ("hosts", "snapshotter", "scheme"),
    [
        ((), "0.13.4", Scheme.HTTPS),
        ((PLAIN,), "0.13.4", Scheme.HTTP),
        ((PLAIN, SECURE), "0.13.4", Scheme.HTTPS),
        ((SECURE,), "0.13.4", Scheme.HTTPS),
        ((PLAIN,), "0.16.1", Scheme.HTTPS),
        ((PLAIN, SECURE), "0.16.1", Scheme.HTTPS),
    ],
)
def test_one_scheme_serves_all_registries_but_where_each_can_have_its_own(
    hosts: tuple[RegistryHost, ...], snapshotter: str, scheme: Scheme
) -> None:
    wanted = config(*hosts)
    assert effective(wanted, look(node(snapshotter), wanted)).scheme is scheme


def test_registries_that_a_newer_nydusd_cannot_read_are_named() -> None:
    wanted = config(PLAIN, SECURE)
    found = effective(wanted, look(node(nydusd="v2.4.4"), wanted))
    assert any(f"nydus images of {PLAIN.host} cannot be read" in reason for reason in found.reasons)


def test_a_plain_registry_that_the_mirror_cannot_fetch_is_named() -> None:
    wanted = config(PLAIN)
    seen = replace(
        look(node(), wanted), tls_canaries=(TlsCanary(PLAIN.host, ok=False, evidence="status 400"),)
    )
    (told,) = effective(wanted, seen).not_accelerated
    assert told.startswith(f"{PLAIN.host}: goes direct, because ")


def test_a_choice_never_raises_so_that_the_proof_can_tell_it() -> None:
    _, refusals = choose(config(dialect=Dialect.MIRRORS), look(node("0.16.1", "v2.4.4"), Config()))
    assert [refusal.code for refusal in refusals] == ["NNA0321", "NNA0321", "NNA0321"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    made = node()
    made.files.drop("/usr/local/bin/nydusd")
    made.files.put("/usr/bin/containerd-nydus-grpc", ARM64)
    made.files.put("/etc/containerd/config.toml", b"version = [\n")
    made.units.systemd_running = False
    wanted = config(dialect=Dialect.MIRRORS)
    with pytest.raises(PlanError) as caught:
        plan(wanted, look(made, wanted))
    told = " ".join((f"[{caught.value.code}]", caught.value.cause, *caught.value.seen))
    for part in ("NNA0201", "nydusd is not in PATH", "NNA0201", "arm64", "NNA0311", "NNA0301", "NNA0321"):
        assert part in told
