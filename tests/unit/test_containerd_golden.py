"""containerd's files in the manner of distributions and installers: applied, applied again, and removed."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from agent.containerd.render import candidate
from agent.containerd.view import at
from agent.containerd.wishes import possible_keys
from agent.plan import invariants
from agent.plan.diff import plan
from agent.plan.removal import removal
from agent.steps import CheckContainerdConfig, Former
from tests.unit.containerd_cases import Case, cases
from tests.unit.plan_node import carry_out, look, writes
from tests.unit.test_render_containerd import without

GOLDEN = cases()
each = pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.id)


def there(made: Any, case: Case) -> dict[str, bytes]:
    """containerd's files on a node of fakes, without hosts.toml files."""
    directory = case.root.rpartition("/")[0]
    found = {
        path: file.content for path, file in made.files.files.items() if path.startswith(f"{directory}/")
    }
    return {path: content for path, content in found.items() if "/certs.d/" not in path}


@each
def test_what_is_applied_is_the_golden_one(case: Case) -> None:
    made = case.fake_node()
    seen = look(made, case.config)
    found = plan(case.config, seen)
    assert invariants.violations(found, seen, case.root) == ()
    carry_out(made, found)
    assert there(made, case) == case.after


@each
def test_a_second_apply_writes_nothing(case: Case) -> None:
    made = case.fake_node()
    carry_out(made, plan(case.config, look(made, case.config)))
    assert plan(case.config, look(made, case.config)).steps == ()


@each
def test_removal_gives_every_file_back_byte_for_byte(case: Case) -> None:
    made = case.fake_node()
    before = made.files.snapshot()
    found = plan(case.config, look(made, case.config))
    carry_out(made, found)
    carry_out(made, removal(case.config, look(made, case.config), tuple(writes(found).values()), Former()))
    after = {path: what for path, what in made.files.snapshot().items() if what is not None}
    assert after == {path: what for path, what in before.items() if what is not None}


@each
def test_what_others_wrote_since_stays_and_only_ours_goes(case: Case) -> None:
    made = case.fake_node()
    found = plan(case.config, look(made, case.config))
    carry_out(made, found)
    root = made.files.files[case.root]
    edited = b"# by hand\n" + root.content
    made.files.put(case.root, edited, mode=root.mode, gid=root.gid)
    carry_out(made, removal(case.config, look(made, case.config), tuple(writes(found).values()), Former()))
    after = there(made, case)[case.root]
    assert after.startswith(b"# by hand\n")
    if case.root in case.before:
        wanted = tomllib.loads(case.before[case.root].decode())
        assert _without_empty(tomllib.loads(after.decode())) == _without_empty(wanted)


@each
def test_root_and_drop_in_are_shown_to_containerd_before_they_go_live(case: Case) -> None:
    made = case.fake_node()
    found = plan(case.config, look(made, case.config))
    (check,) = (step for step in found.steps if isinstance(step, CheckContainerdConfig))
    order = [getattr(step, "path", "") for step in found.steps]
    ours = [path for path in case.after if case.after[path] != case.before.get(path)]
    assert all(order.index(check.path) <= order.index(path) for path in ours)
    checked = {check.path: check.candidate, **dict(check.beside)}
    assert all(checked[path] == case.after[path] for path in ours)


@each
def test_only_lines_of_keys_that_are_ours_differ_in_files_of_others(case: Case) -> None:
    ours = (
        "snapshotter =",
        "disable_snapshot_annotations =",
        "discard_unpacked_layers =",
        "config_path =",
        "imports",
    )
    for path, before in case.before.items():
        missing = without(case.after[path].decode().splitlines(), before.decode().splitlines())
        assert all(line.strip().startswith(ours) for line in missing), path


@each
def test_what_the_operator_set_still_means_the_same(case: Case) -> None:
    if case.root not in case.before:
        return
    before, after = (tomllib.loads(files[case.root].decode()) for files in (case.before, case.after))
    for path in [*(path for path, _ in possible_keys(after)), ("imports",)]:
        _drop(after, path)
        _drop(before, path)
    assert _without_empty(after) == _without_empty(before)


@each
def test_nothing_is_refused_and_the_dump_is_asked_for_every_key_of_ours(case: Case) -> None:
    found = candidate(case.config, case.node)
    assert found.refusals == ()
    hidden = 1 if case.version < "1.6.32" else 0  # it does not show a proxy plugin's exports
    assert len(found.expect) == len(found.wishes) - hidden


def _drop(document: dict[str, Any], path: tuple[str, ...]) -> None:
    table = at(document, path[:-1])
    if table is not None:
        table.pop(path[-1], None)


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    cleaned = {key: _without_empty(inner) for key, inner in value.items()}
    return {key: inner for key, inner in cleaned.items() if inner != {}}
