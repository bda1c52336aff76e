"""What gets into the store, by whose word, and what is refused before anything is downloaded."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agent import paths
from agent.apply import locks, provide
from agent.apply.provide import Provided, Request, Wishes
from agent.artifacts import releases
from agent.artifacts.fetching import Progress, Source, SourceKind
from agent.artifacts.lock import Artifact, ArtifactName, Lock, parse, render
from agent.config.model import ArtifactsConfig, Config, Dialect, MirrorConfig
from agent.errors import ArtifactError
from agent.node.facts import Arch
from tests.fakes.node import FakeNode
from tests.unit import plan_node
from tests.unit.artifact_node import config, contents, install, release, store
from tests.unit.artifacts import elf

NYDUS, SNAPSHOTTER = ArtifactName.NYDUS, ArtifactName.SNAPSHOTTER
BOTH: Wishes = {NYDUS: "2.4.4", SNAPSHOTTER: "0.16.1"}
RELEASES = Source(SourceKind.RELEASE)


class Place:
    """A node, a lock of three releases, and the archives that it pins."""

    def __init__(self) -> None:
        self.node = plan_node.node()
        self.artifacts: tuple[Artifact, ...] = (
            release(NYDUS, "v2.4.3"), release(NYDUS, "v2.4.4"), release(SNAPSHOTTER, "v0.16.1"),
        )  # fmt: skip
        for one in self.artifacts:
            self.node.downloads.publish(one, contents(one.name, one.version))
        self.told: list[Progress] = []

    @property
    def lock(self) -> Lock:
        now = locks.utc(self.node.clock.now())
        return locks.made(self.artifacts, now)

    def found(self, lock: Lock | None = None) -> locks.Found:
        return locks.Found(lock or self.lock, "/etc/lock")

    def provide(self, request: Request, wanted: Config | None = None, *, switch: bool = True) -> Provided:
        return provide.provide(
            request, wanted or config(), self.node.artifact_ports, Arch.AMD64, self.told.append, switch=switch
        )

    def request(self, wishes: Wishes = BOTH, lock: Lock | None = None, *, older: bool = False) -> Request:
        return Request(wishes, RELEASES, self.found(lock), allow_older=older)


@pytest.fixture
def place() -> Place:
    return Place()


def refused(place: Place, request: Request, wanted: Config | None = None) -> ArtifactError:
    with pytest.raises(ArtifactError) as error:
        place.provide(request, wanted)
    return error.value


def test_what_the_lock_pins_is_fetched_verified_and_current(place: Place) -> None:
    made = place.provide(place.request())
    assert made.fetched
    assert store(place.node).current() == made.set
    assert [source.version for source in made.set.sources] == ["v2.4.4", "v0.16.1"]
    assert store(place.node).floor() == place.lock.serial
    assert place.told[-1].received == place.told[-1].total


def test_a_second_time_nothing_is_fetched_nor_written(place: Place) -> None:
    first = place.provide(place.request())
    place.node.downloads.error = ArtifactError("NNA1111", "no network")
    held = store(place.node)
    held.locked_by = "somebody"  # it need not even be locked
    again = place.provide(place.request())
    assert (again.set, again.fetched) == (first.set, False)


def test_apply_fetches_what_is_pinned_and_switches_nothing(place: Place) -> None:
    before = install(place.node, nydus="v2.4.3")
    wanted = config("2.4.4", "0.16.1")
    assert provide.missing(wanted, place.node.artifact_ports) == BOTH
    place.provide(place.request(), wanted, switch=False)
    assert store(place.node).current() == before
    assert provide.missing(wanted, place.node.artifact_ports) == {}


def test_what_is_not_pinned_is_never_fetched_by_apply(place: Place) -> None:
    for wanted in (Config(), config("current", "current"), config("a" * 64, "system")):
        assert provide.missing(wanted, place.node.artifact_ports) == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda lock: replace(lock, expires=lock.made), "NNA1103"),
        (lambda lock: replace(lock, made=lock.made + timedelta(days=9)), "NNA1104"),
        (lambda lock: replace(lock, minimum_agent="99.0.0"), "NNA1106"),
        (lambda lock: replace(lock, artifacts=()), "NNA1107"),
    ],
)  # fmt: skip
def test_a_lock_that_must_not_be_used_is_refused_before_anything_is_fetched(
    place: Place, change: object, code: str
) -> None:
    assert callable(change)
    assert refused(place, place.request(lock=change(place.lock))).code == code
    assert place.node.downloads.jobs == []


def test_an_old_lock_is_refused_unless_going_back_is_meant(place: Place) -> None:
    place.provide(place.request())
    old = replace(place.lock, serial=place.lock.serial - 1)
    request = place.request({NYDUS: "2.4.3", SNAPSHOTTER: "0.16.1"}, old)
    assert refused(place, request).code == "NNA1105"
    place.provide(replace(request, allow_older=True))
    assert store(place.node).floor() == old.serial


def test_a_lock_that_another_run_has_overtaken_meanwhile_neither_installs_nor_lowers_the_floor(place: Place) -> None:
    held, newer = store(place.node), replace(place.lock, serial=place.lock.serial + 1)

    def another_run() -> None:
        held.before_lock = lambda: None
        place.provide(place.request({NYDUS: "2.4.4", SNAPSHOTTER: "0.16.1"}, newer))

    held.before_lock = another_run
    assert refused(place, place.request({NYDUS: "2.4.3", SNAPSHOTTER: "0.16.1"})).code == "NNA1105"
    assert held.floor() == newer.serial
    assert [one.version(NYDUS) for one in held.sets()] == ["v2.4.4"]


def test_a_pair_that_cannot_work_is_refused_with_the_reason_before_anything_is_fetched(place: Place) -> None:
    wanted = replace(config(), mirror=MirrorConfig(dialect=Dialect.MIRRORS, registry="https://a.example"))
    error = refused(place, place.request(), wanted)
    assert error.code == "NNA1109"
    assert "ignores mirrors silently" in error.cause
    assert place.node.downloads.jobs == []


def test_the_system_s_own_snapshotter_counts_for_the_pair(place: Place) -> None:
    wanted = Config(
        mirror=MirrorConfig(dialect=Dialect.MIRRORS, registry="https://a.example"),
        artifacts=ArtifactsConfig(nydus="2.3.4"),
    )
    place.node = plan_node.node("0.16.1")
    old = release(NYDUS, "v2.3.4")
    place.artifacts = (old,)
    error = refused(place, place.request({NYDUS: "2.3.4"}), wanted)
    assert "snapshotter 0.16.1 does not pass mirrors on" in error.cause


def test_a_failed_download_leaves_the_store_as_it_was(place: Place) -> None:
    before = install(place.node, nydus="v2.4.3")
    place.node.downloads.error = ArtifactError("NNA1115", "another digest")
    assert refused(place, place.request()).code == "NNA1115"
    assert store(place.node).sets() == (before,)
    assert (store(place.node).current(), store(place.node).floor(), store(place.node).locked_by) == (before, 0, "")


@pytest.mark.parametrize(("code", "stays"), [("NNA1111", True), ("NNA1116", True), ("NNA1115", False), ("", False)])
def test_what_has_come_is_kept_for_the_next_run_where_only_the_way_failed(
    place: Place, code: str, *, stays: bool
) -> None:
    kept, held = f"{store(place.node).directory}/.begun/digest", place.node.files
    held.put(kept, b"half")
    if code:
        place.node.downloads.error = ArtifactError(code, "it failed")
        assert refused(place, place.request()).code == code
    else:
        place.provide(place.request())
    assert (kept in held.files) is stays


def test_without_a_lock_nothing_is_installed_on_nobody_s_word(place: Place) -> None:
    assert refused(place, Request(BOTH, RELEASES)).code == "NNA1110"


def published(place: Place, versions: Wishes = BOTH, build: bytes = b"") -> None:
    """Upstream's own URLs hold these releases."""
    for name, version in versions.items():
        assert version is not None
        held = {key: content + build for key, content in contents(name, f"v{version}").items()}
        place.node.downloads.publish(releases.release(name, version, Arch.AMD64), held)


