"""A file of ours beside containerd's root file: where it lies, when it is there, and what is refused
instead.
"""

from __future__ import annotations

import posixpath
import tomllib
from typing import Any

import pytest

from agent import paths
from agent.config.model import Config, ContainerdConfig, ContainerdMode
from agent.containerd.dropin import NAME
from agent.containerd.files import matches
from agent.containerd.render import Candidate, candidate
from agent.containerd.view import IMAGES, KEYS, RUNTIME, SNAPSHOTTER, at
from agent.errors import FileError, PlanError
from agent.plan.diff import plan
from agent.plan.removal import removal
from agent.steps import CheckContainerdConfig, Former, RemoveFile, WriteFile
from tests.fakes.units import unit
from tests.unit.containerd_cases import containerd
from tests.unit.plan_node import AMD64, CONTAINERD_CONFIG, carry_out, config, look, node, verbs, writes

V3 = b"version = 3\n"
_CRI = "io.containerd.grpc.v1.cri"
CRI = f'[plugins."{_CRI}"'
OURS = f"/etc/containerd/conf.d/{NAME}"
THEIRS = "/etc/containerd/conf.d/99-theirs.toml"


def wanted(
    mode: ContainerdMode = ContainerdMode.DEFAULT, address: str = "/run/containerd/containerd.sock"
) -> Config:
    return Config(containerd=ContainerdConfig(mode=mode, address=address))


def found(version: str, root: bytes, others: dict[str, bytes] | None = None, **settings: Any) -> Candidate:
    return candidate(wanted(**settings), containerd(version, {CONTAINERD_CONFIG: root, **(others or {})}))


def drop_in(made: Candidate) -> dict[str, Any]:
    (content,) = (content for path, content in made.files.items() if posixpath.basename(path) == NAME)
    return tomllib.loads(content.decode())


@pytest.mark.parametrize(
    ("imports", "path", "edited"),
    [
        ("[]", OURS, True),
        ('["/etc/containerd/conf.d/*.toml"]', OURS, False),
        ('["conf.d/*.toml"]', OURS, False),
        ('["/etc/containerd/config.d/*.toml"]', f"/etc/containerd/config.d/{NAME}", False),
        ('["/etc/containerd/conf.d/99-*.toml"]', OURS, True),
        ('["/etc/containerd/conf.d/99-theirs.toml"]', OURS, True),
        ('["/etc/*/conf.d/*.toml"]', OURS, True),
        ('["/opt/a/*.toml", "/opt/b/*"]', OURS, True),
    ],
)
def test_the_root_file_is_edited_where_no_glob_takes_our_file_in_and_no_other_file_goes_live_by_it(
    imports: str, path: str, edited: bool
) -> None:
    made = found("2.1.9", f"imports = {imports}\nversion = 3\n".encode(), {THEIRS: b"version = 3\n"})
    assert list(made.files) == [path, *([CONTAINERD_CONFIG] if edited else [])]
    if edited:
        added = tomllib.loads(made.files[CONTAINERD_CONFIG].decode())["imports"][-1]
        assert matches(added, OURS)
        assert not matches(added, THEIRS), "what lies there and was not read must not go live"


@pytest.mark.parametrize(
    ("version", "root", "told"),
    [
        ("2.1.9", b"version = 3\n", 3), ("2.4.2", b"version = 3\n", 3), ("2.4.2", b"version = 4\n", 4),
        ("2.1.9", b"version = 2\n", 2), ("2.4.2", b"version = 2\n", 2), ("2.1.9", b"", None), ("2.4.2", b"",
            None),
        ("2.1.9", b"version = 1\n", 1),
    ],
)  # fmt: skip
def test_it_has_the_root_file_s_own_version(version: str, root: bytes, told: int | None) -> None:
    """2.3.0 to 2.3.4 do not start on a higher one, 2.0 to 2.2 migrate everything from the last one that they
    see.
    """
    assert drop_in(found(version, root)).get("version") == told


def test_it_is_written_before_the_line_that_makes_containerd_read_it() -> None:
    assert list(found("2.1.9", V3).files) == [OURS, CONTAINERD_CONFIG]


def test_what_containerd_checks_loads_the_candidates_and_not_what_is_there() -> None:
    made = node(containerd="2.1.9")
    made.files.put(CONTAINERD_CONFIG, b'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n')
    made.files.put(THEIRS, b"version = 3\n")
    (check,) = (
        step for step in plan(Config(), look(made, Config())).steps if isinstance(step, CheckContainerdConfig)
    )
    assert check.trial is not None
    assert tomllib.loads(check.trial.decode())["imports"] == [
        THEIRS, f"/etc/containerd/.{NAME}.nydus-agent-candidate",
    ]  # fmt: skip
    assert [path for path, _content in check.beside] == [OURS]


