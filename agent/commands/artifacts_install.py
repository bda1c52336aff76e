"""`nydus-agent artifacts install`: fetch programs that a lock pins, verify them, and make them current."""

from __future__ import annotations

import argparse
import time

from agent import wire
from agent.apply import locks, provide
from agent.apply.provide import Provided, Request, Wishes
from agent.artifacts.fetching import SourceKind
from agent.commands import artifact_options as options
from agent.commands import artifact_sets
from agent.commands.context import Context
from agent.commands.transfer import TransferProgress
from agent.config.model import Config
from agent.console import Tone, Toned
from agent.errors import Exit
from agent.node.machine import architecture
from agent.ports_artifacts import ArtifactStore
from agent.ports_install import ArtifactPorts

HELP = "fetch programs that a lock pins, verify them and make them current; nothing restarts"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "--from", dest="source", metavar="URL|DIRECTORY|FILE", default="",
        help="a mirror of the archives, a directory of them, or a bundle; default: base_url, else the releases",
    )  # fmt: skip
    parser.add_argument("--lock", metavar="FILE", default="", help="the lock; default: as [artifacts] lock says")
    options.add_versions(parser, "this version; default: what the configuration pins, else the newest in the lock")
    parser.add_argument(
        "--trust-release-checksum", action="store_true",
        help="where no lock has a version: take what the release's own .sha256sum names, and pin it from then on",
    )  # fmt: skip
    parser.add_argument(
        "--allow-older", action="store_true", help="also by a lock that is older than one that was accepted before"
    )


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, ArtifactError, LockedError."""
    config = context.load_config().config
    return install(args, context, config, wire.artifact_ports(context.root))


def install(args: argparse.Namespace, context: Context, config: Config, ports: ArtifactPorts) -> Exit:
    """The same with these ports."""
    begun = time.monotonic()
    store = ports.stores(config.artifacts.directory)
    wishes = provide.wishes_of(config, store, options.versions(args))
    request = _request(args, context, config, ports, store, wishes)
    with TransferProgress(context.console, ports.clock) as transfer:
        provided = provide.provide(request, config, ports, architecture(ports), transfer, switch=True)
    _tell(provided, context, config, time.monotonic() - begun)
    return Exit.OK


def _request(
    args: argparse.Namespace,
    context: Context,
    config: Config,
    ports: ArtifactPorts,
    store: ArtifactStore,
    wishes: Wishes,
) -> Request:
    source = options.source(args.source, config)
    lock_path = options.absolute(args.lock) if args.lock else ""
    found = locks.find(ports.files, store, config.artifacts, lock_path)
    if source.kind is SourceKind.BUNDLE and (found is None or found.seen):
        # The operator's own lock goes before; a bundle that nobody else vouches for is vouched for by who gave it.
        found = locks.Found(ports.bundles().read(source.place).lock, source.place)
    return Request(
        wishes, source, found, trust=args.trust_release_checksum, allow_older=args.allow_older,
        environment=context.environment,
    )  # fmt: skip


def _tell(provided: Provided, context: Context, config: Config, seconds: float) -> None:
    console, one = context.console, provided.set
    for caution in provided.cautions:
        console.warn(caution)
    for pinned in provided.pinned:
        console.warn(f"{pinned} was taken by its release's own checksum; sha256 {pinned.sha256} is pinned from now on")
    what = f"installed in {seconds:.1f} s" if provided.fetched else "is there already"
    console.line(Toned(artifact_sets.releases(one), Tone.STRONG), f": {what}, verified, current")
    console.line(f"  set {one.id[: artifact_sets.SHORT]} in {one.directory}")
    console.line(f"  {artifact_sets.next_step(config)}")
    console.emit(
        "ArtifactInstall",
        {
            "fetched": provided.fetched,
            "set": artifact_sets.body(one),
            "lock": {"path": provided.lock, "serial": provided.serial} if provided.lock else None,
            "pinned": [
                {"name": one.name.value, "version": one.version, "arch": one.arch.value, "sha256": one.sha256}
                for one in provided.pinned
            ],
            "cautions": list(provided.cautions),
            "took_s": round(seconds, 3),
        },
    )


def missing(config: Config, context: Context, ports: ArtifactPorts) -> Provided | None:
    """Install what the configuration pins and the store has not; None where nothing was missing. Nothing is switched.

    Raises ArtifactError, LockedError; nothing was touched then.
    """
    wishes = provide.missing(config, ports)
    if not wishes:
        return None
    context.console.progress(f"not installed yet: {' and '.join(f'{name} {one}' for name, one in wishes.items())}")
    store = ports.stores(config.artifacts.directory)
    source = options.source("", config)
    found = locks.find(ports.files, store, config.artifacts)
    request = Request(wishes, source, found, environment=context.environment)
    with TransferProgress(context.console, ports.clock) as transfer:
        provided = provide.provide(request, config, ports, architecture(ports), transfer, switch=False)
    for caution in provided.cautions:
        context.console.warn(caution)
    context.console.progress(f"installed: {artifact_sets.releases(provided.set)}")
    return provided
