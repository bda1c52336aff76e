"""In a root where systemd does not run (an image is being built), installing is quiet and purging leaves
nothing.
"""

from __future__ import annotations

from tests.package.deb import Package, in_root

_SCRIPT = """
export DEBIAN_FRONTEND=noninteractive
tree() {{ python3 -I /src/tests/package/tree.py; }}
mkdir -p {conf_d}
printf '[apply]\\non_install = true\\n' >{conf_d}/50-fleet.toml
rm -rf /etc/nydus-agent
tree >/tmp/before
mkdir -p {conf_d}; printf '[apply]\\non_install = true\\n' >{conf_d}/50-fleet.toml
dpkg --install {deb} </dev/null
nydus-agent version
nydus-agent due boot
tree >/tmp/installed
{between}
dpkg --purge nydus-node-agent </dev/null
tree >/tmp/after
echo -- installed; diff /tmp/before /tmp/installed | grep '^[<>]' || true
echo -- left; diff /tmp/before /tmp/after | grep '^[<>]' || true
"""


def _run(package: Package, between: str = ":") -> tuple[list[str], list[str]]:
    """Lines of the tree that changed by the installation, and those that are still other after the
    removal.
    """
    script = _SCRIPT.format(
        conf_d="/etc/nydus-agent/conf.d", deb=f"/src/build/deb/{package.path.name}", between=between
    )
    done = in_root(script, "root")
    assert done.returncode == 0, done.stdout + done.stderr
    told, left = done.stdout.split("-- left\n")
    return told.split("-- installed\n")[1].splitlines(), left.splitlines()


def test_an_image_is_changed_by_its_first_boot_and_not_by_its_build_and_purging_leaves_the_tree_as_it_was(
    package: Package,
) -> None:
    installed, left = _run(package)
    changed = {line.split()[1] for line in installed}
    assert "/etc/systemd/system/multi-user.target.wants/nydus-agent-boot.service" in changed
    assert [path for path in changed if path.startswith(("/etc/containerd", "/etc/nydus/"))] == []
    assert left == []


def test_an_upgrade_asks_nothing_and_keeps_the_operators_files(package: Package) -> None:
    between = """
        dpkg-deb --raw-extract {deb} /tmp/next
        sed -i 's/^Version: .*/Version: 9.9.9/' /tmp/next/DEBIAN/control
        echo '# changed' >>/tmp/next/usr/share/doc/nydus-node-agent/examples/agent.toml
        dpkg-deb --build /tmp/next /tmp/next.deb
        echo '[apply]' >/etc/nydus-agent/agent.toml
        dpkg --install /tmp/next.deb </dev/null
        dpkg-query --show --showformat='${{Version}}' nydus-node-agent | grep -qx 9.9.9
        grep -q on_install /etc/nydus-agent/conf.d/50-fleet.toml
        grep -q apply /etc/nydus-agent/agent.toml
    """.format(deb=f"/src/build/deb/{package.path.name}")
    _, left = _run(package, between)
    assert left == []
