"""`nydus-agent convert`: an OCI image becomes a nydus image in a registry."""

from __future__ import annotations

import argparse
import enum
import functools
import os
import platform as machine
import pwd
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from agent import wire
from agent.commands.context import Context
from agent.commands.signals import ENDING, caught_by
from agent.config.model import Config, RegistryHost, Scheme
from agent.console import Format, counted, error_body
from agent.convert import job as jobs
from agent.convert.job import Converted, Event, Image, Job
from agent.convert.run import convert
from agent.errors import AgentError, ConvertError, Exit, UsageError
from agent.node import sets
from agent.node.facts import Binary, Unknown
from agent.node.machine import architecture
from agent.oci import local, platforms, reference
from agent.oci.local import Local
from agent.oci.reference import Reference
from agent.ports_convert import BuildOptions
from agent.registry.names import host_of

HELP = "make a nydus image of an OCI image, in a registry"
NEEDS_ROOT = False

_SIZE = re.compile(r"(\d{1,12})([KMGT]?)(?:i?B)?")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SMALLEST_CHUNK, _LARGEST_CHUNK = 1 << 12, 1 << 24  # nydus-image create --help
_OFTEN_S, _SELDOM_S = 0.1, 1.0
_BAR = 24
_ANONYMOUS = "localhost/oci-layout:latest"
"""What nydusify is told that a layout on the disk is called."""

_T = TypeVar("_T")


