"""A package under another version: an upgrade without an archive."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.node.boot import Node

_TREE = r"""
tree=/var/tmp/repacked/$1
rm -rf "$tree" && mkdir -p "$tree/DEBIAN"
dpkg --listfiles "$1" | while read -r path; do
    if [ -d "$path" ] && [ ! -L "$path" ]; then mkdir -p "$tree$path"
    elif [ -e "$path" ] || [ -L "$path" ]; then cp --archive "$path" "$tree$path"
    fi
done
dpkg-query --status "$1" | awk -v version="$2" '
    /^Version:/ { print "Version: " version; next }
    /^(Status|Conffiles):/ { skip = 1; next }
    /^ / { if (!skip) print; next }
    { skip = 0; print }' >"$tree/DEBIAN/control"
for part in conffiles preinst postinst prerm postrm triggers; do
    [ ! -e "/var/lib/dpkg/info/$1.$part" ] || cp --archive "/var/lib/dpkg/info/$1.$part" "$tree/DEBIAN/$part"
done
"""
_BUILD = r"""
deb=/var/tmp/$1_$2.deb
dpkg-deb --root-owner-group -Znone --build "/var/tmp/repacked/$1" "$deb" >/dev/null
echo "$deb"
"""


def as_version(deb: Path, version: str, place: Path) -> Path:
    """The same package file as another version, in `place`."""
    root = place / f"tree-{version}"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, root], check=True, timeout=60)
    control = root / "DEBIAN" / "control"
    control.write_text(
        re.sub(r"^Version: .*", f"Version: {version}", control.read_text(), flags=re.MULTILINE)
    )
    name, _, architecture = deb.stem.split("_")
    made = place / f"{name}_{version}_{architecture}.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(root), str(made)]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
    return made


def repack(node: Node, package: str, version: str, files: Mapping[str, str] | None = None) -> str:
    """Build a package that is installed on the node as `version`; returns the .deb's path on the node.

    `files` are other contents for some of its files; what it holds otherwise lies on the node now, conffiles
    too.
    """
    node.run(["bash", "-euc", _TREE, "tree", package, version])
    for path, text in (files or {}).items():
        node.write(f"/var/tmp/repacked/{package}{path}", text)
    return node.run(["bash", "-euc", _BUILD, "build", package, version], timeout=120).stdout.strip()
