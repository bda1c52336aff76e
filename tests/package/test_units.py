"""Our units on the oldest and the newest systemd that they must work with."""

from __future__ import annotations

import pytest

from tests.node import stock
from tests.package.deb import Package, in_root

_VERIFY = """
dpkg-deb --extract {deb} /
cd /usr/lib/systemd/system
systemd-analyze verify --recursive-errors=no {man} nydus-agent*
"""


def _root(suite: str) -> str:
    """A root with that release's systemd: trixie's is the one that the package is built in, bookworm's a
    node's.
    """
    return "build-root" if suite == "trixie" else str(stock.root(suite))


@pytest.mark.parametrize(("suite", "version", "man"), [("trixie", 257, "yes"), ("bookworm", 252, "no")])
def test_systemd_has_nothing_to_say_about_our_units(
    package: Package, suite: str, version: int, man: str
) -> None:
    root = _root(suite)
    told = in_root("systemctl --version", root)
    assert told.stdout.startswith(f"systemd {version} ")
    # The user is made by sysusers on a node; here it is the name alone that is looked up.
    script = (
        "echo nydus-agent:x:998:998::/:/usr/sbin/nologin >>/etc/passwd; echo nydus-agent:x:998: "
        ">>/etc/group\n"
    )
    done = in_root(
        script + _VERIFY.format(deb=f"/src/build/deb/{package.path.name}", man=f"--man={man}"), root
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


EXPOSURE = {"": 1.8, "-apply": 3.8, "-boot": 1.5, "-inspect": 3.5, "-recover": 1.6, "-repair": 3.8}
"""Of 10, by systemd-analyze; why it is not less stands in the units."""


def test_a_hole_in_the_agent_opens_little_of_the_node(package: Package) -> None:
    each = "\n".join(
        f"systemd-analyze security --offline=yes --threshold={most * 10:.0f} nydus-agent{name}.service"
        for name, most in EXPOSURE.items()
    )
    done = in_root(f"set -e; dpkg-deb --extract /src/build/deb/{package.path.name} /\n{each}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_roots_units_give_up_what_they_do_not_need(package: Package) -> None:
    for name in ("apply", "boot", "inspect", "recover"):
        text = package.read(f"/usr/lib/systemd/system/nydus-agent-{name}.service")
        for setting in ("NoNewPrivileges=yes", "ProtectSystem=", "PrivateTmp=yes",
                        "CapabilityBoundingSet=CAP_",
                        "RestrictAddressFamilies=", "SystemCallFilter=", "TimeoutStartSec="):  # fmt: skip
            assert setting in text, (name, setting)
