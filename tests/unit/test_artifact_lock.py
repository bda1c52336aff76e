"""The lock file: what is in it comes back, and all that is wrong is told at once, with file, key, value and advice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.artifacts.lock import ArtifactName, Lock, checks, demand, parse, render
from agent.errors import ArtifactError, Problem
from agent.node.facts import Arch
from tests.unit.artifacts import NOW, artifact, elf, lock

PATH = "/etc/nydus-agent/artifacts.lock.toml"
GOOD = """\
version = 1
serial = 2026112701
made = 2026-11-27T17:40:00Z
expires = 2027-11-27T17:40:00Z
minimum_agent = "0.1.0"

[[artifact]]
name = "nydus"
version = "v2.4.4"
arch = "amd64"
url = "https://example.org/nydus-static-v2.4.4-linux-amd64.tgz"
size = 12345
sha256 = "{digest}"
[artifact.programs]
nydusd = {{ size = 1, sha256 = "{digest}" }}
""".format(digest="ab" * 32)


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ArtifactError) as caught:
        parse(text.encode(), PATH)
    assert caught.value.code == "NNA1102"
    assert {problem.file for problem in caught.value.problems} == {PATH}
    assert caught.value.seen == tuple(map(str, caught.value.problems))
    return caught.value.problems


def found(old: str, new: str) -> list[tuple[str, str]]:
    """(key, reason) of each problem once `old` is `new` in a lock that was good."""
    assert old in GOOD
    return [(problem.key, problem.reason) for problem in problems(GOOD.replace(old, new))]


def test_a_lock_says_what_was_written() -> None:
    read = parse(GOOD.encode(), PATH)
    assert (read.serial, read.minimum_agent) == (2026112701, "0.1.0")
    assert (read.made, read.expires) == (NOW, NOW.replace(year=2027))
    (nydus,) = read.artifacts
    assert (nydus.name, nydus.version, nydus.arch, nydus.size) == (ArtifactName.NYDUS, "v2.4.4", Arch.AMD64, 12345)
    assert nydus.archive == "nydus-static-v2.4.4-linux-amd64.tgz"
    assert [(item.name, item.size) for item in nydus.programs] == [("nydusd", 1)]


@pytest.mark.parametrize(
    "written",
    [
        lock(),
        lock(artifact()),
        lock(
            artifact(programs={"nydusd": elf(b"a"), "nydus-image": elf(b"b"), "c++.d": b"c"}),
            artifact(arch=Arch.ARM64),
            artifact(ArtifactName.SNAPSHOTTER, "v0.16.1-rc.2"),
        ),
        replace(lock(), made=datetime(2026, 1, 1, 1, tzinfo=UTC), minimum_agent="1.2.3~dev"),
    ],
)
def test_a_rendered_lock_is_read_back_as_it_was(written: Lock) -> None:
    assert parse(render(written), PATH) == written
    assert render(parse(render(written), PATH)) == render(written)


def test_an_empty_lock_is_a_lock() -> None:
    """The package's own may hold no digest that its makers could not see themselves."""
    assert parse(render(lock()), PATH).artifacts == ()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"version =", b"<html>not found</html>", b"#" * (1 << 20) + b"\n#"])
def test_what_is_no_toml_is_told_apart_from_a_wrong_lock(content: bytes) -> None:
    with pytest.raises(ArtifactError) as caught:
        parse(content, PATH)
    assert caught.value.code == "NNA1101"
    assert PATH in caught.value.what
    assert caught.value.cause


def test_a_lock_that_is_nested_without_end_is_refused_and_does_not_end_the_program() -> None:
    with pytest.raises(ArtifactError) as caught:
        parse(b"a = " + b"[" * 100_000, PATH)
    assert caught.value.code == "NNA1101"


def test_all_problems_are_told_at_once() -> None:
    wrong = GOOD.replace("2026112701", '"x"').replace('"amd64"', '"s390x"').replace("size = 12345", "size = 0")
    wrong = wrong.replace("[artifact.programs]", "colour = 1\n[artifact.programs]").replace("expires", "expiry")
    assert {problem.key for problem in problems(wrong)} == {
        "serial", "expires", "expiry", "artifact[0].arch", "artifact[0].size", "artifact[0].colour",
    }  # fmt: skip
    assert all(problem.reason and problem.action for problem in problems(wrong))