def trusting(wishes: Wishes = BOTH, lock: locks.Found | None = None) -> Request:
    return Request(wishes, RELEASES, lock, trust=True)


def test_a_trusted_release_is_recorded_and_pinned_from_then_on(place: Place) -> None:
    published(place)
    made = place.provide(trusting())
    assert [one.version for one in made.pinned] == ["v2.4.4", "v0.16.1"]
    assert store(place.node).floor() == 0  # it is no floor for locks of others
    seen = locks.find(place.node.files, store(place.node), ArtifactsConfig())
    assert seen is not None
    assert (seen.seen, len(seen.lock.artifacts)) == (True, 2)
    assert place.provide(Request(BOTH, RELEASES, seen)).fetched is False
    # The release is replaced by somebody, and the store is empty again: the pin holds, trust or not.
    published(place, build=b"other")
    for one in store(place.node).sets():
        del store(place.node)._sets[one.id]
    assert refused(place, Request(BOTH, RELEASES, seen)).code == "NNA1115"
    assert refused(place, trusting(lock=seen)).code == "NNA1115"


def test_a_release_that_changed_beside_a_new_version_is_noticed_too(place: Place) -> None:
    published(place)
    place.provide(trusting())
    published(place, {NYDUS: "2.4.5", SNAPSHOTTER: "0.16.1"}, build=b"other")
    seen = locks.seen(store(place.node))
    error = refused(place, trusting({NYDUS: "2.4.5", SNAPSHOTTER: "0.16.1"}, seen))
    assert error.code == "NNA1124"
    assert "nydus-snapshotter v0.16.1" in error.what


