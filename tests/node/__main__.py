"""`python3 -m tests.node shell`: a node to look around in; it is gone when the shell ends."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.node import parts
from tests.node.boot import Node, sweep


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.node", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    shell = verbs.add_parser("shell", help="boot a node and open a shell on it")
    shell.add_argument("--snapshotter", choices=("0.16.1", "0.13.4", "none"), default="0.16.1")
    shell.add_argument("--deb", type=Path, help="a package to install first")
    shell.add_argument(
        "--dragonfly", action="store_true", help="with what parts.start_dfdaemon needs in /opt"
    )
    shell.add_argument("--command", help="a bash script to run instead of an interactive shell")
    verbs.add_parser("sweep", help="remove what dead runs left")
    options = parser.parse_args()
    if options.verb == "sweep":
        print("\n".join(sweep()) or "nothing was left")
        return 0
    return _shell(options)


def _shell(options: argparse.Namespace) -> int:
    shares = parts.dragonfly_shares() if options.dragonfly else {}
    with Node(snapshotter=options.snapshotter, shares=shares) as node:
        print(f"{node.name} is up after {node.boot_s:.1f} s; its files end with this shell", file=sys.stderr)
        if options.deb is not None:
            sys.stderr.write(node.install_deb(options.deb).stdout)
        command = ["bash", "-euc", options.command] if options.command else ["bash", "-l"]
        return subprocess.run(node.argv(command)).returncode


if __name__ == "__main__":
    sys.exit(main())
