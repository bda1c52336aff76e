"""`nydus-agent artifacts bundle`: a lock and its archives in one file, for nodes without a network."""

from __future__ import annotations

import argparse

from agent import wire
from agent.apply import collect, locks
from agent.artifacts import bundle
from agent.artifacts.bundle import Bundle, Member
from agent.artifacts.fetching import SourceKind
from agent.commands import artifact_options as options
from agent.commands.context import Context
from agent.commands.transfer import TransferProgress
from agent.config.model import Config
from agent.errors import ArtifactError, Exit
from agent.node.facts import Arch
from agent.ports_install import ArtifactPorts

HELP = "put a lock and its archives into one file, for nodes without a network"
NEEDS_ROOT = False
"""Not for archives in a directory: whoever has them can put them together."""

_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--arch, --from, --lock, --output."""
    parser.add_argument(
        "--arch",
        metavar="ARCH[,ARCH]",
        type=architectures,
        help="for these architectures only (default all in the lock)",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="URL|DIRECTORY",
        default="",
        help="a mirror or a directory that holds the archives under the names they were released with; default: "
        "base_url, else the releases",
    )
    parser.add_argument("--lock", metavar="FILE", default="", help="the lock; default: as [artifacts] lock says")
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the bundle, which is replaced as a whole"
    )


def architectures(text: str) -> frozenset[Arch]:
    """ "amd64,arm64" as a set. Raises argparse.ArgumentTypeError."""
    known = {Arch.AMD64.value: Arch.AMD64, Arch.ARM64.value: Arch.ARM64}
    wrong = [name for name in text.split(",") if name not in known]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not one of {', '.join(known)}")
    return frozenset(known[name] for name in text.split(","))


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, UsageError, ArtifactError (the lock, an archive that is not the lock's), FileError."""
    return put_together(args, context, context.load_config().config, wire.artifact_ports(context.root))


def put_together(args: argparse.Namespace, context: Context, config: Config, ports: ArtifactPorts) -> Exit:
    """The same with these ports."""
    if not args.source or "://" in args.source:
        context.require_root(
            "artifacts bundle"
        )  # what is downloaded goes through the store, and a process without rights
    source = options.archives(args.source, context, config, ports)
    store = ports.stores(config.artifacts.directory)
    found = locks.find(ports.files, store, config.artifacts, options.absolute(args.lock) if args.lock else "")
    if found is None:
        raise ArtifactError(
            "NNA1110", "no lock says which archives these are", try_="nydus-agent artifacts bundle --lock FILE"
        )
    planned = bundle.planned(found.lock, bundle.for_architectures(found.lock, args.arch or _all(found)))
    output, progress = options.absolute(args.output), _Progress(context)
    try:
        if source.kind is SourceKind.DIRECTORY:
            ports.bundles().write(output, planned, source.place, progress)
        else:
            with (
                TransferProgress(context.console, ports.clock) as transfer,
                collect.archives(planned, found, source, store, ports, transfer) as directory,
            ):
                ports.bundles().write(output, planned, directory, progress)
    finally:
        context.console.passing("")
    _tell(context, output, planned)
    return Exit.OK


def _all(found: locks.Found) -> frozenset[Arch]:
    return frozenset(artifact.arch for artifact in found.lock.artifacts)


class _Progress:
    """One line on a terminal, one line for each archive elsewhere."""

    def __init__(self, context: Context) -> None:
        self.console = context.console

    def __call__(self, member: Member, done: int) -> None:
        size = member.artifact.size
        self.console.passing(f"{member.name}: {done // _MIB} of {size // _MIB} MiB")
        if done == size:
            self.console.passing("")
            self.console.progress(f"{member.artifact}: {size} bytes, size and sha256 as in the lock")


def _tell(context: Context, output: str, planned: Bundle) -> None:
    inside = [str(member.artifact) for member in planned.members]
    context.console.line(f"{output}: {planned.length} bytes, {', '.join(inside)}")
    context.console.line(f"install from it: nydus-agent artifacts install --from {output}")
    context.console.emit(
        "ArtifactBundle",
        {
            "path": output,
            "bytes": planned.length,
            "serial": planned.lock.serial,
            "artifacts": [
                {
                    "name": str(member.artifact.name),
                    "version": member.artifact.version,
                    "arch": str(member.artifact.arch),
                    "archive": member.name,
                    "bytes": member.artifact.size,
                    "sha256": member.artifact.sha256,
                }
                for member in planned.members
            ],
        },
    )
