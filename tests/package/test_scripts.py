"""What the package's scripts do to a node: no more than they must."""

from __future__ import annotations

import re

import pytest

from tests.package.deb import Package

_SCRIPTS = ("postinst", "prerm", "postrm")
_OURS = re.compile(r"nydus-agent(-(apply|boot|inspect|recover))?\.(service|timer|path)")


@pytest.mark.parametrize("name", _SCRIPTS)
def test_no_script_touches_a_service_of_others(package: Package, name: str) -> None:
    text = re.sub(r"^\s*#.*$", "", package.script(name), flags=re.MULTILINE)
    assert "containerd" not in text
    assert "snapshotter" not in text
    acting = re.findall(r"(?:systemctl|deb-systemd-invoke|deb-systemd-helper)\s+(.*)", text)
    words = [word.strip("';") for line in acting for word in line.split()]
    units = [word for word in words if re.search(r"\.(service|timer|path|socket|target)$", word)]
    assert units != []
    assert [unit for unit in units if not _OURS.fullmatch(unit)] == []


def test_installing_starts_the_daemon_and_its_watch_and_nothing_else(package: Package) -> None:
    invoked = re.findall(r"deb-systemd-invoke \S+ (.*?) >", package.script("postinst"))
    started = {word.strip("'") for line in invoked for word in line.split()}
    assert started == {"nydus-agent.service", "nydus-agent-inspect.timer", "nydus-agent-inspect.path"}


def test_an_ordered_change_is_queued_and_never_awaited_by_dpkg(package: Package) -> None:
    starts = re.findall(r".*systemctl .*nydus-agent-apply\.service.*", package.script("postinst"))
    assert [line.strip() for line in starts] == [
        "systemctl start --no-block nydus-agent-apply.service || true"
    ]


def test_only_what_may_run_at_boot_is_enabled(package: Package) -> None:
    enabled = set(re.findall(r"deb-systemd-helper enable '(\S+)'", package.script("postinst")))
    assert enabled == {
        "nydus-agent.service", "nydus-agent-boot.service", "nydus-agent-recover.service",
        "nydus-agent-inspect.timer", "nydus-agent-inspect.path",
    }  # fmt: skip


def test_an_upgraded_runtime_is_looked_at_and_nothing_waits_for_that(package: Package) -> None:
    lines = [
        line for line in (package.control / "triggers").read_text().splitlines() if not line.startswith("#")
    ]
    names = ("containerd", "containerd-nydus-grpc", "nydus-image", "nydusd")
    assert sorted(lines) == [
        *(f"interest-noawait /usr/bin/{name}" for name in names),
        "interest-noawait /usr/lib/nydus-agent/programs",
    ]
    text = package.script("postinst")
    begin, end = text.index('if [ "$1" = triggered ]'), text.index('if [ "$1" = configure ] && [ -d')
    assert not re.search(r"systemctl|deb-systemd|nydus-agent (apply|remove)", text[begin:end])


def test_removal_undoes_the_change_while_our_code_is_still_there(package: Package) -> None:
    text = package.script("prerm")
    assert text.index("nydus-agent remove --if-applied") < text.index("deb-systemd-invoke stop")
    assert not re.search(r"nydus-agent remove --if-applied.*\|\|", text)  # its failure must end the removal
