"""`nydus-agent check`: is the configuration right, and what does it come to?"""

from __future__ import annotations

import argparse
from pathlib import Path

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
    try:
        loaded = _load(args, context)
    except ConfigError as error:
        raise ConfigError(error.code, error.what, error.problems, try_=_AGAIN) from None
    warnings = (*loaded.warnings, *_missing_files(loaded))
    console = context.console
    for warning in warnings:
        console.line(Toned("warning:", Tone.WARN), f" {warning}")
    if args.show:
        console.table(
            [
                (key, spell(value), Toned(_origin(loaded, key), Tone.FAINT))
                for key, value in values_of(loaded.config)
            ],
            header=("setting", "value", "set in"),
        )
        console.line()
    read = (
        ", ".join(loaded.sources) if loaded.sources else "no file is there, so every setting has its default"
    )
    console.line(Toned("ok", Tone.GOOD), f": the configuration is right ({read})")
    console.emit(
        "ConfigCheck",
        {
            "ok": True,
            "sources": loaded.sources,
            "warnings": warnings,
            "settings": [
                {"key": key, "value": value, "source": _origin(loaded, key)}
                for key, value in values_of(loaded.config)
            ],
        },
    )
    return Exit.OK


def _load(args: argparse.Namespace, context: Context) -> LoadedConfig:
    if args.file is None:
        return load(context.config_file, context.conf_d)
    if args.role == "base":
        return load(args.file, context.conf_d, required=True)
    return load(context.config_file, context.conf_d, candidate=args.file)


def _origin(loaded: LoadedConfig, key: str) -> str:
    return loaded.origins.get(key, DEFAULT)


def _missing_files(loaded: LoadedConfig) -> tuple[str, ...]:
    """Files that are not on this node. Warnings only: the check may run before they are put there."""
    named = [
        (f"the CA file of {entry.host}", entry.ca) for entry in loaded.config.registries.hosts if entry.ca
    ]
    named += [
        ("docker's configuration with the credentials of registries", loaded.config.registries.credentials)
    ]
    return tuple(
        f"{what} is not there: {path}" for what, path in named if path.startswith("/") and not _is_file(path)
    )


def _is_file(path: str) -> bool:
    """Also where only root may tell."""
    try:
        return Path(path).is_file()
    except PermissionError:
        return True
