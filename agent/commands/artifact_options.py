"""What the verbs of artifacts share of their command lines: versions, places and where archives come from."""

from __future__ import annotations

import argparse
import posixpath

from agent.apply import sources
from agent.artifacts.fetching import Source, SourceKind
from agent.artifacts.lock import ArtifactName
from agent.commands.context import Context
from agent.config.forms import is_release
from agent.config.model import Config
from agent.errors import ArtifactError
from agent.ports_install import ArtifactPorts


def add_versions(parser: argparse.ArgumentParser, what: str) -> None:
    """--nydus and --snapshotter."""
    for name in ("nydus", "snapshotter"):
        parser.add_argument(f"--{name}", metavar="VERSION", type=_version, help=what)


def _version(text: str) -> str:
    if not is_release(text):
        raise argparse.ArgumentTypeError(f"{text} is not a version such as 2.4.4")
    return text


def versions(args: argparse.Namespace) -> dict[ArtifactName, str]:
    """Versions that the command line names."""
    named = ((ArtifactName.NYDUS, args.nydus), (ArtifactName.SNAPSHOTTER, args.snapshotter))
    return {name: wanted for name, wanted in named if wanted}


def absolute(path: str) -> str:
    """A path as root's files are named; what it leads to is not looked at."""
    if posixpath.isabs(path):
        return path
    from pathlib import Path

    return posixpath.join(str(Path.cwd()), path)


def source(place: str, config: Config) -> Source:
    """Where archives come from: the place that was given, else what the configuration says.

    Raises ArtifactError NNA1122.
    """
    if place and "://" not in place:
        place = absolute(place)
    return sources.source_of(config.artifacts, place, is_directory=posixpath.isdir(place))


def archives(place: str, context: Context, config: Config, ports: ArtifactPorts) -> Source:
    """The same, ready to be fetched from, where a bundle will not do: archives as they were released are wanted."""
    found = source(place, config)
    if found.kind is SourceKind.BUNDLE:
        cause = "archives are taken from a mirror, a directory that is there, or, where nothing is named, the releases"
        raise ArtifactError("NNA1122", f"{found.place} cannot be used as a source", cause=cause)
    return sources.unlocked(ports.files, config.artifacts, context.environment, found)