def test_a_misspelt_key_is_told_with_the_right_one() -> None:
    (wrong, missing) = sorted(problems(GOOD.replace("minimum_agent", "minimal_agent")), key=lambda item: item.key)
    assert (wrong.key, wrong.value, wrong.action) == ("minimal_agent", '"0.1.0"', "did you mean minimum_agent?")
    assert (missing.key, missing.reason) == ("minimum_agent", "is missing")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("version = 1", "version = 2", "version"),
        ("version = 1", "version = true", "version"),
        ("2026112701", "0", "serial"),
        ("2026112701", "99999999999", "serial"),
        ("2026112701", "1.5", "serial"),
        ("2026-11-27T17:40:00Z", "2026-11-27T17:40:00", "made"),
        ("2026-11-27T17:40:00Z", '"2026-11-27T17:40:00Z"', "made"),
        ("2026-11-27T17:40:00Z", "0001-01-01T00:00:00+14:00", "made"),
        ("2027-11-27T17:40:00Z", "2026-11-27T17:40:00Z", "expires"),
        ('"0.1.0"', '"soon"', "minimum_agent"),
        ('"0.1.0"', '"1234567890.1.0"', "minimum_agent"),
        ("[[artifact]]", "[artifact]", "artifact"),
        ('"nydus"', '"nydusd"', "artifact[0].name"),
        ('"v2.4.4"', '"2.4.4"', "artifact[0].version"),
        ('"v2.4.4"', '"v2.4.4/../.."', "artifact[0].version"),
        ('"v2.4.4"', f'"v2.4.4-{"9" * 65}"', "artifact[0].version"),
        ('"amd64"', '"script"', "artifact[0].arch"),
        ('"amd64"', '["amd64"]', "artifact[0].arch"),
        ("https://", "file://", "artifact[0].url"),
        ("https://", "https://user:word@", "artifact[0].url"),
        ("amd64.tgz", "amd64.tgz?token=1", "artifact[0].url"),
        ("amd64.tgz", "amd64.tgz#x", "artifact[0].url"),
        ("nydus-static-v2.4.4-linux-amd64.tgz", "", "artifact[0].url"),
        ("nydus-static-v2.4.4-linux-amd64.tgz", "..", "artifact[0].url"),
        ("12345", "-1", "artifact[0].size"),
        ("12345", "1099511627776", "artifact[0].size"),
        ("ab" * 32, "ab" * 31, "artifact[0].sha256"),
        ("ab" * 32, "AB" * 32, "artifact[0].sha256"),
        ("[artifact.programs]\nnydusd", "programs.nydus-image", "artifact[0].programs"),
        ("nydusd = { size = 1,", "nydusd = { size = 0,", "artifact[0].programs.nydusd.size"),
        ("nydusd = { size = 1,", "nydusd = { mode = 1, size = 1,", "artifact[0].programs.nydusd.mode"),
        ("nydusd = ", '"../nydusd" = ', "artifact[0].programs.'../nydusd'"),
        ("nydusd = ", '"/bin/sh" = ', "artifact[0].programs.'/bin/sh'"),
        ("nydusd = ", '".." = ', "artifact[0].programs.'..'"),
        ("nydusd = ", '"" = ', "artifact[0].programs.''"),
        ("nydusd = ", '"a\\u0000b" = ', "artifact[0].programs.'a\\x00b'"),
        ("nydusd = ", '"set.json" = ', "artifact[0].programs.'set.json'"),
        ("nydusd = ", "programs = ", "artifact[0].programs.programs"),
        ("nydusd = {", "other = 1\nnydusd = {", "artifact[0].programs.other"),
    ],
)
def test_no_wrong_value_passes(old: str, new: str, key: str) -> None:
    assert key in [place for place, _ in found(old, new)]


def test_an_artifact_without_its_main_program_is_told() -> None:
    swapped = GOOD.replace('name = "nydus"', 'name = "nydus-snapshotter"')
    assert [problem.reason for problem in problems(swapped)] == ["holds no containerd-nydus-grpc"]


def test_two_entries_for_one_artifact_are_refused_because_their_order_would_decide() -> None:
    other = replace(artifact(), size=999)
    (problem,) = problems(render(lock(artifact(), artifact(arch=Arch.ARM64), other)).decode())
    assert (problem.key, problem.reason) == ("artifact[2]", "is there already, as artifact[0]")


def test_a_lock_with_too_many_entries_is_refused_as_such() -> None:
    assert ("artifact", "has more than 64 entries") in [
        (problem.key, problem.reason) for problem in problems(GOOD.partition("[[")[0] + "[[artifact]]\n" * 65)
    ]


def test_programs_of_more_than_the_cap_together_are_refused() -> None:
    big = GOOD.replace("{ size = 1,", "{ size = 1073741824,") + f'b = {{ size = 1, sha256 = "{"0" * 64}" }}\n'
    assert [problem.reason for problem in problems(big)] == ["are more than 1 GiB together"]


def codes(lock: Lock, *, now: datetime = NOW, floor: int = 0, agent: str = "0.1.0") -> list[str]:
    return [found.code for found in checks(lock, PATH, now=now, floor=floor, agent_version=agent)]


def test_a_lock_is_used_until_it_expires_and_not_a_moment_longer() -> None:
    held = lock()
    assert codes(held, now=held.expires - timedelta(seconds=1)) == []
    assert codes(held, now=held.expires) == ["NNA1103"]


def test_a_node_whose_clock_was_never_set_is_told_so_instead_of_trusting_an_expiry() -> None:
    held = lock()
    assert codes(held, now=held.made - timedelta(hours=23)) == []
    assert codes(held, now=datetime(1970, 1, 1, tzinfo=UTC)) == ["NNA1104"]


def test_an_old_lock_that_is_played_back_is_refused() -> None:
    held = lock(serial=7)
    assert codes(held, floor=7) == []
    assert codes(held, floor=6) == []
    assert codes(held, floor=8) == ["NNA1105"]


@pytest.mark.parametrize(
    ("agent", "minimum", "fits"),
    [
        ("0.1.0", "0.1.0", True), ("0.10.0", "0.9.0", True), ("0.9.0", "0.10.0", False), ("0.1.0~dev", "0.1.0", True),
        ("1.0.0", "0.99.99", True), ("0.1.0", "0.1.1", False),
    ],
)  # fmt: skip
def test_a_lock_that_needs_a_newer_agent_is_refused(agent: str, minimum: str, fits: bool) -> None:
    assert codes(replace(lock(), minimum_agent=minimum), agent=agent) == ([] if fits else ["NNA1106"])


def test_everything_that_speaks_against_a_lock_is_told_at_once() -> None:
    held = lock(serial=7)
    with pytest.raises(ArtifactError) as caught:
        demand(held, PATH, now=held.expires, floor=8, agent_version="0.0.1")
    assert caught.value.code == "NNA1103"
    assert [problem.key for problem in caught.value.problems] == ["expires", "serial", "minimum_agent"]
    demand(held, PATH, now=NOW, floor=7, agent_version="0.1.0")
