"""`nydus-agent generations`: the accepted states of this node, what each changed, and which is in force."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

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
from agent.records import generations, journal
from agent.records.generations import Generation, Pending

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
    bodies = [_body(one, in_force=one is known[-1] and one.verb != "remove", waits=waits) for one in known]
    for one, body in zip(known, bodies, strict=True):
        _show(one, body, context, waits)
    context.console.emit("Generations", {"generations": bodies, "hold": confirm.hold(files)})
    return Exit.OK


def _show(one: Generation, body: Mapping[str, Any], context: Context, waits: Pending | None) -> None:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
    what = f"{one.verb} to {one.to}" if one.to is not None else one.verb
    head: list[Part] = [Toned(f"{one.number:3}", Tone.STRONG), f"  {at}  {what}"]
    if one.effective is not None:
        head.append(f"  {one.effective.switch}, {one.effective.dialect}")
    if body["in_force"]:
        head += ["  ", Toned("in force", Tone.GOOD)]
    if waits is not None and not body["confirmed"]:
        left = in_words(waits.left_s(present(context.path("/proc"))))
        head += ["  ", Toned(f"unconfirmed, rolled back in {left} unless: nydus-agent confirm", Tone.WARN)]
    context.console.line(*head)
    for file in body["files"]:
        context.console.line(f"     {file['change']} {file['path']}")
    for unit in body["units"]:
        context.console.line(f"     {unit}")
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


def _body(one: Generation, *, in_force: bool, waits: Pending | None) -> dict[str, Any]:
    units = [done.undo for done in one.steps if isinstance(done.undo, journal.UnitBack)]
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
        "units": [f"{back.verb} {back.unit}" for back in units],
        "versions": one.versions,
        "agent": one.agent,
    }


def _diff(one: Generation, context: Context) -> Exit:
    files = [
        {"path": back.path, "diff": show.diff(back.path, back.before, back.after)} for back in _backs(one)
    ]
    for file in files:
        diffs(file["diff"], context)
    if not files:
        context.console.line(f"generation {one.number} changed no file")
    context.console.emit("GenerationDiff", {"number": one.number, "files": files})
    return Exit.OK
