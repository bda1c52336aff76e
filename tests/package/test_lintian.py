"""Debian's own checker."""

from __future__ import annotations

from tests.package.deb import Package, in_root


def test_lintian_has_no_errors_and_no_warnings(package: Package) -> None:
    changes = f"/src/build/deb/nydus-node-agent_{package.field('Version')}_*.changes"
    done = in_root(
        f"lintian --allow-root --fail-on error,warning --display-info --tag-display-limit 0 {changes}"
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))] == []


def test_building_twice_gives_the_same_package() -> None:
    """What was reviewed is what is installed: the time zone, the umask and the directory of the builder do
    not show.
    """
    done = in_root(
        """
        mkdir -p /tmp/one/source /tmp/two/elsewhere
        packaging/copy-source /tmp/one/source
        cp --archive /tmp/one/source/. /tmp/two/elsewhere
        build() { dpkg-buildpackage --unsigned-changes --build=binary >/tmp/log 2>&1; }
        (cd /tmp/one/source && build)
        (cd /tmp/two/elsewhere && umask 027 && export TZ=Pacific/Auckland && build)
        cmp /tmp/one/*.deb /tmp/two/*.deb
        """
    )
    assert done.returncode == 0, done.stdout + done.stderr