def test_a_runtime_class_has_its_snapshotter_in_both_places_of_version_3() -> None:
    """The runtime's key says with what it starts, the images' key with what it is pulled (containerd 2.x)."""
    made = drop_in(found("2.1.9", V3, mode=ContainerdMode.RUNTIME_CLASS))
    keys = KEYS[3]
    assert at(made, (*keys.runtimes, "nydus", "snapshotter")) == "nydus"
    assert keys.platforms is not None
    assert at(made, (*keys.platforms, "nydus", "snapshotter")) == "nydus"
    assert at(made, keys.snapshotter) is None


def test_a_runtime_class_is_refused_where_a_runtime_has_no_snapshotter() -> None:
    made = found("1.6.20", b"version = 2\n", mode=ContainerdMode.RUNTIME_CLASS)
    assert [one.code for one in made.refusals] == ["NNA0314"]


def test_the_usual_directories_of_hosts_files_are_left_alone_where_they_are_the_default() -> None:
    assert at(drop_in(found("2.4.2", V3)), (*KEYS[3].registry, "config_path")) is None
    assert at(drop_in(found("2.1.9", V3)), (*KEYS[3].registry, "config_path")) == "/etc/containerd/certs.d"


def carried(theirs: bytes, version: str = "1.7.24") -> Candidate:
    root = (
        b'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
        + f"{CRI}]\nsandbox_image = 'old'\n".encode()
    )
    return found(version, root, {THEIRS: theirs})


def test_on_1_x_a_section_in_somebody_s_drop_in_is_carried_whole() -> None:
    theirs = f"version = 2\n{CRI}]\nsandbox_image = 'theirs'\n{CRI}.cni]\nbin_dir = '/x'\n".encode()
    made = carried(theirs)
    section = at(drop_in(made), ("plugins", "io.containerd.grpc.v1.cri"))
    assert (section["sandbox_image"], section["cni"]["bin_dir"]) == ("theirs", "/x")
    assert section["containerd"]["snapshotter"] == "nydus"
    assert list(made.files) == [OURS]
    assert any(THEIRS in text for text in made.warnings)


def test_a_copy_of_somebody_s_section_is_readable_for_root_alone() -> None:
    """It may hold the password of a registry."""
    made = node(containerd="1.7.24")
    made.files.put(
        CONTAINERD_CONFIG, b'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n', mode=0o600
    )
    made.files.put(
        THEIRS, f'version = 2\n{CRI}.registry.configs.x.auth]\npassword = "p"\n'.encode(), mode=0o600
    )
    carry_out(made, plan(Config(), look(made, Config())))
    assert b'password = "p"' in made.files.files[OURS].content
    assert made.files.files[OURS].mode == 0o600


def test_on_1_x_a_drop_in_of_somebody_without_that_section_changes_nothing() -> None:
    made = carried(b'version = 2\n[proxy_plugins.other]\ntype = "snapshot"\n')
    assert list(made.files) == [CONTAINERD_CONFIG]


def test_a_drop_in_that_is_no_longer_needed_goes() -> None:
    made = node(containerd="1.7.24")
    made.files.put(CONTAINERD_CONFIG, b'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n')
    made.files.put(OURS, b"# Managed by nydus-agent\nversion = 2\n" + f"{CRI}]\na = 1\n".encode())
    steps = plan(Config(), look(made, Config())).steps
    assert [step.path for step in steps if isinstance(step, RemoveFile)] == [OURS]
    assert CONTAINERD_CONFIG in [step.path for step in steps if isinstance(step, WriteFile)]