def test_pins_of_other_versions_stay_when_one_is_added(place: Place) -> None:
    published(place)
    place.provide(trusting())
    published(place, {NYDUS: "2.4.5"})
    place.provide(trusting({NYDUS: "2.4.5", SNAPSHOTTER: "0.16.1"}, locks.seen(store(place.node))))
    content = store(place.node).seen_lock()
    assert content is not None
    held = parse(content, "seen")
    assert {one.version for one in held.artifacts} == {"v2.4.4", "v2.4.5", "v0.16.1"}


def test_trust_needs_a_version(place: Place) -> None:
    error = refused(place, trusting({NYDUS: None}))
    assert (error.code, error.what) == ("NNA1110", "no version of nydus was given")


def test_a_release_of_another_form_is_refused_with_the_reason() -> None:
    with pytest.raises(ArtifactError, match="cannot be installed"):
        releases.release(SNAPSHOTTER, "0.13.4", Arch.AMD64)
    assert releases.release(NYDUS, "2.4.4", Arch.ARM64).url.endswith("/v2.4.4/nydus-static-v2.4.4-linux-arm64.tgz")


@pytest.mark.parametrize(
    ("wanted", "given", "wishes"),
    [
        (config("system", "system"), {}, {NYDUS: None, SNAPSHOTTER: None}),
        (config("system", "system"), {NYDUS: "2.4.4"}, {NYDUS: "2.4.4"}),
        (config("current", "current"), {}, {NYDUS: None, SNAPSHOTTER: None}),
        (config("2.4.3", "system"), {}, {NYDUS: "2.4.3"}),
        (config("2.4.3", "current"), {NYDUS: "2.4.4"}, {NYDUS: "2.4.4", SNAPSHOTTER: "v0.16.1"}),
    ],
)
def test_what_is_installed_follows_the_configuration(wanted: Config, given: Wishes, wishes: Wishes) -> None:
    node = plan_node.node()
    install(node, nydus="v2.4.3")
    assert provide.wishes_of(wanted, store(node), given) == wishes


def files(**contents_: bytes) -> FakeNode:
    node = plan_node.node()
    names = {"own": paths.ARTIFACTS_LOCK, "shipped": paths.SHIPPED_ARTIFACTS_LOCK, "named": "/root/lock.toml"}
    for name, content in contents_.items():
        node.files.put(names[name], content)
    return node


def rendered(place: Place, *artifacts: Artifact) -> bytes:
    return render(replace(place.lock, artifacts=artifacts))


def path_of(node: FakeNode, settings: ArtifactsConfig | None = None, path: str = "") -> str:
    found = locks.find(node.files, store(node), settings or ArtifactsConfig(), path)
    return found.path if found is not None else ""


def test_the_operator_s_lock_goes_before_the_package_s_and_that_before_what_was_seen(place: Place) -> None:
    full, empty = rendered(place, *place.artifacts), rendered(place)
    assert path_of(files()) == ""
    assert path_of(files(own=full, shipped=full, named=full)) == paths.ARTIFACTS_LOCK
    assert path_of(files(own=full, named=full), path="/root/lock.toml") == "/root/lock.toml"
    assert path_of(files(own=full, named=full), ArtifactsConfig(lock="/root/lock.toml")) == "/root/lock.toml"
    assert path_of(files(own=empty, shipped=full)) == paths.SHIPPED_ARTIFACTS_LOCK
    node = files(shipped=empty)
    with store(node).lock("test"):
        store(node).keep_seen_lock(full)
    assert path_of(node).endswith("/seen.lock.toml")


def test_a_lock_that_is_damaged_or_gone_does_not_make_way_for_another(place: Place) -> None:
    full = rendered(place, *place.artifacts)
    with pytest.raises(ArtifactError) as error:
        path_of(files(own=b"version = 1\n", shipped=full))
    assert error.value.code == "NNA1102"
    with pytest.raises(ArtifactError) as error:
        path_of(files(own=full), ArtifactsConfig(lock="/root/gone.toml"))
    assert error.value.code == "NNA1101"


def test_a_program_of_a_changed_release_never_reaches_the_store(place: Place) -> None:
    place.node.downloads.publish(place.artifacts[1], {"nydusd": elf(b"evil")})
    assert refused(place, place.request()).code == "NNA1115"
    assert store(place.node).sets() == ()


def test_a_place_that_only_the_configuration_names_is_noted_for_the_purge(place: Place) -> None:
    wanted = replace(config(), artifacts=replace(config().artifacts, directory="/opt/nydus"))
    for version in ("2.4.3", "2.4.4"):
        place.provide(place.request({NYDUS: version, SNAPSHOTTER: "0.16.1"}), wanted)
    assert place.node.files.files[paths.ARTIFACTS_ELSEWHERE].content == b"/opt/nydus\n"
