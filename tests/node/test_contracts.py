"""The contracts of tests/contract/node, run on a booted node by pytest there: real systemd, containerd and
nydusd.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.node import releases, stock
from tests.node.boot import Node
from tests.runner import report
from tests.time_bounds import REPEATED, missed

ROOT = Path(__file__).resolve().parents[2]
_RESULTS = "/run/contracts.xml"


def check_contracts(node: Node, *files: str) -> None:
    """Run contract files on the node; every test must run and pass."""
    paths = [f"tests/contract/node/{name}" for name in files]
    # Verbose: a test that does not end is named by the last line.
    options = ["--verbose", "-p", "no:cacheprovider", "--tb=short", f"--junitxml={_RESULTS}"]
    command = ["env", "--chdir=/src", "python3", "-m", "pytest", *options, *paths]
    environment = {"PYTHONPATH": "/src", "PYTHONDONTWRITEBYTECODE": "1"}
    done = node.run(command, env=environment, timeout=300, check=False)
    assert done.returncode == 0, _story(node, done.stdout[-8000:] + done.stderr[-2000:])
    results = ET.fromstring(node.read(_RESULTS))
    repeats = [each.attrib["value"] for each in results.iter("property") if each.attrib["name"] == REPEATED]
    missed.extend(repeats)  # so that they count among those of the whole run
    counts = next(results.iter("testsuite")).attrib
    assert int(counts["tests"]) > 0
    assert int(counts["skipped"]) == 0, done.stdout[-4000:]


def _story(node: Node, said: str) -> str:
    """First what failed and why: of an assertion, a summary shows one line."""
    if not node.exists(_RESULTS):
        return f"pytest ended before it had any result\n{said}"
    return f"{report.failures(node.read(_RESULTS))}\n{said}"


@pytest.mark.parametrize("line", ["1.6", "2.4"])
def test_the_fakes_do_what_other_containerds_do(line: str) -> None:
    """1.7 is below, with two snapshotters."""
    with releases.booted(line, shares={"/src": ROOT}) as node:
        check_contracts(node, "real_containerd.py")


@pytest.fixture
def boot(node_factory: Callable[..., Node]) -> Callable[..., Node]:
    """A node that sees this checkout, with the generated stubs in it, at /src."""
    assert (ROOT / "agent/_pb/__init__.py").is_file(), "make protos"
    return lambda **settings: node_factory(shares={"/src": ROOT}, **settings)


def test_the_fakes_do_what_systemd_and_nydusd_do(boot: Callable[..., Node]) -> None:
    check_contracts(boot(), "real_units.py", "real_alarms.py", "real_nydusd.py")


def test_the_fakes_do_what_bookworms_systemd_does(boot: Callable[..., Node]) -> None:
    """Systemd 252 and pystemd 0.11: the oldest that the package must work with."""
    check_contracts(boot(root=stock.root("bookworm")), "real_units.py")


def test_the_fakes_do_what_journald_and_the_kernel_do(boot: Callable[..., Node]) -> None:
    check_contracts(boot(snapshotter="none", nydus=False), "real_journal.py", "real_holders.py")


@pytest.mark.parametrize("snapshotter", ["0.16.1", "0.13.4"])
def test_the_fakes_do_what_containerd_and_the_snapshotter_do(
    boot: Callable[..., Node], snapshotter: str
) -> None:
    check_contracts(boot(snapshotter=snapshotter), "real_containerd.py")
