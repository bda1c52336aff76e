"""Plans over small worlds: each ends, each prefix is safe, and each can be undone."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import paths
from agent.config.model import (
    Config,
    ContainerdConfig,
    ContainerdMode,
    MirrorConfig,
    RegistriesConfig,
    Switch,
)
from agent.errors import PlanError
from agent.facts.node import marked
from agent.plan import invariants
from agent.plan.diff import plan
from agent.plan.removal import removal
from agent.ports import TlsSight
from agent.steps import (
    AwaitSnapshotter,
    CheckContainerdConfig,
    Former,
    Plan,
    RemoveFile,
    Step,
    UnitStep,
    UnitVerb,
    WriteFile,
)
from tests.fakes.node import FakeNode
from tests.unit.containerd_cases import cases
from tests.unit.plan_node import CONTAINERD_CONFIG, PLAIN, SECURE, carry_out, look, node, sha256

# In 1.6 one of the modes is refused.
CASES = [case for case in cases() if case.root == CONTAINERD_CONFIG and case.version != "1.6.20"]

CONFIGS = st.builds(
    lambda switch, mode, hosts, every: Config(
        mirror=MirrorConfig(switch=switch),
        containerd=ContainerdConfig(mode=mode),
        registries=RegistriesConfig(
            include=("*",) if every else tuple(host.host for host in hosts), hosts=hosts
        ),
    ),
    st.sampled_from(Switch),
    st.sampled_from(ContainerdMode),
    st.sampled_from([(), (PLAIN,), (SECURE,), (PLAIN, SECURE)]),
    st.booleans(),
)
FOREIGN = st.dictionaries(
    st.sampled_from(
        [
            paths.NYDUSD_TEMPLATE, paths.SNAPSHOTTER_CONFIG, paths.SNAPSHOTTER_UNIT_FILE,
            "/etc/containerd/certs.d/_default/hosts.toml", "/etc/containerd/certs.d/docker.io/hosts.toml",
        ]
    ),
    st.sampled_from([b"", b"theirs\n", b"# Managed by nydus-agent; an older one\n"]),
)  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> FakeNode:
    """A node with one of the golden containerd configurations, files of others, and a snapshotter or none."""
    case = draw(st.sampled_from(CASES))
    made = node(draw(st.sampled_from(["0.13.4", "0.16.1"])), containerd=case.version)
    made.files.drop(CONTAINERD_CONFIG)
    for path, content in case.before.items():
        made.files.put(path, content)
    for path, content in draw(FOREIGN).items():
        made.files.put(path, content, mode=draw(st.sampled_from([0o600, 0o644])))
    made.files.put(SECURE.ca, b"CA\n")
    made.units.reload()
    if paths.SNAPSHOTTER_UNIT in made.units.units and draw(st.booleans()):
        made.units.job(paths.SNAPSHOTTER_UNIT, "start", deadline_s=1)
    sight = draw(st.sampled_from(TlsSight))
    made.tls.sight_of = lambda: sight
    return made


QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(made=worlds(), wanted=CONFIGS)
def test_what_was_applied_needs_no_second_time(made: FakeNode, wanted: Config) -> None:
    carry_out(made, plan(wanted, look(made, wanted)))
    assert plan(wanted, look(made, wanted)).steps == ()


@QUICK
@given(made=worlds(), first=CONFIGS, second=CONFIGS)
def test_any_configuration_follows_any_other_safely(made: FakeNode, first: Config, second: Config) -> None:
    for wanted in (first, second):
        seen = look(made, wanted)
        found = plan(wanted, seen)
        assert invariants.violations(found, seen) == ()
        carry_out(made, found)
    assert plan(second, look(made, second)).steps == ()


@QUICK
@given(made=worlds(), wanted=CONFIGS, cut=st.integers(0, 30))
def test_a_plan_that_was_cut_anywhere_is_finished_by_the_next(
    made: FakeNode, wanted: Config, cut: int
) -> None:
    found = plan(wanted, look(made, wanted))
    carry_out(made, found.steps[:cut])
    carry_out(made, plan(wanted, look(made, wanted)))
    assert plan(wanted, look(made, wanted)).steps == ()
    assert made.units.units[paths.SNAPSHOTTER_UNIT].active_state == "active"


def meaning(content: bytes) -> object:
    """What a TOML file says, without empty tables."""

    def lean(value: object) -> object:
        if not isinstance(value, dict):
            return value
        cleaned = {key: lean(inner) for key, inner in value.items()}
        return {key: inner for key, inner in cleaned.items() if inner != {}}

    return lean(tomllib.loads(content.decode()))


@QUICK
@given(made=worlds(), first=CONFIGS, second=CONFIGS)
def test_after_removal_nothing_of_ours_is_left_and_all_of_others_is(
    made: FakeNode, first: Config, second: Config
) -> None:
    before = dict(made.files.files)
    records: dict[str, WriteFile] = {}
    for wanted in (first, second):
        found = plan(wanted, look(made, wanted))
        for step in found.steps:
            if isinstance(step, WriteFile):
                records.setdefault(step.path, step)
        carry_out(made, found)
    carry_out(made, removal(second, look(made, second), tuple(records.values()), Former()))
    after = made.files.files
    ours = {path for path, file in after.items() if marked(file.content) and path not in before}
    assert ours == set()
    assert set(before) - set(after) <= {path for path, file in before.items() if marked(file.content)}
    assert (CONTAINERD_CONFIG in after) == (CONTAINERD_CONFIG in before)
    if CONTAINERD_CONFIG in before:
        assert meaning(after[CONTAINERD_CONFIG].content) == meaning(before[CONTAINERD_CONFIG].content)


SAFE = plan(Config(), look(node(), Config()))


def broken(steps: tuple[Step, ...]) -> tuple[str, ...]:
    return invariants.violations(Plan(steps), look(node(), Config()))


def test_the_usual_plan_passes() -> None:
    assert broken(SAFE.steps) == ()


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (AwaitSnapshotter, "not seen answering"),
        (CheckContainerdConfig, "unchecked"),
        (UnitVerb.ENABLE, "does not start at boot"),
    ],
)
def test_a_plan_that_leaves_out_what_makes_it_safe_is_refused(missing: object, says: str) -> None:
    steps = tuple(
        step
        for step in SAFE.steps
        if type(step) is not missing and not (isinstance(step, UnitStep) and step.verb is missing)
    )
    assert len(steps) == len(SAFE.steps) - 1
    assert any(says in text for text in broken(steps))
    with pytest.raises(PlanError) as caught:
        invariants.check(Plan(steps), look(node(), Config()))
    assert caught.value.code == "NNA0390"


def test_a_plan_that_names_the_snapshotter_before_it_answers_is_refused() -> None:
    late = sorted(SAFE.steps, key=lambda step: isinstance(step, AwaitSnapshotter))
    assert any("not seen answering" in text for text in broken(tuple(late)))


def test_a_plan_that_names_a_snapshotter_which_is_not_registered_is_refused() -> None:
    half = b'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "nydus"\n'
    steps = [
        replace(step, content=half)
        if isinstance(step, WriteFile) and step.path == CONTAINERD_CONFIG
        else step
        for step in SAFE.steps
    ]
    checked = [
        replace(step, candidate=half) if isinstance(step, CheckContainerdConfig) else step for step in steps
    ]
    assert any("not registered" in text for text in broken(tuple(checked)))


def test_a_plan_that_stops_the_snapshotter_under_containerd_is_refused() -> None:
    stop = UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.STOP, "")
    assert any("not seen answering" in text for text in broken((*SAFE.steps, stop)))


def test_a_plan_that_forgets_what_others_wrote_is_refused() -> None:
    steps = [
        replace(step, content_before=b"something else") if isinstance(step, WriteFile) else step
        for step in SAFE.steps
    ]
    assert any("without a record" in text for text in broken(tuple(steps)))
    gone = RemoveFile(CONTAINERD_CONFIG, "", sha256(b""), b"", 0o644)
    assert any("without a record" in text for text in broken((gone,)))
