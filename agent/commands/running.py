"""What the verbs share that change the node or prove it: the configuration of those that put it back,
progress on the console, the proof in words, signals that stop between two steps, options, and whether one of
them is under way.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from agent import wire
from agent.apply.change import Surroundings
from agent.apply.execute import Progress, Stop
from agent.apply.gate import Urgency
from agent.commands.context import Context
from agent.config.model import Config
from agent.console import Console, Part, Tone, Toned
from agent.documents.status import CheckResult, CheckState
from agent.errors import AgentError, ApplyError, ConfigError, LockedError, of_a_bug
from agent.plan import mounts
from agent.ports import Ledger
from agent.proof.proofs import Proof
from agent.proof.registry_access import Access
from agent.records import generations
from agent.records.journal import Begin

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A terminal that is closed is such a signal too."""


@contextmanager
def caught_by(handler: Callable[[str], None]) -> Iterator[None]:
    """Within the block these signals call `handler` with their names; afterwards they mean what they did
    before.
    """

    def caught(number: int, _frame: FrameType | None) -> None:
        handler(signal.Signals(number).name)

    before = {number: signal.signal(number, caught) for number in ENDING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def config_or_record(context: Context) -> Config:
    """The operator's configuration. Where it is wrong, or others may write it, that is told, and it is the
    one that was applied last, or the defaults where no record tells: none keeps a node from being put back.
    """
    try:
        return context.load_config().config
    except ConfigError as error:
        for problem in error.seen:
            context.console.warn(problem)
    context.console.warn("the configuration is not used, but that which was applied last, or the defaults")
    with suppress(AgentError):  # the records are damaged, which whoever needs them tells
        return generations.in_force(wire.root_files(context.root), None)
    return Config()


@contextmanager
def surroundings(console: Console) -> Iterator[Surroundings]:
    """Reports steps and checks to `console`. A first signal lets the step under way end and then undoes
    everything, more change nothing.

    A terminal that is closed is such a signal too: what was begun is never left half done. Raises ApplyError
    NNA0420 in place of any error that comes once a change was accepted.
    """
    stop = Stop()

    def caught(name: str) -> None:
        stop.signal = stop.signal or name

    around = Surroundings(
        console.progress, lambda progress: _tell(console, progress), stop, each_check(console)
    )
    with caught_by(caught):
        try:
            yield around
            console.out.flush()
        except BrokenPipeError:
            raise
        except Exception as error:
            if not around.accepted:
                raise
            raise _stands(around.accepted[-1], error) from error


def _stands(accepted: Begin, error: Exception) -> ApplyError:
    failed = error if isinstance(error, AgentError) else of_a_bug(error)
    cause = (
        f"[{failed.code}] {failed.what}: {failed.cause}" if failed.cause else f"[{failed.code}] {failed.what}"
    )
    what = f"{accepted.verb} is done and stands, but what follows it failed"
    return ApplyError("NNA0420", what, cause=cause, seen=failed.seen)


def _tell(console: Console, progress: Progress) -> None:
    console.progress(
        Toned(f"[{progress.number}/{progress.total}]", Tone.FAINT),
        f" {progress.what} ({progress.took_s:.1f} s)",
    )


def add_now(add_argument: Callable[..., object]) -> None:
    """The option --now of the verbs that change the node, by a parser's or a group's `add_argument`."""
    add_argument(
        "--now", action="store_true",
        help='restart what has to restart now, whatever restarts_per_hour and restart = "never" say',
    )  # fmt: skip


def urgency_of(*, now: bool, by_itself: bool = False) -> Urgency:
    """Who wants the change, by the options: somebody who says --now, nobody, or somebody who can wait."""
    return Urgency.NOW if now else Urgency.BY_ITSELF if by_itself else Urgency.BY_HAND


def busy(ledger: Ledger, who: str) -> str:
    """Who holds the lock of changes and drills, with its command line; "" = nobody.

    The lock is not kept: an apply must never wait for one that only looks.
    """
    try:
        with ledger.lock(who):
            return ""
    except LockedError as error:
        return error.cause


_MARKS = {
    CheckState.OK: Toned("ok          ", Tone.GOOD),
    CheckState.FAILED: Toned("FAILED      ", Tone.BAD),
    CheckState.NOT_PROVED: Toned("not proved  ", Tone.WARN),
    CheckState.UNKNOWN: Toned("unknown     ", Tone.WARN),
}


def check_lines(check: CheckResult) -> list[tuple[Part, ...]]:
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


def show_proof(console: Console, proof: Proof) -> None:
    """All checks, the drift, what could not be looked at, and what is pending, as the answer."""
    for check in proof.checks:
        for parts in check_lines(check):
            console.line(*parts)
    for finding in proof.findings:
        console.line("    ", Toned("drift       ", Tone.WARN), f"{finding.kind}: {finding.what}")
        _details(console, [*(("seen:", one) for one in finding.evidence), ("try:", finding.try_)])
    for name, texts in (("unseen", proof.unseen), ("pending", proof.pending), ("expires", proof.unrenewed)):
        for text in texts:
            console.line("    ", Toned(f"{name:<12}", Tone.WARN), text)
    if proof.unrenewed:
        _details(console, [("cause:", f"{mounts.RENEWAL_COST} [NNA1207]"), ("try:", mounts.RENEWAL_TRY)])


def _details(console: Console, told: Iterable[tuple[str, str]]) -> None:
    for name, text in told:
        console.line("      ", Toned(f"{name:<6}", Tone.STRONG), " ", text)


def show_access(console: Console, found: Sequence[Access]) -> None:
    """What the registries in use say to this node."""
    for one in found:
        console.line("    ", _MARKS[one.state], f"registry {one.name}: {one.detail}")
        for parts in _why(one):
            console.line(*parts)


def each_check(console: Console) -> Callable[[CheckResult], None]:
    """Tells each check on stderr as soon as it is known."""

    def tell(check: CheckResult) -> None:
        for parts in check_lines(check):
            console.progress(*parts)

    return tell


def proof_summary(proof: Proof) -> Part:
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
