"""`nydus-agent bench`: how fast images start on this node, in the six cases of the Dragonfly page's chart.
What a live node goes through for it is told first, and happens only with --yes.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import structlog

from agent import wire
from agent.bench import figures
from agent.bench.cases import SOURCES
from agent.bench.figures import ImagePair, Measured
from agent.catalogue import Message
from agent.commands.bench.images import Admission
from agent.commands.bench.mirror import Lever
from agent.commands.bench.rounds import INTERRUPTED, Rounds
from agent.commands.bench.starts import PLAIN_NAMESPACE, WantedStart
from agent.commands.context import Context
from agent.commands.events import count
from agent.commands.running import surroundings
from agent.config.model import Config
from agent.console import Format, Tone, Toned, error_body, exit_of
from agent.durations import duration_option, in_words
from agent.errors import AgentError, ConvertError, Exit, Problem, UsageError
from agent.node.images import NAMESPACE
from agent.ports import BenchPorts
from agent.proof.registry_access import RegistryPorts
from agent.records import generations
from agent.registry.names import parse

HELP = "measure how fast images start here: plain, lazily, through Dragonfly, from caches"
NEEDS_ROOT = True

_SUFFIXES = (".svg", ".png")
_SOCKET = "/var/run/dragonfly/dfdaemon.sock"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Images, command, repetitions, the chart."""
    add = parser.add_argument
    add(
        "--oci",
        action="append",
        default=[],
        metavar="IMAGE",
        help="a plain image; may be given several times",
    )
    add(
        "--nydus", action="append", default=[], metavar="IMAGE",
        help="the same image in nydus format, in the order of --oci",
    )  # fmt: skip
    add(
        "--command",
        default="",
        metavar="COMMAND",
        help='what to run, such as "python3 -V" (default the image\'s own)',
    )
    add(
        "--ready", default="", metavar="REGEX",
        help="a container is ready when a line of its output matches, and is ended then (default its first "
             "output, and it must end by itself with 0)",
    )  # fmt: skip
    add("-n", type=count, default=5, metavar="N", dest="repetitions", help="starts of each case (default 5)")
    add("--deadline", type=duration_option("5s", "1h"), default=120, metavar="TIME",
        help="of one pull, and of one run (default 2m)")  # fmt: skip
    add(
        "--dfdaemon-socket",
        default=_SOCKET,
        metavar="PATH",
        help=f"where dfdaemon answers (default {_SOCKET})",
    )
    add(
        "--chart",
        default="",
        metavar="FILE",
        help="draw the medians into FILE.svg or FILE.png (needs matplotlib)",
    )
    add(
        "--take-away", action="store_true",
        help="remove named images that are on the node already and that no container uses, and pull them "
             "again at the end (default: of a nydus image that is there only the start from its cache is "
             "measured, of a plain one none)",
    )  # fmt: skip
    add("--yes", action="store_true", help="do it; without this only what it would do to the node is told")


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, UsageError, LockedError, CredentialError and other PortError, AgentError NNA17xx;
    KeyboardInterrupt after a signal, when what was measured until then has been told.
    """
    config = context.load_config().config
    applied = generations.in_force(wire.root_files(context.root), config)
    config = replace(config, snapshotter=replace(config.snapshotter, root=applied.snapshotter.root))
    registries = wire.registry_ports(config, context.environment)
    return carry_out(args, context, wire.bench_ports(config), registries, config)


def carry_out(
    args: argparse.Namespace, context: Context, ports: BenchPorts, registries: RegistryPorts, config: Config
) -> Exit:
    """The bench with these ports. Raises as `run` does."""
    _refuse(args, ports)
    pairs, wanted = _pairs(args), _wanted(args)
    console = context.console
    for line in announced(pairs, wanted):
        console.progress(line)
    if not args.yes:
        raise UsageError(
            "NNA1002", "nothing was measured, and nothing was touched", cause="--yes was not given"
        )
    admit = cache(partial(Admission, registries, config))
    for name in _names(pairs):  # credentials that cannot be used are told before anything begins
        admit(name)
    with ports.ledger.lock("bench"):  # no change, no removal and no drill meanwhile
        # a bench that was killed may have left a secret, and this one may pull no plain image
        ports.hosts.clear()
        log = structlog.get_logger()
        begun = f"bench of {', '.join(_names(pairs))}, asked for by {context.asker}: begins"
        log.info(begun, message_id=Message.BENCH)
        with surroundings(console) as around:

            def stopped() -> bool:
                return bool(around.stop.signal)

            lever = Lever(context, ports.clock, stopped)
            rounds = Rounds(ports, admit, config, wanted, lever, console.progress, stopped)
            for left in rounds.resume():
                console.warn(left)
            try:
                errors, interrupted = _measure(rounds, pairs)
            finally:
                log.info("the bench ends", message_id=Message.BENCH)
                for problem in rounds.problems:
                    console.warn(f"not cleared up: {problem}")
    if rounds.problems:
        errors.append(AgentError("NNA1701", "the bench could not clear up all that it made",
                                 cause=rounds.problems[0],
                                 seen=tuple(rounds.problems[1:])))  # fmt: skip
    told = [one for one in rounds.measured if one.tells]
    if errors and not told and not interrupted:
        raise errors[0]
    answered = Exit.FAILED
    if told:
        answered = _answer(args, context, ports, told, rounds, errors, interrupted=interrupted)
    if interrupted:
        raise KeyboardInterrupt
    return answered


def _measure(rounds: Rounds, pairs: Sequence[ImagePair]) -> tuple[list[AgentError], bool]:
    """Why something could not be measured, and whether somebody stopped us: minutes of one image are not lost
    for the next one's name, nor for what comes after them.
    """
    errors: list[AgentError] = []
    for number, pair in enumerate(pairs, 1):
        try:
            rounds.measure(pair)
        except AgentError as error:
            errors.append(error)
        except KeyboardInterrupt:
            rounds.notes |= {f"{late.label} was not begun: {INTERRUPTED}": None for late in pairs[number:]}
            return errors, True
    return errors, False


def _refuse(args: argparse.Namespace, ports: BenchPorts) -> None:
    """Everything that is wrong with the command line, before minutes are spent. Raises UsageError NNA1002."""
    wrong = (*_in_images(args.oci, args.nydus), *_in_texts(args), *_in_chart(args.chart, ports))
    if wrong:
        problems = tuple(Problem("command line", *each) for each in wrong)
        raise UsageError(
            "NNA1002", "this cannot be measured", problems=problems, try_="nydus-agent bench --help"
        )


def _in_images(plain: Sequence[str], lazy: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    if not plain and not lazy:
        yield "--oci, --nydus", "", "an image is missing", "nydus-agent bench --oci IMAGE --nydus IMAGE"
    if plain and lazy and len(plain) != len(lazy):
        reason = f"{len(plain)} plain images and {len(lazy)} nydus images do not make pairs"
        yield "--oci, --nydus", "", reason, "name as many of each, or one kind alone"
    for option, names in (("--oci", plain), ("--nydus", lazy)):
        for name in names:
            try:
                parse(name)
            except ConvertError as error:
                yield option, name, error.cause, "write HOST/REPOSITORY:TAG"


def _in_texts(args: argparse.Namespace) -> Iterator[tuple[str, str, str, str]]:
    try:
        re.compile(args.ready)
    except re.error as error:
        reason = f"is no regular expression: {error}"
        yield "--ready", args.ready, reason, "write one that a line of its output matches"
    try:
        shlex.split(args.command)
    except ValueError as error:
        reason = f"cannot be split into words: {error}"
        yield "--command", args.command, reason, "quote it as a shell would want it"


def _in_chart(path: str, ports: BenchPorts) -> Iterator[tuple[str, str, str, str]]:
    if not path:
        return
    missing = ports.drawing.missing()
    if not path.endswith(_SUFFIXES):
        yield "--chart", path, "its suffix is neither .svg nor .png", "name x.svg or x.png"
    elif not Path(path).parent.is_dir():
        yield "--chart", path, "its directory is not there", "name another place"
    if missing:
        yield "--chart", path, f"{missing} is not installed", f"apt install {missing}"


def _pairs(args: argparse.Namespace) -> tuple[ImagePair, ...]:
    plain, lazy = list(args.oci), list(args.nydus)
    count = max(len(plain), len(lazy))
    return tuple(map(ImagePair, plain or [""] * count, lazy or [""] * count))


def _wanted(args: argparse.Namespace) -> WantedStart:
    command = tuple(shlex.split(args.command))
    return WantedStart(
        command, args.ready, args.repetitions, args.deadline, args.dfdaemon_socket, args.take_away
    )


def _names(pairs: Sequence[ImagePair]) -> list[str]:
    return [name for pair in pairs for name in (pair.oci, pair.nydus) if name]


def announced(pairs: Sequence[ImagePair], wanted: WantedStart) -> list[str]:
    """What the node goes through."""
    times = f"{wanted.repetitions + 1} times or more"
    lines = ["What this does to the node, and undoes:"]
    if any(pair.oci for pair in pairs):
        lines.append(
            f"  plain images are pulled, started and removed {times}, in containerd's namespace "
            f"{PLAIN_NAMESPACE}"
        )
    if any(pair.nydus for pair in pairs):
        pinned = in_words(2 * wanted.deadline_s + 60)
        lines += [
            f"  nydus images are pulled, started and removed {times}, in containerd's namespace {NAMESPACE}, "
            "with nydusd's cache of them",
            f"  reads of the whole node are pinned to the origin, for {pinned} at a time at most, while "
            "nydus is measured without Dragonfly",
            "  this node's dfdaemon forgets the images' blobs",
        ]
    lines.append("  the page cache is dropped before each start: other programs read from the disk again")
    if wanted.take_away:
        lines.append(
            "  named images that are on the node now, and that no container uses, are removed and pulled "
            "again at the end; nydusd's cache of them begins anew"
        )
    none = "No other image" if wanted.take_away else "No image"
    lines.append(f"{none} that is on the node now is removed. No change of the node may begin meanwhile.")
    return lines


def _answer(
    args: argparse.Namespace,
    context: Context,
    ports: BenchPorts,
    measured: Sequence[Measured],
    rounds: Rounds,
    errors: list[AgentError],
    *,
    interrupted: bool,
) -> Exit:
    """The answer, with what failed: NNA1701 (not cleared up, no chart), NNA1707 (no case could be run)."""
    console = context.console
    for one in measured:
        _print(context, one)
    for note in (*SOURCES, *rounds.notes):
        console.line(Toned(note, Tone.FAINT))
    what = args.command or "the image's own command"
    if args.chart:
        less = ", incomplete" if any(one.cut for one in measured) else ""
        title = f"{what}, median of {args.repetitions} and range{less}"
        try:
            ports.drawing.draw(figures.chart(measured, title), args.chart)
            console.line(f"the chart is in {args.chart}")
        except AgentError as failure:
            errors.append(failure)
    if not errors and not any(result.runs for one in measured for result in one.results):
        errors.append(AgentError("NNA1707", "no case could be run"))
    body = {"command": what, "ready": args.ready, "repetitions": args.repetitions, "interrupted": interrupted,
            "pairs": figures.body(measured), "sources": list(SOURCES), "notes": list(rounds.notes),
            "chart": args.chart, "errors": [error_body(error) for error in errors]}  # fmt: skip
    console.emit("Bench", body)
    if console.format is Format.TEXT:
        for error in errors:
            console.error(error)
    return exit_of(errors[0]) if errors else Exit.OK


def _print(context: Context, one: Measured) -> None:
    console = context.console
    console.line(Toned(f"{one.pair.label}: seconds from the beginning of the pull until ready", Tone.STRONG))
    if one.cut:
        console.line(Toned("incomplete: ", Tone.WARN), f"{one.cut}; n says how often each case was measured")
    console.table(figures.rows(one.results), header=figures.HEADER)
    for claim, holds in figures.order(one.results):
        console.line(
            Toned("as on the page: ", Tone.GOOD) if holds else Toned("not as on the page: ", Tone.WARN), claim
        )
    console.line()
