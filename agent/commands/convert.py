"""`nydus-agent convert`: an OCI image becomes a nydus image."""

from __future__ import annotations

import argparse
import os
import pwd
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from agent import wire
from agent.commands.context import Context
from agent.commands.running import ENDING, caught_by
from agent.config.model import Config, Scheme
from agent.errors import AgentError, ConvertError, Exit, UsageError
from agent.facts.node import Binary
from agent.images import manifest
from agent.images.convert import Converted, ConvertEvent, ConvertJob, convert
from agent.images.manifest import ImageName, Platform
from agent.images.nydus_image import BuildOptions
from agent.images.skopeo import RegistryAccess, Skopeo
from agent.node import installed
from agent.registry.names import credential_paths, host_of, registry_of

HELP = "make a nydus image of an OCI image"
NEEDS_ROOT = False

_SIZE = re.compile(r"(\d{1,12})([KMGT]?)(?:i?B)?")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SMALLEST_CHUNK, _LARGEST_CHUNK = 1 << 12, 1 << 24  # nydus-image create --help
_OFTEN_S, _SELDOM_S = 0.1, 1.0
_BAR = 24
_MIB = 1 << 20

_T = TypeVar("_T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SRC, DST, and how."""
    add = parser.add_argument
    add("source", metavar="SRC", help=f"HOST/REPOSITORY:TAG; or on this machine: {manifest.SHAPES}")
    add(
        "target",
        metavar="DST",
        help="the nydus image: as SRC, but no docker-archive; its name is put in place last",
    )
    add(
        "--platform",
        metavar="PLATFORM[,…]",
        help="of an index: these, such as amd64,arm64 (default this machine's)",
    )
    add(
        "--compressor",
        choices=("zstd", "lz4_block", "none"),
        default="zstd",
        help="of the data (default %(default)s)",
    )
    add(
        "--chunk-size",
        metavar="BYTES",
        type=chunk_size,
        default="1M",
        help="a power of two (default %(default)s)",
    )
    add(
        "--reference", action="store_true",
        help="leave the data in SRC's layers, which DST's repository then has too, and make only what says "
             "where it is",
    )  # fmt: skip
    add(
        "--compare",
        action="store_true",
        help="mount the result, read every file back against the source; wants root",
    )
    add(
        "--work-dir",
        metavar="DIRECTORY",
        # A private directory is made in it.
        default="/var/tmp",  # noqa: S108
        help="for the time of the run (default %(default)s)",
    )
    add(
        "--max-unpacked",
        metavar="BYTES",
        type=size,
        default="64G",
        help="of an image's tars (default %(default)s)",
    )
    _add_tools(parser)


def _add_tools(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--with", dest="by", choices=("nydus-image", "nydusify"), default="nydus-image",
        help="who makes the image (default %(default)s): nydus-image layer by layer, or nydusify all at once",
    )  # fmt: skip
    add(
        "--nydus-image", metavar="PROGRAM", help="the builder (default the node's: nydus-agent programs list)"
    )
    add(
        "--nydusify", metavar="PROGRAM", help="for --with (default the node's, beside nydus-image or in PATH)"
    )
    add("--nydusd", metavar="PROGRAM", help="for --compare (default the node's)")
    add("--skopeo", metavar="PROGRAM", default="skopeo", help="what copies the images (default that in PATH)")
    add("--authfile", metavar="FILE", help="credentials for the registries (default as skopeo finds them)")
    add(
        "--plain-http", metavar="HOST", action="append", default=[],
        help="speak http with SRC's or DST's registry, as agent.toml can say for good; may be repeated",
    )  # fmt: skip
    add(
        "--ca",
        metavar="FILE",
        help="of the authority that signed the certificates of SRC's and DST's registries",
    )


def size(text: str) -> int:
    """ "64G" in bytes. Raises argparse.ArgumentTypeError."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size, such as 512M or 64G")
    return int(found[1]) << _UNITS[found[2]]


def chunk_size(text: str) -> int:
    """ "1M" in bytes, as nydus takes it. Raises argparse.ArgumentTypeError."""
    found = size(text)
    if not _SMALLEST_CHUNK <= found <= _LARGEST_CHUNK or found & (found - 1):
        raise argparse.ArgumentTypeError(f"{text!r} is no power of two from 4K to 16M")
    return found


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConvertError, UsageError, ConfigError."""
    if args.compare:
        context.require_root("convert --compare")
    job = job_of(args, context.load_config().config, context)
    with _ended_by_signals():
        try:
            made = convert(job, _Shown(context))
        finally:
            context.console.passing("")
    _tell(context, made)
    return Exit.OK


def job_of(args: argparse.Namespace, config: Config, context: Context) -> ConvertJob:
    """What the command line asks for. Raises ConvertError or UsageError; of several problems all."""
    problems = list[AgentError]()
    source = _or_problem(lambda: manifest.parse_source(args.source), problems)
    target = _or_problem(lambda: manifest.parse_target(args.target), problems)
    platforms = _or_problem(
        lambda: manifest.parse_platforms(args.platform) if args.platform else (), problems
    )
    if args.reference and args.by == "nydusify":
        cause = (
            "the layers that it refers to are not in its manifest, so a registry's garbage collection "
            "takes them"
        )
        problems.append(UsageError("NNA1401", "--reference cannot be had --with nydusify", cause=cause))
    if ":" in args.work_dir:
        problems.append(
            UsageError("NNA1401", "--work-dir cannot have a colon", cause="skopeo takes it for a name")
        )
    if source is not None and target is not None:
        problems += _wrong_ways(args, [one.host for one in (source, target) if one.host])
    if len(problems) == 1:
        raise problems[0]
    if source is None or target is None or platforms is None or problems:
        raise UsageError(
            "NNA1401", f"{len(problems)} things are wrong with what was asked for",
            seen=tuple(f"{one.what}: {one.cause}" if one.cause else one.what for one in problems),
        )  # fmt: skip
    return _job(args, config, context, source, target, platforms)


def _job(
    args: argparse.Namespace, config: Config, context: Context, source: ImageName, target: ImageName,
    platforms: tuple[Platform, ...],
) -> ConvertJob:  # fmt: skip
    ports = wire.program_ports(context.root)
    found = installed.read_installed(config, ports).binaries
    programs = {name: one.path if isinstance(one, Binary) else name for name, one in found.items()}
    nydus_image = _program(args.nydus_image) or programs["nydus-image"]
    nydusify = ""
    if args.by == "nydusify":
        beside = str(Path(nydus_image).with_name("nydusify"))  # releases ship it there
        places = [_program(args.nydusify)] if args.nydusify else [beside, "nydusify"]
        nydusify = next(filter(ports.processes.which, places), "")
        if not nydusify:
            raise UsageError("NNA1401", "there is no nydusify", cause=f"looked for {', '.join(places)}")
    authfile, home = _authfile(args, config, context), _home(context.uid)
    return ConvertJob(
        source, target, _access(args, config, source), _access(args, config, target), platforms or (None,),
        BuildOptions(args.compressor, args.chunk_size, args.reference), args.max_unpacked, args.compare,
        Path(_absolute(args.work_dir)),
        lambda room: Skopeo(room, _program(args.skopeo), authfile, context.environment, home),
        nydus_image, _program(args.nydusd) or programs["nydusd"], nydusify,
    )  # fmt: skip


def _or_problem(read: Callable[[], _T], problems: list[AgentError]) -> _T | None:
    try:
        return read()
    except AgentError as error:
        problems.append(error)
        return None


def _wrong_ways(args: argparse.Namespace, hosts: Sequence[str]) -> Iterator[UsageError]:
    plain = {host_of(host) for host in args.plain_http}
    they = f"they are: {', '.join(hosts)}"
    for stranger in sorted(plain.difference(map(host_of, hosts))):
        yield UsageError(
            "NNA1401", f"--plain-http {stranger!r} is the registry of neither SRC nor DST", cause=they
        )
    if args.ca and plain.issuperset(map(host_of, hosts)):
        ways = " ".join(f"--plain-http {host}" for host in dict.fromkeys(hosts))
        yield UsageError(
            "NNA1401", f"--ca {args.ca} has no meaning with {ways}", cause="no registry is left for https"
        )


def _access(args: argparse.Namespace, config: Config, image: ImageName) -> RegistryAccess:
    """How a registry is spoken to: the command line wins over agent.toml."""
    if not image.host:
        return RegistryAccess()
    if host_of(image.host) in map(host_of, args.plain_http):
        return RegistryAccess(plain=True)
    if args.ca:
        return RegistryAccess(ca=_absolute(args.ca))
    known = registry_of(config, image.host)
    return RegistryAccess(known.scheme is Scheme.HTTP, known.ca)


def _authfile(args: argparse.Namespace, config: Config, context: Context) -> str:
    """Root's credentials are where agent.toml says; everybody else's where skopeo finds them."""
    if args.authfile:
        return _absolute(args.authfile)
    named = config.registries.credentials if context.uid == 0 else ""
    paths = credential_paths(named, context.environment) if named else ()
    return next((path for path in paths if Path(path).exists()), "")


def _program(given: str | None) -> str:
    """A path is one from here; children are started in /."""
    return _absolute(given) if given and "/" in given else given or ""


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - Path.resolve would follow links


def _home(uid: int) -> Path:
    try:
        return Path(pwd.getpwuid(uid).pw_dir)
    except KeyError:
        return Path("/")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A signal ends the conversion where it stands, and all that it had is cleared; more of them change
    nothing.
    """

    def caught(name: str) -> None:
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)
        raise ConvertError("NNA0404", "the conversion was ended", cause=name)

    with caught_by(caught):
        yield


class _Shown:
    """A bar for what goes on, on a terminal; a line for each step that is done."""

    def __init__(self, context: Context) -> None:
        self._console = context.console
        self._last = 0.0

    def __call__(self, event: ConvertEvent) -> None:
        now = time.monotonic()
        running = event.done > 0 and not event.end
        if running and now - self._last < _OFTEN_S:
            return
        self._last = now
        if event.end:
            self._console.passing("")
            where = f"{_where(event)}: " if event.platform else ""
            amount = f"{event.total / _MIB:.1f} MiB, " if event.total else ""
            self._console.progress(f"{where}{event.step} {amount}{event.note}")
        else:
            self._console.passing(f"{_where(event)}: {event.step:<7} {_bar(event)}")


def _where(event: ConvertEvent) -> str:
    return f"{event.platform} layer {event.layer}/{event.layers}" if event.layer else event.platform


def _bar(event: ConvertEvent) -> str:
    done = event.done / _MIB
    if not event.total:
        return f"{done:.1f} MiB {event.note}" if event.done else event.note or "…"
    filled = _BAR * min(event.done, event.total) // event.total
    return f"[{'#' * filled:<{_BAR}}] {done:.1f}/{event.total / _MIB:.1f} MiB"


def _tell(context: Context, made: Converted) -> None:
    console = context.console
    for image in made.images:
        ratio = (
            f" ({100 * image.bytes / image.source_bytes:.0f} % of the source)" if image.source_bytes else ""
        )
        console.line(
            f"{image.platform}: {image.layers} layers, {image.source_bytes / _MIB:.1f} MiB, became "
            f"{image.blobs} blobs and a bootstrap by {image.converter}, {image.bytes / _MIB:.1f} MiB{ratio}"
        )
        if image.compared is not None:
            console.line(
                f"{image.platform}: {image.compared.files} files, {image.compared.bytes / _MIB:.1f} MiB, "
                "read back through nydusd: 0 differences"
            )
    console.line(f"{made.target} is {made.digest}")
    console.emit("ConvertResult", asdict(made))
