"""`nydus-agent check`: is the configuration right, and what does it come to?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agent.commands.context import Context
from agent.config.fields import spell
from agent.config.load import LoadedConfig, load
from agent.config.parse import DEFAULT, values_of
from agent.console import Tone, Toned
from agent.errors import ConfigError, Exit

HELP = "check the configuration, all problems at once"
NEEDS_ROOT = False
_AGAIN = "correct them, then run the same command again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE, --as, --show."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="a file that is not in place yet; default: the configuration in place",
    )
    parser.add_argument(
        "--as",
        dest="role",
        choices=["drop-in", "base"],
        default="drop-in",
        help="check FILE on top of the configuration in place, or instead of the base file (default drop-in)",
    )
    parser.add_argument(
        "--show", action="store_true", help="print every setting with its value and where it is set"
    )


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError with every problem."""
    base = args.file if args.file is not None and args.role == "base" else None
    drop_in = args.file or "" if base is None else ""
    try:
        loaded = load(
            base or context.config_file, context.conf_d, candidate=drop_in, required=base is not None,
            trusted=context.uid == 0,
        )  # fmt: skip
    except ConfigError as error:
        raise ConfigError(error.code, error.what, error.problems, try_=_AGAIN) from None
    warnings = (*loaded.warnings, *_missing_files(loaded))
    settings: list[dict[str, Any]] = [
        {"key": key, "value": value, "source": loaded.origins.get(key, DEFAULT)}
        for key, value in values_of(loaded.config)
    ]
    console = context.console
    for warning in warnings:
        console.line(Toned("warning:", Tone.WARN), f" {warning}")
    if args.show:
        rows = [(one["key"], spell(one["value"]), Toned(one["source"], Tone.FAINT)) for one in settings]
        console.table(rows, header=("setting", "value", "set in"))
        console.line()
    read = ", ".join(loaded.sources) or "no file is there, so every setting has its default"
    console.line(Toned("ok", Tone.GOOD), f": the configuration is right ({read})")
    body = {"ok": True, "sources": loaded.sources, "warnings": warnings, "settings": settings}
    console.emit("ConfigCheck", body)
    return Exit.OK


def _missing_files(loaded: LoadedConfig) -> tuple[str, ...]:
    """Files that are not on this node. Warnings only: the check may run before they are put there."""
    registries = loaded.config.registries
    named = [(f"the CA file of {entry.host}", entry.ca) for entry in registries.hosts]
    named.append(("docker's configuration with the credentials of registries", registries.credentials))
    return tuple(
        f"{what} is not there: {path}" for what, path in named if path.startswith("/") and _is_missing(path)
    )


def _is_missing(path: str) -> bool:
    """Not where only root may tell."""
    try:
        return not Path(path).is_file()
    except PermissionError:
        return False
