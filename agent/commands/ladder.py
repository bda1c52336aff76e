"""The ladder of proof on the console: a line per rung, and under a failed one why and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.apply.climb import CheckResult, CheckState, Proof
from agent.apply.registry_access import Access
from agent.console import Console, Part, Tone, Toned
from agent.plan import renewal

_MARKS = {
    CheckState.OK: Toned("ok          ", Tone.GOOD),
    CheckState.FAILED: Toned("FAILED      ", Tone.BAD),
    CheckState.NOT_PROVED: Toned("not proved  ", Tone.WARN),
    CheckState.UNKNOWN: Toned("unknown     ", Tone.WARN),
}


def lines(rung: CheckResult) -> list[tuple[Part, ...]]:
    """A rung as text."""
    return [(f"{rung.number:2}  ", _MARKS[rung.state], f"{rung.name}: {rung.detail}"), *_why(rung)]


def _why(one: CheckResult | Access) -> list[tuple[Part, ...]]:
    """Nothing where it is well."""
    if one.state is CheckState.OK:
        return []
    label = f" [{one.code}]" if one.code else ""
    told = [("cause:", f"{one.cause}{label}" if one.cause else label.strip())]
    told += [("seen:", seen) for seen in one.evidence]
    told += [("try:", one.try_)]
    return [("      ", Toned(f"{name:<6}", Tone.STRONG), " ", text) for name, text in told if text]


def show(console: Console, climb: Proof) -> None:
    """All rungs, the drift, what could not be looked at, and what is pending, as the answer."""
    for rung in climb.rungs:
        for parts in lines(rung):
            console.line(*parts)
    for finding in climb.findings:
        console.line("    ", Toned("drift       ", Tone.WARN), f"{finding.kind}: {finding.what}")
        for name, text in (*(("seen:", one) for one in finding.evidence), ("try:", finding.try_)):
            console.line("      ", Toned(f"{name:<6}", Tone.STRONG), " ", text)
    for one in climb.unseen:
        console.line("    ", Toned("unseen      ", Tone.WARN), one)
    for one in climb.pending:
        console.line("    ", Toned("pending     ", Tone.WARN), one)
    for one in climb.unrenewed:
        console.line("    ", Toned("expires     ", Tone.WARN), one)
    if climb.unrenewed:
        console.line("      ", Toned("cause:", Tone.STRONG), f" {renewal.COST} [NNA1207]")
        console.line("      ", Toned("try:  ", Tone.STRONG), f" {renewal.TRY}")


def show_access(console: Console, found: Sequence[Access]) -> None:
    """What the registries in use say to this node."""
    for one in found:
        console.line("    ", _MARKS[one.state], f"registry {one.registry}: {one.detail}")
        for parts in _why(one):
            console.line(*parts)


def progress(console: Console) -> Callable[[CheckResult], None]:
    """Tells each rung on stderr as soon as it is known."""

    def tell(rung: CheckResult) -> None:
        for parts in lines(rung):
            console.progress(*parts)

    return tell


def verdict(climb: Proof) -> Part:
    """One sentence about all rungs."""
    if climb.headline is not None:
        rung = climb.headline
        return Toned(f"not proved: rung {rung.number} ({rung.name}) failed: {rung.detail}", Tone.BAD)
    open_ = [rung for rung in climb.rungs if rung.state is not CheckState.OK]
    if open_:
        names = ", ".join(f"{rung.number} ({rung.name})" for rung in open_)
        return Toned(f"proved, but for rung {names}", Tone.WARN)
    if climb.unseen:
        return Toned(f"rungs proved; whether all is as it was applied is unknown: {climb.unseen[0]}", Tone.WARN)
    return Toned("proved: all rungs", Tone.GOOD)
