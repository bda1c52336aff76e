"""`nydus-agent artifacts bundle`: a lock and its archives in one file, for nodes without a network."""

from __future__ import annotations

import argparse

from agent import paths, wire
from agent.artifacts import bundle
from agent.artifacts.bundle import Bundle, Member
from agent.artifacts.lock import Lock, parse
from agent.commands.artifact_options import absolute
from agent.commands.context import Context
from agent.errors import ArtifactError, Exit
from agent.node.facts import Arch

HELP = "put a lock and its archives into one file, for nodes without a network"
NEEDS_ROOT = False

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
        metavar="DIRECTORY",
        required=True,
        help="the archives, under the names they were released with",
    )
    parser.add_argument("--lock", metavar="FILE", default=paths.ARTIFACTS_LOCK, help="the lock (default %(default)s)")
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
    """Raises ArtifactError (the lock, an archive that is not the lock's) and FileError."""
    lock = _lock(context, absolute(args.lock))
    wanted = args.arch or {artifact.arch for artifact in lock.artifacts}
    planned = bundle.planned(lock, bundle.for_architectures(lock, wanted))
    output = absolute(args.output)
    try:
        wire.bundles(context.root).write(output, planned, absolute(args.source), _Progress(context))
    finally:
        context.console.passing("")
    _tell(context, output, planned)
    return Exit.OK


def _lock(context: Context, path: str) -> Lock:
    found = wire.root_files(context.root).read(path)
    if found is None:
        raise ArtifactError("NNA1110", "no lock says which archives these are", cause=f"{path} is not there")
    return parse(found.content, path)


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