class By(enum.StrEnum):
    """Who makes the image."""

    AUTO = "auto"
    NYDUSIFY = "nydusify"
    NYDUS_IMAGE = "nydus-image"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SRC, DST, and how."""
    add = parser.add_argument
    add("source", metavar="SRC", help="HOST/REPOSITORY:TAG; or on this machine: " + ", ".join(local.SHAPES))
    add("target", metavar="DST", help="HOST/REPOSITORY:TAG of the nydus image; put in place last, by one request")
    add("--platform", metavar="PLATFORM[,…]", help="of an index: these, such as amd64,arm64 (default this machine's)")
    add("--compressor", choices=("zstd", "lz4_block", "none"), default="zstd", help="of the data (default %(default)s)")
    add("--chunk-size", metavar="BYTES", type=chunk_size, default="1M", help="a power of two (default %(default)s)")
    add(
        "--reference", action="store_true",
        help="leave the data in SRC's layers, which DST's repository then has too, and make only what says where it is",
    )  # fmt: skip
    add("--compare", action="store_true", help="mount the result, read every file back against the source; wants root")
    add(
        "--mount-from", metavar="REPOSITORY", action="append", default=[],
        help="of DST's registry: take blobs that it has from there instead of sending them; may be repeated",
    )  # fmt: skip
    add("--work-dir", metavar="DIRECTORY", default="/var/tmp", help="for the time of the run (default %(default)s)")  # noqa: S108 - a private directory is made in it
    add("--max-unpacked", metavar="BYTES", type=size, default="64G", help="of an image's tars (default %(default)s)")
    add("--nydus-image", metavar="PROGRAM", help="the converter (default the node's: nydus-agent artifacts which)")
    add(
        "--with", dest="by", choices=tuple(By), type=By, default=By.AUTO,
        help="who makes the image: nydusify, our own driver of nydus-image, or auto (default): nydusify where it is "
        "installed and loses nothing of this image, else ours",
    )  # fmt: skip
    add("--nydusify", metavar="PROGRAM", help="for --with (default the node's, beside nydus-image or in PATH)")
    add("--nydusd", metavar="PROGRAM", help="for --compare (default the node's)")
    add(
        "--plain-http", metavar="HOST", action="append", default=[],
        help="speak http with SRC's or DST's registry, as agent.toml can say for good; may be repeated",
    )  # fmt: skip
    add("--ca", metavar="FILE", help="of the authority that signed the certificates of SRC's and DST's registries")
    add(
        "--json", action="store_true",
        help="events on stdout, one JSON document a line; the last one is the result, or the error",
    )  # fmt: skip


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
    """Raises ConvertError, RegistryError, CredentialError, UsageError, ConfigError."""
    try:
        _convert(args, context)
    except AgentError as error:
        if args.json and context.console.format is Format.TEXT:  # with --format json it is a document anyway
            context.console.event("Error", error_body(error))
        raise
    return Exit.OK


def _convert(args: argparse.Namespace, context: Context) -> None:
    from agent.wire_convert import ConvertSettings, convert_ports  # requests, for this alone

    if args.compare:
        context.require_root("convert --compare")
    job = job_of(args)
    source = _source(args.source)
    config = _with_ways(context.load_config().config, args, (source, job.target))
    found = _Programs(config, context)
    settings = ConvertSettings(
        source=source,
        target=job.target,
        work_dir=os.path.abspath(args.work_dir),  # noqa: PTH100 - Path.resolve would follow links
        nydus_image=_program(args.nydus_image) or found.of("nydus-image"),
        nydusd=_program(args.nydusd) or found.of("nydusd"),
        nydusify=""
        if args.by is By.NYDUS_IMAGE or args.reference
        else _program(args.nydusify) or found.nydusify(args.by),
        uid=context.uid,
        home=_home(context.uid),
    )
    shown = _Shown(context, json=args.json)
    with _signals(shown):
        try:
            made = convert(job, convert_ports(config, settings, context.environment), shown)
        finally:
            context.console.passing("")
    _tell(context, made, json=args.json)


def _with_ways(config: Config, args: argparse.Namespace, ends: Sequence[Reference | Local]) -> Config:
    """How SRC's and DST's registries are spoken to: the command line wins over agent.toml."""
    plain = {host_of(host) for host in args.plain_http}
    ca = os.path.abspath(args.ca) if args.ca else ""  # noqa: PTH100 - as above
    ways = [RegistryHost(host, Scheme.HTTP) for host in plain]
    ways += [RegistryHost(host, Scheme.HTTPS, ca) for host in _hosts(ends) if ca and host_of(host) not in plain]
    return replace(config, registries=replace(config.registries, hosts=(*ways, *config.registries.hosts)))


def _hosts(ends: Sequence[Reference | Local]) -> list[str]:
    return [one.host for one in ends if isinstance(one, Reference)]


class _Programs:
    """Those that the node uses, wherever they come from; else what PATH has."""

    def __init__(self, config: Config, context: Context) -> None:
        self._config, self._ports = config, wire.artifact_ports(context.root)

    @functools.cached_property
    def _found(self) -> Mapping[str, Binary | None | Unknown]:
        return sets.look(self._config, self._ports, architecture(self._ports)).found

    def of(self, name: str) -> str:
        found = self._found[name]
        return found.path if isinstance(found, Binary) else name

    def nydusify(self, by: By) -> str:
        """Releases ship it beside nydus-image. Where it is not there: "", or UsageError (NNA1402) if it must be."""
        image = self._found["nydus-image"]
        beside = str(Path(image.path).with_name("nydusify")) if isinstance(image, Binary) else ""
        found = self._ports.processes.which(beside) if beside else None
        found = found or self._ports.processes.which("nydusify") or ""
        if by is By.NYDUSIFY and not found:
            raise UsageError(
                "NNA1402", "--with nydusify: there is no nydusify", cause="neither beside nydus-image nor in PATH",
                try_="nydus-agent artifacts install, or --nydusify PROGRAM",
            )  # fmt: skip
        return found


def _program(given: str | None) -> str:
    """A path is one from here; children are started in /."""
    return os.path.abspath(given) if given and "/" in given else given or ""  # noqa: PTH100 - as above


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return ""


def job_of(args: argparse.Namespace) -> Job:
    """What the command line asks for. Raises ConvertError or UsageError; of several problems all."""
    problems = list[AgentError]()
    source = _or_problem(lambda: _source(args.source), problems)
    target = _or_problem(lambda: reference.parse(args.target), problems)
    wanted = _or_problem(lambda: platforms.parse(args.platform) if args.platform else (), problems)
    problems += _refused(args, target)
    if source is not None and target is not None:
        problems += _wrong_ways(args, _hosts((source, target)))
    if len(problems) == 1:
        raise problems[0]
    if source is None or target is None or wanted is None or problems:
        raise UsageError(
            "NNA1402", f"{len(problems)} things are wrong with what was asked for",
            seen=tuple(f"{one.what}: {one.cause}" if one.cause else one.what for one in problems),
        )  # fmt: skip
    # With --reference SRC's own repository has what is to be sent, where it is in the same registry.
    own = _own(source, target) if args.reference else ()
    return Job(
        args.source, str(source) if isinstance(source, Reference) else _ANONYMOUS, source.named, target, wanted,
        platforms.of_machine(machine.machine()), BuildOptions(args.compressor, args.chunk_size, args.reference),
        args.max_unpacked, (*own, *args.mount_from), args.compare, args.by is By.AUTO,
    )  # fmt: skip


def _own(source: Reference | Local, target: Reference) -> tuple[str, ...]:
    return (source.repository,) if isinstance(source, Reference) and source.host == target.host else ()


def _or_problem(read: Callable[[], _T], problems: list[AgentError]) -> _T | None:
    try:
        return read()
    except AgentError as error:
        problems.append(error)
        return None


def _refused(args: argparse.Namespace, target: Reference | None) -> Iterator[UsageError]:
    if target is not None and target.digest:
        yield UsageError("NNA1402", "DST cannot have a digest", cause="what is made decides its digest")
    for name in args.mount_from:
        if not reference.is_repository(name):
            yield UsageError("NNA1402", f"--mount-from {name!r} is no repository", cause="without host and tag")
    if args.reference and args.by is By.NYDUSIFY:
        yield UsageError(
            "NNA1402", "--reference cannot be had --with nydusify",
            cause="the layers that it refers to are not in its manifest, so a registry's garbage collection takes them",
        )  # fmt: skip
    if args.nydusify and args.by is By.NYDUS_IMAGE:
        yield UsageError("NNA1402", "--nydusify has no meaning", cause="nydusify is used --with nydusify or auto alone")


def _wrong_ways(args: argparse.Namespace, hosts: Sequence[str]) -> Iterator[UsageError]:
    plain = {host_of(host) for host in args.plain_http}
    they = f"they are: {', '.join(hosts)}"
    for stranger in sorted(plain.difference(map(host_of, hosts))):
        yield UsageError("NNA1402", f"--plain-http {stranger!r} is the registry of neither SRC nor DST", cause=they)
    if args.ca and plain.issuperset(map(host_of, hosts)):
        ways = " ".join(f"--plain-http {host}" for host in dict.fromkeys(hosts))
        yield UsageError("NNA1402", f"--ca {args.ca} has no meaning with {ways}", cause="no registry is left for https")


def _source(text: str) -> Reference | Local:
    """Raises ConvertError (NNA1401)."""
    found = local.parse(text)
    return reference.parse(text) if found is None else replace(found, path=os.path.abspath(found.path))  # noqa: PTH100 - as above


@contextmanager
def _signals(shown: _Shown) -> Iterator[None]:
    """A signal ends the conversion where it stands, and all that it had is cleared; more of them change nothing.

    A piece that is being sent is sent to its end first, because registries forget an upload that was cut in the middle
    of one, and it could not be ended then; a second signal does not wait for that.
    """

    def caught(name: str) -> None:
        if shown.sending and not shown.ended:
            shown.ended = name
            return
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)
        raise _ended(name)

    with caught_by(caught):
        yield


def _ended(by: str) -> ConvertError:
    return ConvertError("NNA1428", "the conversion was ended", cause=by)


class _Shown:
    """A bar for what goes on, on a terminal; a line for each step that is done elsewhere; or events."""

    sending = False
    """A blob is on its way to the registry."""
    ended = ""
    """The signal that wants the conversion to end."""

    def __init__(self, context: Context, *, json: bool) -> None:
        self._console = context.console
        self._json = json
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        self.sending = event.step == "push" and not event.end
        if self.ended:
            raise _ended(self.ended)
        now = time.monotonic()
        often = _SELDOM_S if self._json else _OFTEN_S
        running = event.done > 0 and not event.end
        if running and now - self._last < often:
            return
        self._last = now
        if self._json:
            self._console.event("ConvertEvent", asdict(event))
        elif event.end:
            self._console.passing("")
            where = f"{_where(event)}: " if event.platform else ""
            self._console.progress(f"{where}{event.step} {_amount(event.total)}{event.note}")
        else:
            self._console.passing(f"{_where(event)}: {event.step:<7} {_bar(event)}")


def _where(event: Event) -> str:
    return f"{event.platform} layer {event.layer}/{event.layers}" if event.layer else event.platform


def _amount(count: int) -> str:
    return f"{count / jobs.MIB:.1f} MiB, " if count else ""


def _bar(event: Event) -> str:
    if not event.total:
        return event.note or "…"
    filled = _BAR * min(event.done, event.total) // event.total
    return f"[{'#' * filled:<{_BAR}}] {event.done / jobs.MIB:.1f}/{event.total / jobs.MIB:.1f} MiB"


def _tell(context: Context, made: Converted, *, json: bool) -> None:
    console = context.console
    body = {
        "target": made.target,
        "digest": made.digest,
        "images": [_body(image) for image in made.images],
        "sent": asdict(made.sent),
        "nydus_image": made.nydus_image,
    }
    if json:
        console.event("ConvertResult", body)
        return
    for image in made.images:
        ratio = f" ({100 * image.bytes / image.source_bytes:.0f} % of the source)" if image.source_bytes else ""
        console.line(
            f"{image.platform}: {counted(image.layers, 'layer')}, {image.source_bytes / jobs.MIB:.1f} MiB, became "
            f"{counted(image.blobs, 'blob')} and a bootstrap by {image.by}, {image.bytes / jobs.MIB:.1f} MiB{ratio}"
        )
        if image.compared is not None:
            console.line(
                f"{image.platform}: {image.compared.files} files, {image.compared.bytes / jobs.MIB:.1f} MiB, "
                "read back through nydusd: 0 differences"
            )
    sent = made.sent
    console.line(
        f"{made.target}@{made.digest}: {counted(sent.sent, 'blob')} sent ({sent.sent_bytes / jobs.MIB:.1f} MiB), "
        f"{sent.mounted} taken from other repositories, {sent.there} were there"
    )
    console.emit("ConvertResult", body)


def _body(image: Image) -> dict[str, object]:
    compared = image.compared
    return {
        "platform": image.platform,
        "converter": image.by,
        "digest": image.digest,
        "source_digest": image.source_digest,
        "layers": image.layers,
        "blobs": image.blobs,
        "source_bytes": image.source_bytes,
        "bytes": image.bytes,
        "unpacked_bytes": image.unpacked,
        "compared": None if compared is None else {"files": compared.files, "bytes": compared.bytes, "differences": 0},
        "seconds": {step: round(took, 3) for step, took in image.took.items()},
    }
