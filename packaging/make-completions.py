#!/usr/bin/python3
"""Prints the static completion of nydus-agent for a shell. Static, because a completion that runs the program
at every Tab would cost its start each time.

usage: packaging/make-completions.py bash|zsh
"""

from __future__ import annotations

import sys
from pathlib import Path

import shtab

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent import cli


def main() -> int:
    """Print the completion."""
    if len(sys.argv) != 2 or sys.argv[1] not in ("bash", "zsh"):
        print(__doc__, file=sys.stderr)
        return 2
    print(shtab.complete(cli.build_parser(cli.public_verbs()), shell=sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
