"""`nydus-agent artifacts lock`: pin releases, as their own checksums and their bytes are now, in a lock file."""

from __future__ import annotations

import argparse
from datetime import timedelta

from agent import paths, wire
from agent.apply import locks, provide
from agent.artifacts import releases
from agent.artifacts.fetching import Job, Source
from agent.artifacts.lock import Artifact, Lock, parse, render
from agent.commands import artifact_options as options
from agent.commands.artifacts_bundle import architectures
from agent.commands.context import Context
from agent.commands.transfer import TransferProgress
from agent.config.model import Config
from agent.console import Tone, Toned
from agent.durations import parse_duration
from agent.errors import Exit, UsageError
from agent.node.machine import architecture
from agent.ports_artifacts import ArtifactStore
from agent.ports_install import ArtifactPorts

HELP = "pin releases in a lock file, from their own checksums and every byte of them"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    options.add_versions(parser, "pin this version of it")
    parser.add_argument(
        "--arch", metavar="ARCH[,ARCH]", type=architectures, help="for these architectures (default this node's)"
    )
    parser.add_argument(
        "--from", dest="source", metavar="URL|DIRECTORY", default="",
        help="a mirror or a directory that holds the releases' archives and their .sha256sum (default the releases)",
    )  # fmt: skip
    parser.add_argument(
        "--expires-in", metavar="TIME", type=_lifetime, default=locks.LIFETIME, help="such as 90d (default 365d)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", default=paths.ARTIFACTS_LOCK,
        help="the lock, which is replaced as a whole (default %(default)s)",
    )  # fmt: skip


def _lifetime(text: str) -> timedelta:
    try:
        return timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, UsageError, ArtifactError, FileError."""
    config = context.load_config().config
    return lock(args, context, config, wire.artifact_ports(context.root))


def lock(args: argparse.Namespace, context: Context, config: Config, ports: ArtifactPorts) -> Exit:
    """The same with these ports."""
    output = options.absolute(args.output)
    there = ports.files.read(output)
    before = parse(there.content, output) if there is not None else None
    store = ports.stores(config.artifacts.directory)
    seen = _seen(_wanted(args, ports), options.archives(args.source, context, config, ports), context, ports, store)
    if before is not None:
        locks.refuse_another(before, output, seen)
    now = locks.utc(ports.clock.now())
    made = locks.made(seen, now, after=before.serial if before is not None else 0, lifetime=args.expires_in)
    # What was found before the download is what is replaced: a lock that came meanwhile was not compared with.
    ports.files.replace(
        output, render(made), mode=0o644, uid=0, gid=0, expect_sha256=there.sha256 if there is not None else ""
    )
    _tell(made, output, context)
    return Exit.OK


def _wanted(args: argparse.Namespace, ports: ArtifactPorts) -> tuple[Artifact, ...]:
    versions = options.versions(args)
    if not versions:
        raise UsageError("NNA1002", "no version was given", try_="nydus-agent artifacts lock --nydus 2.4.4")
    chosen = sorted(args.arch or [architecture(ports)])
    return tuple(releases.release(name, wanted, arch) for name, wanted in versions.items() for arch in chosen)


def _seen(
    wanted: tuple[Artifact, ...], source: Source, context: Context, ports: ArtifactPorts, store: ArtifactStore
) -> tuple[Artifact, ...]:
    """Every archive is fetched and taken apart, one architecture after the other; nothing of it is kept."""
    found: list[Artifact] = []
    with TransferProgress(context.console, ports.clock) as transfer:
        for arch in dict.fromkeys(artifact.arch for artifact in wanted):
            ours = tuple(artifact for artifact in wanted if artifact.arch is arch)
            job = Job(ours, source, trust_release_checksum=True)
            with store.lock("artifacts lock"), store.staging() as into:
                found += ports.downloads().fetch(job, into, transfer, deadline_s=provide.FETCH_S)
    return tuple(found)


def _tell(made: Lock, output: str, context: Context) -> None:
    console = context.console
    for artifact in made.artifacts:
        console.line(Toned(str(artifact), Tone.STRONG), f": {artifact.size} bytes, sha256 {artifact.sha256}")
        console.line(f"  {', '.join(program.name for program in artifact.programs)}")
    console.line(f"{output}: serial {made.serial}, expires {made.expires:%Y-%m-%d}")
    console.line(
        "this pins what the releases hold now: compare the digests with what you know of them, then copy it to nodes"
    )
    console.emit(
        "ArtifactLock",
        {
            "path": output,
            "serial": made.serial,
            "made": made.made.isoformat(),
            "expires": made.expires.isoformat(),
            "artifacts": [
                {
                    "name": artifact.name.value,
                    "version": artifact.version,
                    "arch": artifact.arch.value,
                    "url": artifact.url,
                    "bytes": artifact.size,
                    "sha256": artifact.sha256,
                    "programs": [
                        {"name": program.name, "bytes": program.size, "sha256": program.sha256}
                        for program in artifact.programs
                    ],
                }
                for artifact in made.artifacts
            ],
        },
    )
