"""A plan in words: what changes, which units restart and what that costs. Never a secret.

Values of keys that hold credentials in containerd's configuration are replaced in diffs (docs/cri/registry.md
there: `auth`, `password`, `identitytoken` under registry.configs).
"""

from __future__ import annotations

import difflib
import functools
import re

from agent.steps import Plan, RemoveFile, Step, UnitStep, WriteFile, describe

_HIDDEN = r"\1<hidden>"


def lines(plan: Plan) -> tuple[str, ...]:
    """The plan for people: steps with their reasons, what it costs, notes and warnings."""
    if plan.empty:
        return ("Nothing to do: the node is as wanted.", *_told(plan))
    steps = [f"{number:2}. {what(step)}" for number, step in enumerate(plan.steps, 1)]
    costs = [(step, step.cost) for step in plan.steps if isinstance(step, UnitStep) and step.cost]
    told = [f"  {step.verb.value} {step.unit}: {cost}" for step, cost in costs]
    cost = ["What it costs:", *told] if told else ["No unit restarts."]
    return ("Steps:", *steps, *cost, *_told(plan))


def _told(plan: Plan) -> tuple[str, ...]:
    return (*(f"note: {text}" for text in plan.notes), *(f"warning: {text}" for text in plan.warnings))


def what(step: Step) -> str:
    """One step in a line: what it does and why."""
    return f"{describe(step)}: {step.reason}"


def unified_diff(step: Step) -> str:
    """A file step as a unified diff, secrets hidden; "" for any other step."""
    if isinstance(step, WriteFile):
        return diff(step.path, step.content_before, step.content)
    if isinstance(step, RemoveFile):
        return diff(step.path, step.content_before, None)
    return ""


def diffs(plan: Plan) -> str:
    """All diffs of a plan."""
    return "".join(unified_diff(step) for step in plan.steps)


def diff(path: str, before: bytes | None, after: bytes | None) -> str:
    """One file's change as a unified diff, secrets hidden; None: not there."""
    old, new = _text_lines(before), _text_lines(after)
    names = (path if before is not None else "/dev/null", path if after is not None else "/dev/null")
    found = difflib.unified_diff(old, new, *names, n=3)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found
    )


def _text_lines(content: bytes | None) -> list[str]:
    return hide(content.decode(errors="replace")).splitlines(keepends=True) if content is not None else []


def hide(text: str) -> str:
    """`text` with the values of secret-looking keys replaced."""
    user, secret = _patterns()
    return user.sub(r"\1<hidden>@", secret.sub(_HIDDEN, text))


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Of a user in a URL and of a secret; compiled where something is shown, because that takes 2 ms."""
    secret = re.compile(
        r"""(?ix)
        ( ["']? \b[\w.-]* (?: password | passwd | token | secret | auth | authorization )\b
          ["']? \s* [=:] \s* )
        ( "{3}(?:.|\n)*?"{3} | '{3}(?:.|\n)*?'{3} | "(?:\\.|[^"\\])*" | '[^']*' | \[[^\]]*\]
        | (?:basic|bearer)\s+\S+ | [^\s,}\]]+ )"""
    )
    return re.compile(r"(://)[^/?#\s\"']+@"), secret
