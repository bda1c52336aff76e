"""A unit or a drop-in of dfdaemon's is audited before it is in force, as the one that runs is."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.dragonfly.findings import AuditReport
from agent.dragonfly.own import Own
from agent.dragonfly.render import FileForm, render
from agent.dragonfly.site import Wishes
from agent.dragonfly.unit_file import UnitFile, is_unit
from tests.unit.test_cli import Run
from tests.unit.test_dragonfly_render import site

DROP_IN = "/etc/systemd/system/dfdaemon.service.d/50-restart.conf"
UPSTREAM = """\
[Unit]
Description=dfdaemon
[Service]
ExecStart=/usr/bin/dfdaemon --config /etc/dragonfly/dfdaemon.yaml --console
Restart=on-success
"""
"""Of upstream's package, as far as an audit reads it."""
CALM = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nEnvironment=DFDAEMON_LOG_LEVEL=warn\n"
HELD = """\
ProtectSystem=strict
ProtectHome=yes
ProtectKernelTunables=1
PrivateDevices=on
StateDirectory=dragonfly
RuntimeDirectory=dragonfly
LogsDirectory=dragonfly
"""


def ours(user: str = "") -> str:
    text = render(FileForm.UNIT, site(Wishes(user=user)))
    assert isinstance(text, str)
    return text


def report(text: str, file: str = DROP_IN, own: Own | None = None) -> AuditReport:
    return UnitFile.of(file, text).report(own or Own(), ())


def items(text: str, file: str = DROP_IN, own: Own | None = None) -> set[str]:
    return {one.item for one in report(text, file, own).findings}


def test_our_own_drop_in_has_nothing_wrong() -> None:
    assert items(ours()) == set()


def test_upstreams_unit_has_all_that_our_drop_in_is_for() -> None:
    assert items(UPSTREAM, "/usr/lib/systemd/system/dfdaemon.service") == {"unit", "root-writes", "log-level"}


def test_what_a_drop_in_does_not_say_is_as_upstreams_unit_has_it() -> None:
    found = {one.item: one for one in report("[Service]\nCPUQuota=200%\n").findings}
    assert set(found) == {"unit", "root-writes", "log-level"}
    assert found["unit"].value == "on-success (upstream's unit)"
    assert found["unit"].key == "dfdaemon.service: Restart"


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (HELD, set()),
        (HELD + "Restart=no\n", {"unit"}),
        (HELD + "[Unit]\nStartLimitIntervalSec=\n", {"unit"}),
        (HELD + "[Unit]\nStartLimitIntervalSec=1min 30s\nStartLimitBurst=3\n", {"unit"}),
        (HELD + "[Unit]\nStartLimitIntervalSec=10\n[Service]\nRestartSec=2\n", set()),
        (HELD + "Environment=DFDAEMON_LOG_LEVEL=info\n", {"log-level"}),
        (HELD + "Environment=\n", {"log-level"}),
        (HELD + "ReadWritePaths=/etc /srv\n", {"root-writes"}),
        (HELD + "ReadWritePaths=/etc\nReadWritePaths=\n", set()),
        (HELD + "LogsDirectory=\n", {"directories"}),
        (HELD + "ReadOnlyPaths=-/var/lib/dragonfly\n", {"directories"}),
        (HELD.replace("ProtectHome=yes\n", ""), {"root-writes"}),
        (HELD.replace("ProtectHome=yes\n", "") + "User=dragonfly\n", {"user-writes"}),
        (HELD.replace("strict", "full") + "User=dragonfly\n", {"user-writes"}),
        ("DynamicUser=yes\nStateDirectory=dragonfly \\\n  "
         "other\nRuntimeDirectory=dragonfly\nLogsDirectory=dragonfly\n",
         set()),
        ("ReadWritePaths=/var/lib/dragonfly\nProtectSystem=strict\n", {"root-writes", "directories"}),
        (HELD + "ExecStart=+/usr/bin/dfdaemon\n", {"root-writes"}),
    ],
    ids=range(17),
)  # fmt: skip
def test_a_drop_in_is_judged_by_what_systemd_would_make_of_it(more: str, wanted: set[str]) -> None:
    assert items(CALM + more) == wanted


def test_a_unit_that_keeps_dfdaemon_from_where_its_file_has_its_pieces_is_found_before_it_is_in_force(
    tmp_path: Path,
) -> None:
    """dfdaemon's file is the one that the unit names."""
    config, unit = tmp_path / "d.yaml", tmp_path / "dfdaemon.service"
    config.write_text("storage: {dir: /srv/pieces}\n")
    unit.write_text(f"[Service]\nExecStart=/usr/bin/dfdaemon -c {config}\n{ours().partition('[Service]')[2]}")
    run = Run(tmp_path, "dragonfly", "audit", str(unit))
    assert run.code == 3, run.err
    assert "does not have /srv/pieces (storage.dir)" in run.out
    rendered = Run(tmp_path, "dragonfly", "render", "dfdaemon-unit", "--dfdaemon", str(config)).out
    unit.write_text(
        f"[Service]\nExecStart=/usr/bin/dfdaemon -c {config}\n{rendered.partition('[Service]')[2]}"
    )
    assert "/srv/pieces" not in Run(tmp_path, "dragonfly", "audit", str(unit)).out


