"""The plan: what changes, in which order, and that it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent import paths
from agent.config.model import Config, ContainerdConfig, RegistriesConfig, RegistryHost, RestartPolicy
from agent.errors import FileError, PlanError
from agent.plan import show
from agent.plan.diff import plan
from agent.steps import (
    AwaitContainerd,
    AwaitSnapshotter,
    Plan,
    RemoveFile,
    UnitStep,
    WriteFile,
)
from tests.fakes.node import FakeNode
from tests.unit.plan_node import (
    CONTAINERD_CONFIG,
    PLAIN,
    SECURE,
    carry_out,
    config,
    look,
    node,
    plugins,
    verbs,
    writes,
)

DEFAULT_HOSTS = "/etc/containerd/certs.d/_default/hosts.toml"
DOCKER_HOSTS = "/etc/containerd/certs.d/docker.io/hosts.toml"
START = [
    f"enable {paths.SNAPSHOTTER_UNIT}", f"start {paths.SNAPSHOTTER_UNIT}", f"restart {paths.CONTAINERD_UNIT}",
]  # fmt: skip


def applied(wanted: Config) -> FakeNode:
    made = node()
    carry_out(made, plan(wanted, look(made, wanted)))
    return made


def test_a_fresh_node_is_widened_before_it_is_switched() -> None:
    found = plan(config(PLAIN), look(node(), config(PLAIN)))
    order = [type(step).__name__ if not isinstance(step, WriteFile) else step.path for step in found.steps]
    assert order == [
        paths.NYDUSD_TEMPLATE, paths.SNAPSHOTTER_CONFIG, paths.SNAPSHOTTER_UNIT_FILE, "ReloadUnits",
        "UnitStep", "UnitStep", "AwaitSnapshotter", "CheckContainerdConfig", CONTAINERD_CONFIG,
        f"/etc/containerd/certs.d/{PLAIN.host}/hosts.toml", DOCKER_HOSTS, "UnitStep", "AwaitContainerd",
    ]  # fmt: skip
    assert verbs(found) == START


@pytest.mark.parametrize("hosts", [(), (PLAIN,), (PLAIN, SECURE)])
@pytest.mark.parametrize("snapshotter", ["0.13.4", "0.16.1"])
def test_a_second_apply_is_empty(hosts: tuple[RegistryHost, ...], snapshotter: str) -> None:
    wanted = config(*hosts)
    made = node(snapshotter)
    made.files.put(SECURE.ca, b"CA\n")
    carry_out(made, plan(wanted, look(made, wanted)))
    again = plan(wanted, look(made, wanted))
    assert again.steps == ()
    assert again.empty


@pytest.mark.parametrize(
    ("loaded", "on_disk", "process", "says"),
    [
        ("", "", "", ""),
        (" --config /etc/other.toml", "", "", "/etc/other.toml"),
        (f" -l debug -c={CONTAINERD_CONFIG}", "", "", ""),
        (" -config /etc//containerd/../other.toml", "", "", "/etc/other.toml"),
        (" $OPTIONS", "", "", ""),
        (" $OPTIONS", "", " --config=/etc/other.toml", "/etc/other.toml"),
        (" $OPTIONS", "", " --log-level info", ""),
        (" --config /etc/other.toml", " --config other.toml", "", "which systemd has not read"),
        ("", " --config /etc/other.toml", "", "which systemd has not read"),
        ("", "", " --config /etc/former.toml", ""),
    ],
)
def test_the_file_that_containerd_is_started_with_is_the_one_that_is_edited(
    loaded: str, on_disk: str, process: str, says: str
) -> None:
    made, program, own = node(), "/usr/bin/containerd", "/lib/containerd.service"
    text = f"[Service]\nKillMode=process\nExecStart={program}\nExecStart=\nExecStart=-{program}{on_disk}\n"
    made.files.put(own, text.encode())
    made.files.put("/proc/500/cmdline", "\0".join([program, *process.split(), ""]).encode())
    made.units.units[paths.CONTAINERD_UNIT] = replace(
        made.units.units[paths.CONTAINERD_UNIT], command=(program, *loaded.split()), fragment_path=own,
        needs_reload=bool(on_disk),
    )  # fmt: skip
    if not says:
        assert CONTAINERD_CONFIG in writes(plan(Config(), look(made, Config())))
        return
    with pytest.raises(PlanError, match=says) as caught:
        plan(Config(), look(made, Config()))
    assert caught.value.code == "NNA0314"


def test_a_wrapper_s_containerd_is_known_by_its_process() -> None:
    made = node()
    k3s = ("/usr/local/bin/k3s", "server", "--config", "/etc/rancher/k3s/config.yaml")
    made.units.units[paths.CONTAINERD_UNIT] = replace(made.units.units[paths.CONTAINERD_UNIT], command=k3s)
    plan(Config(), look(made, Config()))
    made.files.put("/proc/500/cmdline", b"containerd\0-c\0/var/lib/rancher/config.toml\0")
    with pytest.raises(PlanError, match=r"started with the file /var/lib/rancher/config\.toml"):
        plan(Config(), look(made, Config()))


def test_a_containerd_of_another_version_than_that_in_path_is_not_planned_for_by_mistake() -> None:
    """Upstream's in /usr/local beside a package's: whose unit runs decides how the files are read."""
    made = node()
    other = replace(made.units.units[paths.CONTAINERD_UNIT], command=("/opt/bin/containerd",))
    made.units.units[paths.CONTAINERD_UNIT] = other
    plan(Config(), look(made, Config()))
    made.containerd.version_text = "2.1.9"
    with pytest.raises(PlanError, match=r"starts /opt/bin/containerd \(2\.1\.9\)") as caught:
        plan(Config(), look(made, Config()))
    assert caught.value.try_ == 'set containerd.program = "/opt/bin/containerd"'


@pytest.mark.parametrize(
    ("cgroup", "holder", "way"),
    [
        ("/x.slice/nydus-grpc.service", "nydus-grpc.service", "systemctl disable --now nydus-grpc.service"),
        ("/system.slice/cron.service", "process 600", "systemctl status 600"),
        ("/kubepods.slice/pod1.slice/cri-1.scope", "process 600", "systemctl status 600"),
        ("/system.slice/containerd.service/kubepods/pod1/1", "process 600", "systemctl status 600"),
        ("/system.slice/docker.service/1", "process 600", "systemctl status 600"),
        ("/system.slice/k3s.service", "process 600", "systemctl status 600"),
        (f"/system.slice/{paths.SNAPSHOTTER_UNIT}", "", ""),
        (f"/system.slice/{paths.SNAPSHOTTER_UNIT}/of-its-own", "", ""),
    ],
)
def test_a_snapshotter_of_others_on_our_socket_is_refused_and_no_advice_stops_a_runtime(
    cgroup: str, holder: str, way: str
) -> None:
    made = node()
    made.snapshotter.answering, made.snapshotter.pid = {paths.SNAPSHOTTER_SOCKET}, 600
    made.files.put("/proc/600/cgroup", f"0::{cgroup}\n".encode())
    for name, pid in (("nydus-grpc.service", 600), ("cron.service", 1), ("k3s.service", 600)):
        made.units.units[name] = replace(made.units.units[paths.CONTAINERD_UNIT], name=name, main_pid=pid)
    if not holder:
        plan(Config(), look(made, Config()))
        return
    with pytest.raises(PlanError, match=f"is held by {holder}") as caught:
        plan(Config(), look(made, Config()))
    assert (caught.value.code, caught.value.try_) == ("NNA0305", way)


def test_another_owner_s_file_is_marked_as_such_and_its_content_recorded() -> None:
    made = node()
    step = writes(plan(Config(), look(made, Config())))[CONTAINERD_CONFIG]
    assert not step.owned
    assert step.content_before == made.files.files[CONTAINERD_CONFIG].content
    assert writes(plan(Config(), look(made, Config())))[paths.NYDUSD_TEMPLATE].owned


def test_mode_and_owner_of_a_file_are_kept() -> None:
    made = node()
    made.files.put(CONTAINERD_CONFIG, made.files.files[CONTAINERD_CONFIG].content, mode=0o640, gid=42)
    step = writes(plan(Config(), look(made, Config())))[CONTAINERD_CONFIG]
    assert (step.mode, step.mode_before, step.uid, step.gid) == (0o640, 0o640, 0, 42)


def test_a_template_edited_by_hand_is_put_right_by_a_restart_of_the_snapshotter_alone() -> None:
    made = applied(Config())
    made.files.put(paths.NYDUSD_TEMPLATE, b"{}")
    found = plan(Config(), look(made, Config()))
    assert list(writes(found)) == [paths.NYDUSD_TEMPLATE]
    assert writes(found)[paths.NYDUSD_TEMPLATE].owned
    assert verbs(found) == [f"restart {paths.SNAPSHOTTER_UNIT}"]


def test_a_snapshotter_that_does_not_run_is_started_and_nothing_else() -> None:
    made = applied(Config())
    made.units.job(paths.SNAPSHOTTER_UNIT, "stop", deadline_s=1)
    found = plan(Config(), look(made, Config()))
    assert [type(step) for step in found.steps] == [UnitStep, AwaitSnapshotter]
    assert verbs(found) == [f"start {paths.SNAPSHOTTER_UNIT}"]


def test_hosts_files_change_without_any_restart() -> None:
    made = applied(config(PLAIN))
    made.files.drop(DOCKER_HOSTS)
    found = plan(config(PLAIN), look(made, config(PLAIN)))
    assert [step.path for step in found.steps if isinstance(step, WriteFile)] == [DOCKER_HOSTS]
    assert len(found.steps) == 1


def test_a_registry_that_left_the_configuration_leaves_the_node() -> None:
    made = applied(config(PLAIN))
    found = plan(Config(), look(made, Config()))
    gone = [step for step in found.steps if isinstance(step, RemoveFile)]
    assert [step.path for step in gone] == [f"/etc/containerd/certs.d/{PLAIN.host}/hosts.toml"]
    carry_out(made, found)
    assert plan(Config(), look(made, Config())).empty


def test_a_hosts_file_of_somebody_else_is_left_alone_and_named() -> None:
    made = node()
    made.files.put(DOCKER_HOSTS, b'server = "https://cache.example"\n')
    found = plan(Config(), look(made, Config()))
    assert DOCKER_HOSTS not in writes(found)
    assert any("images of docker.io do as it says" in text for text in found.warnings)


def test_the_page_s_own_files_are_replaced_with_a_record() -> None:
    made = node()
    made.files.put(paths.SNAPSHOTTER_UNIT_FILE, b"[Unit]\nDescription=nydus snapshotter\n")
    found = plan(Config(), look(made, Config()))
    assert not writes(found)[paths.SNAPSHOTTER_UNIT_FILE].owned
    assert any(paths.SNAPSHOTTER_UNIT_FILE in text for text in found.warnings)


def test_a_containerd_that_runs_on_an_older_configuration_is_restarted() -> None:
    made = applied(Config())
    made.containerd.plugin_facts = tuple(fact for fact in plugins(made) if fact.id != paths.PROXY_PLUGIN)
    found = plan(Config(), look(made, Config()))
    assert verbs(found) == [f"restart {paths.CONTAINERD_UNIT}"]
    assert isinstance(found.steps[-1], AwaitContainerd)


NEVER = Config(containerd=ContainerdConfig(restart=RestartPolicy.NEVER))


def test_a_plan_shows_a_restart_that_is_left_to_the_operator_and_says_how_he_orders_it() -> None:
    made = node()
    found = plan(NEVER, look(made, NEVER))
    assert f"restart {paths.CONTAINERD_UNIT}" in verbs(found)
    assert any("nydus-agent apply --now" in text for text in found.warnings)
    carry_out(made, found)
    assert plan(NEVER, look(made, NEVER)) == Plan((), notes=found.notes)


def test_a_conffile_is_announced() -> None:
    seen = replace(look(node(), Config()), dpkg_conffiles=((CONTAINERD_CONFIG, "containerd"),))
    assert any("conffile of containerd" in text for text in plan(Config(), seen).warnings)


@pytest.mark.parametrize("version", ["1.5.18", "3.0.0"])
def test_a_containerd_that_nobody_has_looked_at_is_refused(version: str) -> None:
    made = node(containerd=version)
    with pytest.raises(PlanError, match=f"containerd {version} is not yet supported") as caught:
        plan(Config(), look(made, Config()))
    assert caught.value.code == "NNA0314"


def test_a_containerd_whose_version_cannot_be_told_is_refused() -> None:
    made = node()
    made.processes.on("/usr/bin/containerd", "--version", stdout="containerd of my own\n")
    with pytest.raises(PlanError, match="version cannot be told"):
        plan(Config(), look(made, Config()))


@pytest.mark.parametrize("path", [CONTAINERD_CONFIG, paths.NYDUSD_TEMPLATE, paths.SNAPSHOTTER_UNIT_FILE])
def test_a_file_that_could_not_be_read_is_not_replaced(path: str) -> None:
    made = node()
    made.files.unreadable[path] = FileError("NNA0422", f"cannot read {path}")
    with pytest.raises(PlanError) as caught:
        plan(Config(), look(made, Config()))
    assert (caught.value.code, path in caught.value.cause) == ("NNA0303", True)


def test_a_hosts_file_that_could_not_be_read_keeps_nobody_from_lazy_starts() -> None:
    made = node()
    made.files.unreadable[DOCKER_HOSTS] = FileError("NNA0422", "no")
    assert DOCKER_HOSTS not in writes(plan(Config(), look(made, Config())))


def test_registries_of_the_operator_s_directory_are_served_there() -> None:
    made = node()
    text = b'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/cri/certs.d"\n'
    made.files.put(CONTAINERD_CONFIG, text)
    assert "/etc/cri/certs.d/docker.io/hosts.toml" in writes(plan(Config(), look(made, Config())))


def test_no_hosts_files_are_laid_where_nobody_would_read_them() -> None:
    made = node()
    text = (
        b'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\nendpoint = '
        b'["https://x"]\n'
    )
    made.files.put(CONTAINERD_CONFIG, text)
    found = plan(Config(), look(made, Config()))
    assert [path for path in writes(found) if path.endswith("hosts.toml")] == []


def test_the_plan_says_what_restarts_and_what_that_costs() -> None:
    told = "\n".join(show.lines(plan(Config(), look(node(), Config()))))
    assert f"restart {paths.CONTAINERD_UNIT}: new pods and pulls wait" in told
    assert "note: switch fence" in told


def test_an_empty_plan_says_so() -> None:
    made = applied(Config())
    assert show.lines(plan(Config(), look(made, Config())))[0] == "Nothing to do: the node is as wanted."


def test_a_diff_shows_the_change_and_nothing_else() -> None:
    found = plan(Config(), look(node(), Config()))
    text = show.unified_diff(writes(found)[CONTAINERD_CONFIG])
    assert text.startswith(f"--- {CONTAINERD_CONFIG}\n+++ {CONTAINERD_CONFIG}\n@@ ")
    assert [line for line in text.splitlines()[2:] if line.startswith("-")] == []
    assert '+snapshotter = "nydus"' in text.replace("+    ", "+")


def test_no_diff_shows_a_credential() -> None:
    made = node()
    text = b"""version = 2
[plugins."io.containerd.grpc.v1.cri".registry.configs."r.example".auth]
username = "puller"
password = "hunter2"
auth = 'aHVudGVyMg=='
identitytoken = "hunter2"
"""
    made.files.put(CONTAINERD_CONFIG, text)
    made.files.put(
        paths.NYDUSD_TEMPLATE, b'{"device": {"registry_token": "hunter2", "auth": "aHVudGVyMg=="}}'
    )
    found = show.diffs(plan(Config(), look(made, Config())))
    assert "puller" in found
    assert "hunter2" not in found
    assert "aHVudGVyMg" not in found


def test_only_named_registries_mean_no_default_file() -> None:
    wanted = Config(registries=RegistriesConfig(include=("one.example",)))
    made = applied(wanted)
    assert DEFAULT_HOSTS not in made.files.files
    assert "/etc/containerd/certs.d/one.example/hosts.toml" in made.files.files
