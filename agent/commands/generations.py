"""`nydus-agent generations`: the accepted states of this node, what each changed, and which is in force."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from agent import wire
from agent.apply import confirm
from agent.codec import to_json
from agent.commands.context import Context
from agent.commands.plan import diffs, generation
from agent.console import Part, Tone, Toned
from agent.durations import in_words
from agent.errors import Exit, PlanError
from agent.node.machine import present
from agent.plan import show
from agent.ports import Files
from agent.records import generations, journal
from agent.records.generations import Generation
from agent.records.unconfirmed import Pending

HELP = "list the generations of this node and what each changed"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--diff."""
    parser.add_argument("--diff", metavar="N", type=generation, help="what generation N changed, as diffs")


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises PlanError NNA0333 (no such generation), ApplyError NNA0410 (a damaged record), FileError."""
    files = wire.root_files(context.root)
    if args.diff is not None:
        if args.diff not in generations.numbers(files):
            raise PlanError("NNA0333", f"there is no generation {args.diff}", try_="nydus-agent generations")
        return _diff(generations.read(files, args.diff), context)
    known = [generations.read(files, number) for number in generations.numbers(files)]
    if not known:
        context.console.line("nothing was applied on this node yet")
    waits = confirm.pending(files)
    for one in known:
        _show(one, context, in_force=_in_force(one, known), waits=waits)
    context.console.emit(
        "Generations",
        {
            "generations": [_body(one, in_force=_in_force(one, known), waits=waits) for one in known],
            **_now(files),
        },
    )
    return Exit.OK


def _in_force(one: Generation, known: Sequence[Generation]) -> bool:
    return one is known[-1] and one.verb != "remove"


def _now(files: Files) -> dict[str, object]:
    return {"hold": confirm.hold(files)}


def _show(one: Generation, context: Context, *, in_force: bool, waits: Pending | None) -> None:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
    what = f"{one.verb} to {one.to}" if one.to is not None else one.verb
    choice = f"{one.effective.switch}, {one.effective.dialect}" if one.effective is not None else ""
    head: list[Part] = [Toned(f"{one.number:3}", Tone.STRONG), f"  {at}  {what}"]
    head += [f"  {choice}"] if choice else []
    head += ["  ", Toned("in force", Tone.GOOD)] if in_force else []
    if waits is not None and waits.id == one.id:
        left = in_words(waits.left_s(present(context.path("/proc"))))
        head += ["  ", Toned(f"unconfirmed, rolled back in {left} unless: nydus-agent confirm", Tone.WARN)]
    context.console.line(*head)
    for line in (*_files(one), *_units(one)):
        context.console.line(f"     {line}")
    if not one.steps:
        context.console.line("     no file changed")
    if one.versions:
        versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
        context.console.line("     ", Toned(versions, Tone.FAINT))


def _backs(one: Generation) -> list[journal.PutBack]:
    return [done.undo for done in one.steps if isinstance(done.undo, journal.PutBack)]


def _change(back: journal.PutBack) -> str:
    if back.before is None:
        return "created"
    return "removed" if back.after is None else "changed"


def _files(one: Generation) -> list[str]:
    return [f"{_change(back)} {back.path}" for back in _backs(one)]


def _units(one: Generation) -> list[str]:
    return [
        f"{done.undo.verb} {done.undo.unit}" for done in one.steps if isinstance(done.undo, journal.UnitBack)
    ]


def _body(one: Generation, *, in_force: bool, waits: Pending | None) -> dict[str, object]:
    return {
        "number": one.number,
        "at": one.at,
        "verb": one.verb,
        "to": one.to,
        "in_force": in_force,
        "confirmed": waits is None or waits.id != one.id,
        "effective": to_json(one.effective),
        "mirror": {"url": one.mirror[0], "ping_url": one.mirror[1]},
        "files": [{"path": back.path, "change": _change(back)} for back in _backs(one)],
        "units": _units(one),
        "versions": one.versions,
        "agent": one.agent,
    }


def _diff(one: Generation, context: Context) -> Exit:
    changes = [(back.path, show.diff(back.path, back.before, back.after)) for back in _backs(one)]
    for _path, text in changes:
        diffs(text, context)
    if not changes:
        context.console.line(f"generation {one.number} changed no file")
    context.console.emit(
        "GenerationDiff",
        {"number": one.number, "files": [{"path": path, "diff": text} for path, text in changes]},
    )
    return Exit.OK