def test_a_dfdaemon_yaml_that_is_not_here_is_said_and_its_usual_directories_count(tmp_path: Path) -> None:
    unit = tmp_path / "50.conf"
    unit.write_text(
        ours() + f"Environment=DFDAEMON_CONFIG={tmp_path}/gone.yaml\nExecStart=/usr/bin/dfdaemon\n"
    )
    run = Run(tmp_path, "dragonfly", "audit", str(unit))
    assert f"its usual directories count: {tmp_path}/gone.yaml" in run.out
    assert "does not have" not in run.out


def test_a_variable_from_another_file_is_said_to_be_untold() -> None:
    found = report(CALM + HELD + "EnvironmentFile=/etc/default/dfdaemon\n")
    assert (found.findings, [one.item for one in found.untold]) == ((), ["log-level"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[Service]\n", True),
        ("# a comment\n; another\n\n  [Unit]\n", True),
        ("", False),
        ("proxy: {prefetch: true}\n[Service]\n", False),
        ("[Service, Unit]\n", False),
        ("# [Service]\nstorage: {}\n", False),
    ],
)
def test_a_units_file_is_known_by_what_is_in_it(text: str, *, told: bool) -> None:
    assert is_unit(text) is told


def test_what_a_file_is_can_be_said(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("")
    run = Run(tmp_path, "dragonfly", "audit", "--as", "dfdaemon-unit", str(file))
    assert run.out.startswith(f"{file} (dfdaemon-unit): 3 traps")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["--log-dir", "/srv/logs"],
            '"-/var/lib/dragonfly/" "-/run/dragonfly" "-/srv/logs" "-/var/cache/dragonfly"',
        ),
        (
            ["--storage", "/srv/p"],
            '"-/srv/p" "-/run/dragonfly" "-/var/log/dragonfly" "-/var/cache/dragonfly"',
        ),
    ],
)
def test_the_drop_in_lets_dfdaemon_write_where_an_option_says(
    tmp_path: Path, options: list[str], line: str
) -> None:
    assert f"\nReadWritePaths={line}\n" in Run(tmp_path, "dragonfly", "render", "dfdaemon-unit", *options).out


def test_the_drop_in_knows_every_directory_of_the_file_that_it_is_rendered_for(tmp_path: Path) -> None:
    file = tmp_path / "dfdaemon.yaml"
    file.write_text(
        "storage: {dir: /srv/p}\nserver: {cacheDir: /srv/c, pluginDir: /opt/plugins}\n"
        "download: {server: {socketPath: /run/peer/d.sock}}\n"
    )
    out = Run(tmp_path, "dragonfly", "render", "dfdaemon-unit", "--dfdaemon", str(file)).out
    assert '\nReadWritePaths="-/srv/p" "-/run/peer" "-/var/log/dragonfly" "-/srv/c"\n' in out
    assert "/opt/plugins" not in out, "dfdaemon only reads there"


def test_a_user_of_the_unit_owns_the_directories_that_are_made_for_it() -> None:
    """mkdir runs as root."""
    lines = [line for line in ours(user="dragonfly").splitlines() if line.startswith("ExecStartPre=")]
    assert [line.split('"')[0] for line in lines] == [
        "ExecStartPre=+/usr/bin/mkdir --parents ", "ExecStartPre=+/usr/bin/chown --no-dereference dragonfly "
    ]  # fmt: skip
    assert lines[0].split('"')[1:] == lines[1].split('"')[1:]


def test_a_directory_that_holds_more_than_dfdaemons_files_is_refused_by_key(tmp_path: Path) -> None:
    """The drop-in would open it to whoever reaches dfdaemon."""
    file = tmp_path / "dfdaemon.yaml"
    file.write_text("storage: {dir: /}\ndownload: {server: {socketPath: /run/dfdaemon.sock}}\n")
    run = Run(tmp_path, "dragonfly", "render", "dfdaemon-unit", "--dfdaemon", str(file))
    assert run.code == 2
    assert f"{file}: storage.dir = /: holds /etc" in run.err
    assert f"{file}: download.server.socketPath = /run: holds /run/systemd" in run.err
    assert "command line: --log-dir = /var: holds /var/spool/cron" in (
        Run(tmp_path, "dragonfly", "render", "dfdaemon-unit", "--log-dir", "/var").err
    )


@pytest.mark.parametrize("path", ['"/srv/p\\nExecStartPre=/bin/true"', "pieces", "/srv/../etc/p"])
def test_a_path_that_would_not_be_one_in_a_unit_is_refused(tmp_path: Path, path: str) -> None:
    file = tmp_path / "dfdaemon.yaml"
    file.write_text(f"storage: {{dir: {path}}}\n")
    run = Run(tmp_path, "dragonfly", "render", "dfdaemon-unit", "--dfdaemon", str(file))
    assert (run.code, run.out) == (2, "")
    assert f"{file}: storage.dir = " in run.err


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["dfdaemon", "--dfdaemon", "x"], "--dfdaemon is not for dfdaemon"),
        (["dfdaemon-unit", "--dfdaemon", "x", "--storage", "/a"], "--dfdaemon says where pieces lie"),
        (["dfdaemon-unit", "--dfdaemon", "/nowhere.yaml"], "/nowhere.yaml cannot be read"),
        (["dfdaemon-unit", "--user", "a b"], "argument --user: a b is no name of a user"),
    ],
)
def test_what_cannot_be_rendered_is_refused(tmp_path: Path, argv: list[str], what: str) -> None:
    run = Run(tmp_path, "dragonfly", "render", *argv)
    assert (run.code, run.out) == (2, "")
    assert what in run.err
