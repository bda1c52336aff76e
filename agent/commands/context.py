"""What every verb is given: the console, where things lie, who asks."""

from __future__ import annotations

import argparse
import importlib
import posixpath
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from agent import paths
from agent.config.load import LoadedConfig, load
from agent.console import Console, Format
from agent.errors import Exit, UsageError


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of one run of a verb."""

    console: Console
    uid: int
    environment: Mapping[str, str] = field(default_factory=dict)
    config_file: str = paths.CONFIG_FILE
    conf_d: str = paths.CONF_D
    root: str = "/"
    """Where the files of `agent.paths` lie: "/", or a directory in tests."""

    @property
    def format(self) -> Format:
        """text or json."""
        return self.console.format

    def path(self, name: str) -> str:
        """A name of `agent.paths` below the root directory."""
        return name if self.root == "/" else posixpath.join(self.root, name.lstrip("/"))

    @property
    def asker(self) -> str:
        """Who asked: the user behind sudo, else the name of the uid."""
        name = self.environment.get("SUDO_USER", "")
        if name and len(name) <= 64 and name.isprintable():
            return name
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"

    def load_config(self) -> LoadedConfig:
        """The operator's configuration; its warnings go to stderr. It names programs, so root refuses one
        that others may write. Raises ConfigError with every problem.
        """
        loaded = load(self.config_file, self.conf_d, trusted=self.uid == 0)
        for warning in loaded.warnings:
            self.console.warn(warning)
        return loaded

    def require_root(self, verb: str) -> None:
        """Raises UsageError (NNA1001) where the caller is not root."""
        if self.uid != 0:
            raise UsageError(
                "NNA1001",
                f"{verb} must run as root",
                cause=f"it was started by uid {self.uid}",
                try_=f"sudo nydus-agent {verb}",
            )


class VerbModule(Protocol):
    """What agent.commands.VERB offers ("-" is written "_"), and agent.commands.VERB.ACTION."""

    HELP: str
    """One line, lower case, without a full stop."""
    NEEDS_ROOT: bool

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's own arguments."""

    def run(self, args: argparse.Namespace, context: Context) -> Exit:
        """Load, call, print. Raises AgentError."""


def load_verb(name: str) -> VerbModule:
    """Import the module agent.commands.NAME of a verb or an action."""
    return cast("VerbModule", importlib.import_module(f"agent.commands.{name}"))


@dataclass(frozen=True, slots=True)
class Verb:
    """One entry of the table; help shows the verbs of a `group` together, and none of those without one: they
    are run by units and maintainer scripts.
    """

    name: str
    group: str

    def load(self) -> VerbModule:
        """Import the verb's module."""
        name = self.name.replace("-", "_")
        return load_verb(name if self.group else f"internal.{name}")


def absolute(path: str) -> str:
    """A path as root's files are named; what it leads to is not looked at."""
    return path if posixpath.isabs(path) else posixpath.join(str(Path.cwd()), path)


def sentence(module: VerbModule) -> str:
    """What a verb does, as its own help begins."""
    return f"{module.HELP[0].upper()}{module.HELP[1:]}."