@pytest.mark.parametrize(
    ("version", "root", "others", "code", "says"),
    [
        ("2.1.9", b"version = 4\n", {}, "NNA0311", "reads 1 to 3"),
        (
            "2.1.9",
            b'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]',
            {THEIRS: b"x = ["},
            "NNA0311",
            THEIRS,
        ),
        (
            "2.1.9",
            b'version = 3\nimports = ["/opt/gone.toml"]',
            {},
            "NNA0311",
            "/opt/gone.toml is imported and is not",
        ),
        ("2.1.9", b'version = 3\nimports = ["conf.d/*.toml"]', {THEIRS: b"version = 2\n"}, "NNA0313", THEIRS),
        ("2.1.9", b'version = 3\n[grpc]\naddress = "/run/x.sock"\n', {}, "NNA0314", "/run/x.sock"),
        (
            "2.4.2",
            b'version = 4\n[plugins."io.containerd.server.v1.grpc"]\naddress = "/run/x.sock"\n',
            {},
            "NNA0314",
            "",
        ),
        (
            "2.1.9",
            b'version = 3\nimports = ["conf.d/*.toml", "/opt/last.toml"]\n',
            {"/opt/last.toml": b'version = 3\n[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "x"\n'},
            "NNA0313",
            "/opt/last.toml",
        ),
        ("2.1.9", b'version = 3\nimports = "x"\n', {}, "NNA0313", "imports is no list"),
        (
            "2.1.9",
            b"version = 3\n",
            {OURS: b"version = 3\n# theirs\n"},
            "NNA0313",
            f"{OURS} has our file's name",
        ),
        (
            "2.1.9",
            f'version = 3\ndisabled_plugins = ["{SNAPSHOTTER}"]\n'.encode(),
            {},
            "NNA0314",
            "disabled_plugins",
        ),
        ("1.7.24", b'disabled_plugins = ["nydus"]\n', {}, "NNA0314", "disabled_plugins"),
        ("2.4.2", b'Imports = ["conf.d/*.toml"]\n', {}, "NNA0311", "has the key Imports"),
        ("2.1.9", f"{CRI}.containerd]\nSnapshotter = 'x'\n".encode(), {}, "NNA0311", "Snapshotter"),
    ],
)
def test_what_cannot_become_effective_is_refused_with_the_file_s_name(
    version: str, root: bytes, others: dict[str, bytes], code: str, says: str
) -> None:
    made = found(version, root, others)
    assert [one.code for one in made.refusals] == [code]
    assert says in made.refusals[0].reason
    assert not made.needs_restart


@pytest.mark.parametrize(
    ("version", "number", "name", "disabled"),
    [
        ("1.7.24", 2, _CRI, True), ("1.7.24", 2, IMAGES, False), ("1.7.24", 1, "cri", True),
        ("1.7.24", 1, _CRI, False), ("2.1.9", 3, IMAGES, True), ("2.4.2", 3, RUNTIME, True),
        ("2.4.2", 1, "cri", True), ("2.1.9", 2, _CRI, True), ("2.1.9", 3, f"{SNAPSHOTTER}-other", False),
        ("2.1.9", 3, f'", ["{_CRI}"], "{IMAGES}', True),
    ],
)  # fmt: skip
def test_whoever_has_disabled_cri_is_told_that_no_pod_uses_nydus(
    version: str, number: int, name: str, *, disabled: bool
) -> None:
    made = found(version, f'version = {number}\ndisabled_plugins = ["{name}"]\n'.encode())
    assert any("only ctr and the like use nydus" in text for text in made.warnings) is disabled
    assert made.refusals == ()


def test_an_import_that_an_old_containerd_looks_for_elsewhere_is_told() -> None:
    root = b'version = 2\nimports = ["conf.d/*.toml"]\n'
    (told,) = found("1.6.20", root, {THEIRS: b"version = 2\n"}).warnings
    assert "looks for /conf.d/*.toml" in told
    assert found("1.7.24", root).warnings == ()


@pytest.mark.parametrize("mode", ContainerdMode)
def test_a_key_of_others_that_containerd_passes_over_does_not_come_into_force(mode: ContainerdMode) -> None:
    """2.0 to 2.2 read the snapshotter of version 2 only beside a table of runtimes, which ours would be."""
    root = f"version = 2\n{CRI}.containerd]\nsnapshotter = 'native'\n".encode()
    (*refused,) = found("2.1.9", root, mode=mode).refusals
    assert bool(refused) is (mode is ContainerdMode.RUNTIME_CLASS)
    assert all("snapshotter would change, though it is not ours" in one.reason for one in refused)


def test_a_root_file_that_cannot_be_edited_can_still_be_shown_to_containerd() -> None:
    """Its trial need only mean the same: a drop-in of ours changes no line of it."""
    made = node(containerd="2.1.9")
    text = """imports = ["conf.d/*.toml"]
version = 3
[plugins."io.containerd.cri.v1.images".registry]
[plugins.'io.containerd.cri.v1.images'.registry.mirrors.x]
endpoint = ["https://x"]
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "y"
[plugins."io.containerd.cri.v1.runtime"]
max_container_log_line_size = 32768
"""
    made.files.put(CONTAINERD_CONFIG, text.encode())
    (check,) = (
        step for step in plan(Config(), look(made, Config())).steps if isinstance(step, CheckContainerdConfig)
    )
    assert check.trial is not None
    shown, own = tomllib.loads(check.trial.decode()), tomllib.loads(text)
    assert {**shown, "imports": own["imports"]} == own


K3S = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
RENDERED = b"# File generated by k3s. DO NOT EDIT. Use config-v3.toml.tmpl instead.\nversion = 3\n"


def rendered(version: str, root: bytes | None) -> Candidate:
    """What becomes of a file that k3s renders."""
    settings = Config(containerd=ContainerdConfig(config=K3S))
    return candidate(settings, containerd(version, {} if root is None else {K3S: root}))


