"""The ladder of proof on the console: a line per rung, and under a failed one why and what to do."""

from __future__ import annotations

from collections.abc import Callable

from agent.apply.climb import Climb, Rung, State
from agent.console import Console, Part, Tone, Toned

_MARKS = {
    State.OK: Toned("ok          ", Tone.GOOD),
    State.FAILED: Toned("FAILED      ", Tone.BAD),
    State.NOT_PROVED: Toned("not proved  ", Tone.WARN),
    State.UNKNOWN: Toned("unknown     ", Tone.WARN),
}


def lines(rung: Rung) -> list[tuple[Part, ...]]:
    """A rung as text."""
    found: list[tuple[Part, ...]] = [(f"{rung.number:2}  ", _MARKS[rung.state], f"{rung.name}: {rung.detail}")]
    if rung.state is State.OK:
        return found
    label = f" [{rung.code}]" if rung.code else ""
    told = [("cause:", f"{rung.cause}{label}" if rung.cause else label.strip())]
    told += [("seen:", one) for one in rung.evidence]
    told += [("try:", rung.try_)]
    found += [("      ", Toned(f"{name:<6}", Tone.STRONG), " ", text) for name, text in told if text]
    return found


def show(console: Console, climb: Climb) -> None:
    """All rungs, the drift, and what is pending, as the answer."""
    for rung in climb.rungs:
        for parts in lines(rung):
            console.line(*parts)
    for finding in climb.findings:
        console.line("    ", Toned("drift       ", Tone.WARN), f"{finding.kind}: {finding.what}")
        for name, text in (*(("seen:", one) for one in finding.evidence), ("try:", finding.try_)):
            console.line("      ", Toned(f"{name:<6}", Tone.STRONG), " ", text)
    for one in climb.pending:
        console.line("    ", Toned("pending     ", Tone.WARN), one)


def progress(console: Console) -> Callable[[Rung], None]:
    """Tells each rung on stderr as soon as it is known."""

    def tell(rung: Rung) -> None:
        for parts in lines(rung):
            console.progress(*parts)

    return tell


def verdict(climb: Climb) -> Part:
    """One sentence about all rungs."""
    if climb.headline is not None:
        rung = climb.headline
        return Toned(f"not proved: rung {rung.number} ({rung.name}) failed: {rung.detail}", Tone.BAD)
    open_ = [rung for rung in climb.rungs if rung.state is not State.OK]
    if open_:
        names = ", ".join(f"{rung.number} ({rung.name})" for rung in open_)
        return Toned(f"proved, but for rung {names}", Tone.WARN)
    return Toned("proved: all rungs", Tone.GOOD)
