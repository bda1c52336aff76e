"""Programs of the store are used exactly as the configuration says, or refused with the reason and the command."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent import paths
from agent.artifacts.lock import ArtifactName
from agent.config import accepted
from agent.config.model import Config
from agent.errors import PlanError
from agent.node import sets
from agent.node.facts import Arch, Binary, Facts
from agent.node.observe import observe
from agent.plan.diff import plan
from tests.fakes.node import FakeNode
from tests.unit import plan_node
from tests.unit.artifact_node import config, install, speak, store
from tests.unit.artifacts import elf
from tests.unit.plan_node import carry_out, look, verbs


def node() -> FakeNode:
    """Nothing of nydus in PATH."""
    made = plan_node.node()
    for name in ("/usr/local/bin/nydusd", "/usr/local/bin/nydus-image", "/usr/bin/containerd-nydus-grpc"):
        made.files.drop(name)
    return made


def binary(fact: object) -> Binary:
    assert isinstance(fact, Binary)
    return fact


def reason(facts: Facts) -> tuple[str, str, str]:
    (one,) = facts.unfit
    return one.code, one.reason, one.try_


def test_with_the_system_s_programs_no_store_is_looked_at() -> None:
    made = plan_node.node()
    ports = replace(made.ports, stores=lambda directory: pytest.fail(f"{directory} was opened"))
    assert observe(Config(), ports).sets == ()


def test_the_current_set_s_programs_are_used_by_their_versioned_paths() -> None:
    made = node()
    one = install(made)
    facts = look(made, config())
    assert binary(facts.nydusd).path == f"{one.directory}/nydusd"
    assert binary(facts.nydusd).version == (2, 4, 4)
    assert binary(facts.snapshotter).path == f"{one.directory}/containerd-nydus-grpc"
    assert {(chosen.artifact, chosen.id) for chosen in facts.sets} == {
        ("nydus", one.id),
        ("nydus-snapshotter", one.id),
    }


def test_a_program_that_tells_no_version_has_that_of_its_release_without_asking_dpkg() -> None:
    made = node()
    one = install(made, nydus="v2.2.0")
    speak(made, one, nydus="unknown")
    made.processes.ran.clear()
    assert binary(look(made, config()).nydusd).version == (2, 2, 0)
    assert not any(argv[:3] == ("dpkg-query", "-S", f"{one.directory}/nydusd") for argv in made.processes.ran)


def test_a_pinned_version_is_taken_even_where_another_is_current() -> None:
    made = node()
    old, new = install(made, nydus="v2.4.3"), install(made, nydus="v2.4.4")
    assert binary(look(made, config("2.4.3")).nydusd).path == f"{old.directory}/nydusd"
    assert binary(look(made, config("v2.4.4")).nydusd).path == f"{new.directory}/nydusd"
    assert binary(look(made, config(old.id)).nydusd).path == f"{old.directory}/nydusd"


def test_each_archive_is_chosen_by_itself() -> None:
    made = node()
    first = install(made, snapshotter="")
    second = install(made, nydus="", snapshotter="v0.16.1")
    facts = look(made, config("2.4.4", "0.16.1"))
    assert [one.id for one in facts.sets] == [first.id, second.id]


def test_a_version_that_is_not_installed_is_refused_with_the_command_that_installs_it() -> None:
    made = node()
    install(made)
    code, why, try_ = reason(look(made, config("2.4.5")))
    assert (code, try_) == ("NNA0207", "nydus-agent artifacts install --nydus 2.4.5")
    assert "nydus v2.4.5 is not installed (installed: v2.4.4)" in why


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("current", "nothing is installed below"),
        ("b" * 64, "set bbbbbbbbbbbb is not installed"),
        ("2.4.4", "installed: none is"),
    ],
)
def test_an_empty_store_is_refused_in_words(wanted: str, why: str) -> None:
    code, told, try_ = reason(look(node(), config(wanted, "system")))
    assert code == "NNA0207"
    assert why in told
    assert try_.startswith("nydus-agent artifacts install")


def test_a_current_set_without_a_snapshotter_is_told_apart_from_an_empty_store() -> None:
    made = node()
    install(made, snapshotter="")
    assert reason(look(made, config()))[1] == "the current set has no nydus-snapshotter"


def test_programs_of_another_architecture_are_refused() -> None:
    made = node()
    install(made, snapshotter="", arch=Arch.ARM64)
    code, why, _ = reason(look(made, config(snapshotter="system")))
    assert code == "NNA0202"
    assert "is built for arm64, this node is amd64" in why


def test_a_program_that_was_changed_since_is_refused_and_not_run() -> None:
    made = node()
    one = install(made)
    made.files.put(f"{one.directory}/nydusd", elf(b"evil"))
    made.processes.ran.clear()
    facts = look(made, config())
    assert {(wrong.code, wrong.try_) for wrong in facts.unfit} == {
        ("NNA1135", f"nydus-agent artifacts verify {one.id[:12]}")
    }
    assert not any(argv[0].startswith(one.directory) for argv in made.processes.ran)


def test_a_program_that_says_another_version_than_its_release_is_refused() -> None:
    made = node()
    one = install(made)
    speak(made, one, nydus="v2.4.3")
    code, why, _ = reason(look(made, config(snapshotter="system")))
    assert code == "NNA0208"
    assert "says that it is v2.4.3, and was installed as v2.4.4" in why


def test_a_plan_names_what_is_missing_once_and_by_its_own_code() -> None:
    made = node()
    facts = look(made, config())
    with pytest.raises(PlanError) as error:
        plan(config(), facts)
    assert error.value.code == "NNA0207"
    assert not any("not in PATH" in text for text in error.value.seen)


def applied(wanted: Config) -> FakeNode:
    made = node()
    install(made)
    carry_out(made, plan(wanted, look(made, wanted)))
    return made


def test_what_is_applied_names_the_programs_by_their_set() -> None:
    made = applied(config())
    (one,) = store(made).sets()
    text = made.files.files[paths.SNAPSHOTTER_CONFIG].content.decode()
    assert f'nydusd_path = "{one.directory}/nydusd"' in text
    assert f"ExecStart={one.directory}/containerd-nydus-grpc " in (
        made.files.files[paths.SNAPSHOTTER_UNIT_FILE].content.decode()
    )
    assert plan(config(), look(made, config())).empty


def test_another_set_with_the_same_bytes_restarts_nothing() -> None:
    """Only nydusctl differs, which nothing of ours runs."""
    made = applied(config())
    other = install(made, changed={"nydusctl": elf(b"another build")})
    assert store(made).current() == other
    assert plan(config(), look(made, config())).empty


def test_a_new_nydusd_restarts_the_snapshotter_and_not_containerd() -> None:
    made = applied(config())
    new = install(made, nydus="v2.4.5")
    made_plan = plan(config(), look(made, config()))
    assert verbs(made_plan) == ["restart nydus-snapshotter.service"]
    carry_out(made, made_plan)
    text = made.files.files[paths.SNAPSHOTTER_CONFIG].content.decode()
    assert f"{new.directory}/nydusd" in text
    # The snapshotter's own bytes are the same, so its path is.
    assert new.directory not in made.files.files[paths.SNAPSHOTTER_UNIT_FILE].content.decode()


def test_the_path_on_the_node_is_kept_only_while_its_program_is_whole() -> None:
    made = applied(config())
    (old,) = store(made).sets()
    new = install(made, changed={"nydusctl": elf(b"another build")})
    made.files.put(f"{old.directory}/nydusd", elf(b"evil"))
    assert binary(look(made, config()).nydusd).path == f"{new.directory}/nydusd"


def test_a_record_keeps_the_set_that_current_was_then() -> None:
    made = node()
    old = install(made)
    then = accepted.record(sets.pinned(config(snapshotter="system"), look(made, config(snapshotter="system")).sets))
    install(made, nydus="v2.4.5")
    back = accepted.restored(config(), then)
    assert (back.artifacts.nydus, back.artifacts.snapshotter) == (old.id, "system")
    assert binary(look(made, back).nydusd).path == f"{old.directory}/nydusd"


def test_sets_are_found_in_what_is_rendered() -> None:
    one, other = "a" * 64, "b" * 64
    text = f'nydusd_path = "/s/{one}/nydusd"\nnydusimage_path = "/s/{other}/nydus-image"\nx = "/t/{"c" * 64}/nydusd"'
    assert sets.named(text, "/s") == (one, other)
    assert sets.named(text, "/s", "nydusd") == (one,)
    assert sets.named(text, "/s", "nydus") == ()
    assert sets.wanted_of(config("2.4.4", "current").artifacts, ArtifactName.SNAPSHOTTER) == "current"