@pytest.mark.parametrize(
    ("version", "root", "says"),
    [
        ("2.1.9", RENDERED, "imports no directory of drop-ins"),
        ("1.7.24", RENDERED.replace(b"= 3", b"= 2"), "imports no directory of drop-ins"),
        (
            "1.7.24",
            RENDERED.replace(b"= 3", b"= 2") + b'imports = ["config.toml.d/*.toml"]\n',
            "rendered by k3s",
        ),
        ("2.1.9", b"version = 3\n", "rendered by k3s"),
        ("2.1.9", None, "k3s renders it when it starts"),
    ],
)
def test_a_file_that_is_rendered_at_each_start_is_never_edited(
    version: str, root: bytes | None, says: str
) -> None:
    """The edit would be gone with the next start, and half of ours with it."""
    made = rendered(version, root)
    assert [one.code for one in made.refusals] == ["NNA0318"]
    assert says in made.refusals[0].reason


def test_a_rendered_file_that_imports_a_directory_gets_a_drop_in_and_nothing_else() -> None:
    made = rendered(
        "2.1.9",
        RENDERED + b'imports = ["/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/*.toml"]\n',
    )
    assert list(made.files) == [f"{posixpath.dirname(K3S)}/config-v3.toml.d/{NAME}"]


def test_another_unit_and_another_program_are_what_is_restarted_and_asked() -> None:
    made = node(containerd="2.1.9")
    settings = Config(
        containerd=ContainerdConfig(unit="k3s-agent.service", program="/opt/k3s/bin/containerd")
    )
    made.files.drop("/usr/bin/containerd")
    made.files.put("/opt/k3s/bin/containerd", AMD64, mode=0o755)
    told = "containerd github.com/k3s-io/containerd 2.1.9-k3s1 x\n"
    made.processes.on("/opt/k3s/bin/containerd", "--version", stdout=told)
    made.units.units["k3s-agent.service"] = unit("k3s-agent.service", active=True, pid=7)
    steps = plan(settings, look(made, settings))
    assert verbs(steps)[-1] == "restart k3s-agent.service"
    assert [step.program for step in steps.steps if isinstance(step, CheckContainerdConfig)] == [
        "/opt/k3s/bin/containerd"
    ]
    (snapshotter,) = (
        one.content for path, one in writes(steps).items() if path == paths.SNAPSHOTTER_UNIT_FILE
    )
    assert b"\nBefore=k3s-agent.service\n" in snapshotter


def test_an_import_that_cannot_be_read_is_refused_with_its_name() -> None:
    made = node(containerd="2.1.9")
    made.files.put(CONTAINERD_CONFIG, b'version = 3\nimports = ["/opt/secret.toml"]\n')
    made.files.unreadable["/opt/secret.toml"] = FileError("NNA0422", "cannot read", cause="no permission")
    with pytest.raises(PlanError, match=r"/opt/secret\.toml could not be read"):
        plan(Config(), look(made, Config()))


WANTED = config()


def test_removal_keeps_an_import_line_that_others_use_by_now() -> None:
    made = node(containerd="2.1.9")
    made.files.put(CONTAINERD_CONFIG, V3)
    steps = plan(WANTED, look(made, WANTED))
    carry_out(made, steps)
    made.files.put(CONTAINERD_CONFIG, made.files.files[CONTAINERD_CONFIG].content + b'root = "/data"\n')
    carry_out(made, removal(WANTED, look(made, WANTED), tuple(writes(steps).values()), Former()))
    assert made.files.files[CONTAINERD_CONFIG].content == V3 + b'root = "/data"\n'
    assert OURS not in made.files.files


def test_removal_is_refused_while_somebody_s_copy_of_our_keys_would_name_a_snapshotter_that_is_gone() -> None:
    """Programs that copy the CRI section from `config dump` copy our keys too."""
    made = node(containerd="2.1.9")
    made.files.put(CONTAINERD_CONFIG, V3)
    steps = plan(WANTED, look(made, WANTED))
    carry_out(made, steps)
    made.files.put(THEIRS, b'version = 3\n[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "nydus"\n')
    made.files.put(
        CONTAINERD_CONFIG, b'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n# theirs now\n'
    )
    made.files.put("/etc/containerd/other.toml", b"")
    with pytest.raises(PlanError, match="99-theirs") as caught:
        removal(
            WANTED,
            look(made, WANTED),
            tuple(step for step in writes(steps).values() if step.path == OURS),
            Former(),
        )
    assert caught.value.code == "NNA0313"


def test_a_section_that_this_containerd_does_not_read_is_told() -> None:
    old = b'[plugins.cri]\nsandbox_image = "x"\n'
    assert [CONTAINERD_CONFIG in text for text in found("2.1.9", old).warnings] == [True]
    assert found("2.4.2", old).warnings == found("1.7.24", old).warnings == ()
