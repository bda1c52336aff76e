"""What goes wrong once a change was accepted: it stands, and nobody is told that the node is as it was
before.
"""

from __future__ import annotations

import errno
import io
import subprocess
import sys

import pytest

from agent import paths
from agent.apply import change, remove, rollback
from agent.apply.gate import Urgency
from agent.commands import repair
from agent.commands.context import Context
from agent.commands.running import surroundings
from agent.console import Console, Format, exit_of
from agent.errors import AgentError, ApplyError, Exit, FileError
from agent.records import generations
from tests.unit.proved_node import ProvedNode, proved

VERBS = ("apply", "rollback", "remove")


def act(made: ProvedNode, verb: str) -> None:
    """As the verb does it."""
    ports, console = made.node.ports, Console(io.StringIO(), io.StringIO(), Format.TEXT)
    with surroundings(console) as around, ports.ledger.lock(verb):
        if verb == "apply":
            change.apply(made.config, ports, around)
        elif verb == "rollback":
            rollback.roll_back(made.config, ports, around, to=1)
        else:
            remove.remove_setup(made.config, ports, around, force=False)


def error_of(made: ProvedNode, verb: str) -> Exception | None:
    """What the command line has to tell."""
    try:
        act(made, verb)
    except Exception as error:  # noqa: BLE001 - any is told
        return error
    return None


def before(verb: str) -> ProvedNode:
    """A node on which the verb has something to do."""
    if verb == "apply":
        return ProvedNode()
    made = proved()
    if verb == "rollback":
        made.node.files.put(paths.NYDUSD_TEMPLATE, b"{}\n")
    return made


def calls_since_acceptance(verb: str) -> tuple[int, int]:
    """Of the verb's effects, the number of the first after the acceptance, and of the last."""
    made = before(verb)
    done = len(made.node.faults.calls)
    act(made, verb)
    calls = made.node.faults.calls
    number = generations.numbers(made.node.files)[-1]
    accepted = calls.index(("replace", f"{paths.GENERATIONS}/{number}.json"), done)
    return accepted - done + 2, len(calls) - done


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), FileError("NNA0427", "cannot write", cause="no room")]
)
def test_what_fails_after_a_change_was_accepted_is_not_told_as_the_node_being_as_before(
    verb: str, error: Exception
) -> None:
    first, last = calls_since_acceptance(verb)
    assert last > first + 2
    told = []
    for nth in range(first, last + 1):
        made = before(verb)
        known = len(generations.numbers(made.node.files))
        made.node.faults.at(nth, error)
        failed = error_of(made, verb)
        if failed is not None:  # else it is something that may fail
            told.append(failed)
            ends = exit_of(failed) if isinstance(failed, AgentError) else Exit.FAILED
            assert ends is Exit.UNKNOWN, (nth, made.node.faults.calls[-1], failed)
            assert f"{verb} is done and stands" in str(failed)
            assert str(error) in str(failed)
        assert len(generations.numbers(made.node.files)) == known + 1
    assert told


def test_an_answer_that_cannot_be_given_is_not_told_as_a_repair_that_failed() -> None:
    made = proved()
    made.node.files.put(paths.NYDUSD_TEMPLATE, b"{}\n")
    context = Context(Console(Refusing(), io.StringIO(), Format.TEXT), uid=0)
    with pytest.raises(ApplyError, match="repair is done and stands") as caught:
        repair.mend(context, made.config, made.node.ports, Urgency.BY_HAND)
    assert exit_of(caught.value) is Exit.UNKNOWN


@pytest.mark.parametrize("form", Format)
def test_an_answer_that_a_full_disk_does_not_take_is_told_on_stderr_and_the_change_stands(
    form: Format,
) -> None:
    """`apply > FILE`: what is short stays in Python's buffer until the end."""
    code = f"""
import sys
from agent import cli
from agent.__main__ import main
from agent.records.journal import Begin
from agent.commands.running import surroundings

def run(words, context):
    with surroundings(context.console) as around:
        around.accepted.append(Begin("1", "apply", 1, 0.0, True, ""))
        context.console.line("the change is done")
        context.console.emit("ApplyResult", {{"generation": 1}})
    return 0

cli.run = run
sys.exit(main(["version", "--format", "{form.value}"]))
"""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, "NNA0420" in done.stderr, "Traceback" in done.stderr) == (4, True, False), (
        done.stderr
    )
    assert "apply is done and stands" in done.stderr


def test_what_fails_before_a_change_is_accepted_is_told_as_it_is() -> None:
    made = ProvedNode()
    made.node.faults.at(1, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        act(made, "apply")
    assert generations.numbers(made.node.files) == ()


class Refusing(io.StringIO):
    """A file on a disk that is full."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")
