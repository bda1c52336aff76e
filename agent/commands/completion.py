"""`nydus-agent completion`: print the completion that the package has installed for a shell.

It was made when the package was built: one that runs the program at every Tab would cost its start each time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from agent.commands.context import Context
from agent.errors import AgentError, Exit

HELP = "print the completion of the command line for a shell"
NEEDS_ROOT = False

_FILES = {
    "bash": "/usr/share/bash-completion/completions/nydus-agent",
    "zsh": "/usr/share/zsh/vendor-completions/_nydus-agent",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", metavar="SHELL", choices=list(_FILES), help="which shell: bash or zsh")


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises AgentError NNA1005 where the package's file is not there."""
    path = Path(context.path(_FILES[args.shell]))
    try:
        script = path.read_text()
    except OSError as error:
        raise AgentError(
            "NNA1005", "the completion is not installed", cause=f"{path}: {error.strerror}",
            try_="apt install --reinstall nydus-node-agent",
        ) from None  # fmt: skip
    print(script, end="", file=context.console.out)
    return Exit.OK
