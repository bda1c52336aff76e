"""Programs of installed packages are used as the configuration says, or refused with the reason and the
command.
"""

from __future__ import annotations

import pytest

from agent import paths
from agent.config import accepted
from agent.config.model import Config
from agent.errors import FileError, PlanError
from agent.facts.node import Binary, Facts, Unknown
from agent.node import installed
from agent.plan.diff import plan
from tests.fakes.node import FakeNode
from tests.fakes.programs import NYDUS, SNAPSHOTTER, config, install
from tests.unit import plan_node
from tests.unit.plan_node import carry_out, look


def node() -> FakeNode:
    """Nothing of nydus in PATH."""
    made = plan_node.node()
    for name in ("/usr/local/bin/nydusd", "/usr/local/bin/nydus-image", "/usr/bin/containerd-nydus-grpc"):
        made.files.drop(name)
    return made


def packaged(nydus: str = "2.4.4", snapshotter: str = "0.16.1") -> FakeNode:
    made = node()
    install(made, NYDUS, nydus)
    install(made, SNAPSHOTTER, snapshotter)
    return made


def binary(fact: object) -> Binary:
    assert isinstance(fact, Binary)
    return fact


def test_without_a_package_the_programs_in_path_are_used() -> None:
    facts = look(plan_node.node(), Config())
    assert binary(facts.nydusd).path == "/usr/local/bin/nydusd"
    assert (facts.programs, facts.missing) == ((), ())


def test_a_package_goes_before_path_and_system_means_path() -> None:
    made = plan_node.node()
    directory = install(made, NYDUS, "2.4.4")
    assert binary(look(made, config()).nydusd).path == f"{directory}/nydusd"
    assert binary(look(made, config("system")).nydusd).path == "/usr/local/bin/nydusd"


def test_the_newest_version_is_used_by_its_numbers_and_a_release_goes_before_its_candidates() -> None:
    made = packaged("2.4.9")
    for version in ("2.4.10-rc.2", "2.4.10-rc.1", "2.3.11"):
        install(made, NYDUS, version)
    assert installed.versions_here(made.files, NYDUS) == ("2.4.10-rc.2", "2.4.10-rc.1", "2.4.9", "2.3.11")
    directory = install(made, NYDUS, "2.4.10")
    facts = look(made, config())
    assert binary(facts.nydusd).path == f"{directory}/nydusd"
    assert {(one.project, one.version) for one in facts.programs} == {
        ("nydus", "2.4.10"),
        ("nydus-snapshotter", "0.16.1"),
    }


def test_what_is_no_package_of_ours_or_not_unpacked_yet_does_not_count() -> None:
    made = packaged()
    for name in ("nydus-9", "nydus-latest", "nydusd-9.9.9", "9.9.9"):
        made.files.put(f"{paths.PROGRAMS}/{name}/nydusd", b"x")
    made.files.put(f"{NYDUS.directory('9.9.9')}/nydusd.dpkg-new", b"x")
    assert installed.versions_here(made.files, NYDUS) == ("2.4.4",)
    assert installed.versions_here(made.files, SNAPSHOTTER) == ("0.16.1",)


def test_a_named_version_is_taken_even_where_a_newer_one_is_installed() -> None:
    made = packaged("2.4.3")
    install(made, NYDUS, "2.4.4")
    assert binary(look(made, config("2.4.3")).nydusd).path == f"{NYDUS.directory('2.4.3')}/nydusd"


def test_a_program_that_tells_no_version_has_that_of_its_package_without_asking_dpkg() -> None:
    made = node()
    directory = install(made, NYDUS, "2.2.0", says="unknown")
    made.processes.ran.clear()
    assert binary(look(made, config()).nydusd).version == (2, 2, 0)
    assert not any(argv[:3] == ("dpkg-query", "-S", f"{directory}/nydusd") for argv in made.processes.ran)


def test_a_version_that_is_not_installed_is_refused_once_with_the_command_that_installs_it() -> None:
    made = packaged("2.4.3")
    facts = look(made, config("2.4.5"))
    with pytest.raises(PlanError) as error:
        plan(config("2.4.5"), facts)
    assert (error.value.code, error.value.try_) == ("NNA0201", "sudo apt install nydus-programs-2.4.5")
    assert error.value.cause == "nydus-programs-2.4.5 is not installed (installed versions: 2.4.3)"
    assert not any("not in PATH" in text for text in error.value.seen)


def test_with_nothing_installed_and_nothing_in_path_the_way_to_packages_is_told() -> None:
    with pytest.raises(PlanError) as error:
        plan(config(), look(node(), config()))
    assert error.value.code == "NNA0201"
    assert error.value.try_.endswith("nydus-agent programs --help")


def test_a_directory_that_cannot_be_looked_at_is_not_taken_for_an_empty_one() -> None:
    made = packaged()
    made.files.unreadable[f"{NYDUS.directory('2.4.4')}/nydusd"] = FileError("NNA0422", "no permission")
    facts = look(made, config())
    assert isinstance(facts.nydusd, Unknown)
    assert isinstance(facts.nydus_image, Unknown)


def applied(wanted: Config) -> FakeNode:
    made = packaged()
    carry_out(made, plan(wanted, look(made, wanted)))
    return made


def test_what_is_applied_names_the_programs_by_their_version() -> None:
    made = applied(config())
    text = made.files.files[paths.SNAPSHOTTER_CONFIG].content.decode()
    assert f'nydusd_path = "{NYDUS.directory("2.4.4")}/nydusd"' in text
    assert f"ExecStart={SNAPSHOTTER.directory('0.16.1')}/containerd-nydus-grpc " in (
        made.files.files[paths.SNAPSHOTTER_UNIT_FILE].content.decode()
    )
    assert plan(config(), look(made, config())).empty


def test_a_record_keeps_the_version_that_newest_was_then() -> None:
    made = packaged("2.4.3")
    then = accepted.record(installed.pinned(config(snapshotter="system"), look(made, config()).programs[:1]))
    install(made, NYDUS, "2.4.4")
    back = accepted.restored(config(), then)
    assert (back.programs.nydus, back.programs.snapshotter) == ("2.4.3", "system")
    assert binary(look(made, back).nydusd).path == f"{NYDUS.directory('2.4.3')}/nydusd"
    resolved = installed.resolved(config(), made.files)
    assert (resolved.programs.nydus, resolved.programs.snapshotter) == ("2.4.4", "0.16.1")


def test_where_newest_is_what_is_in_path_a_record_says_so() -> None:
    made = plan_node.node()
    assert installed.resolved(Config(), made.files).programs.nydus == "system"
    assert installed.pinned(Config(), look(made, Config()).programs).programs.nydus == "system"


def facts_of(snapshotter: str) -> Facts:
    return look(packaged(snapshotter=snapshotter), config())


def test_a_plan_warns_of_a_version_that_works_badly() -> None:
    assert any(
        "containerd/nydus-snapshotter#687" in one for one in plan(config(), facts_of("0.15.13")).warnings
    )
    assert not any("nydus-snapshotter#687" in one for one in plan(config(), facts_of("0.16.1")).warnings)
