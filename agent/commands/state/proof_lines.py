"""The proof on the console: a line per check, and under a failed one why and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.console import Console, Part, Tone, Toned
from agent.documents.applied import CheckResult, CheckState
from agent.plan import mounts
from agent.proof.proofs import Proof
from agent.proof.registry_access import Access

_MARKS = {
    CheckState.OK: Toned("ok          ", Tone.GOOD),
    CheckState.FAILED: Toned("FAILED      ", Tone.BAD),
    CheckState.NOT_PROVED: Toned("not proved  ", Tone.WARN),
    CheckState.UNKNOWN: Toned("unknown     ", Tone.WARN),
}


def lines(check: CheckResult) -> list[tuple[Part, ...]]:
    """A check as text."""
    return [(f"{check.number:2}  ", _MARKS[check.state], f"{check.name}: {check.detail}"), *_why(check)]


def _why(one: CheckResult) -> list[tuple[Part, ...]]:
    """Nothing where it is well."""
    if one.state is CheckState.OK:
        return []
    label = f" [{one.code}]" if one.code else ""
    told = [("cause:", f"{one.cause}{label}" if one.cause else label.strip())]
    told += [("seen:", seen) for seen in one.evidence]
    told += [("try:", one.try_)]
    return [("      ", Toned(f"{name:<6}", Tone.STRONG), " ", text) for name, text in told if text]


def show(console: Console, proof: Proof) -> None:
    """All checks, the drift, what could not be looked at, and what is pending, as the answer."""
    for check in proof.checks:
        for parts in lines(check):
            console.line(*parts)
    for finding in proof.findings:
        console.line("    ", Toned("drift       ", Tone.WARN), f"{finding.kind}: {finding.what}")
        for name, text in (*(("seen:", one) for one in finding.evidence), ("try:", finding.try_)):
            console.line("      ", Toned(f"{name:<6}", Tone.STRONG), " ", text)
    for one in proof.unseen:
        console.line("    ", Toned("unseen      ", Tone.WARN), one)
    for one in proof.pending:
        console.line("    ", Toned("pending     ", Tone.WARN), one)
    for one in proof.unrenewed:
        console.line("    ", Toned("expires     ", Tone.WARN), one)
    if proof.unrenewed:
        console.line("      ", Toned("cause:", Tone.STRONG), f" {mounts.RENEWAL_COST} [NNA1207]")
        console.line("      ", Toned("try:  ", Tone.STRONG), f" {mounts.RENEWAL_TRY}")


def show_access(console: Console, found: Sequence[Access]) -> None:
    """What the registries in use say to this node."""
    for one in found:
        console.line("    ", _MARKS[one.state], f"registry {one.name}: {one.detail}")
        for parts in _why(one):
            console.line(*parts)


def progress(console: Console) -> Callable[[CheckResult], None]:
    """Tells each check on stderr as soon as it is known."""

    def tell(check: CheckResult) -> None:
        for parts in lines(check):
            console.progress(*parts)

    return tell


def summary(proof: Proof) -> Part:
    """One sentence about all checks."""
    if proof.headline is not None:
        check = proof.headline
        return Toned(f"not proved: check {check.number} ({check.name}) failed: {check.detail}", Tone.BAD)
    open_ = [check for check in proof.checks if check.state is not CheckState.OK]
    if open_:
        names = ", ".join(f"{check.number} ({check.name})" for check in open_)
        return Toned(f"proved, but for check {names}", Tone.WARN)
    if proof.unseen:
        return Toned(
            f"checks proved; whether all is as it was applied is unknown: {proof.unseen[0]}", Tone.WARN
        )
    return Toned("proved: all checks", Tone.GOOD)
