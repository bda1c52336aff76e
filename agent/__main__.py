"""Where errors become exit codes and messages; nothing below this module ends the process."""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TextIO

from agent import cli
from agent.commands.context import Context
from agent.console import Colour, Console, Format, exit_of
from agent.errors import AgentError, Exit, of_a_bug

DEBUG_VARIABLE = "NYDUS_AGENT_DEBUG"
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_PACKAGES = {"google": "python3-protobuf", "grpc": "python3-grpcio"}
"""The Debian package of a Python module, where its name is not python3-MODULE."""
BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(
    argv: Sequence[str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
    uid: int | None = None,
    root: str = "/",
) -> int:
    """Run one command line and return its exit code. The keyword arguments are for tests."""
    argv = sys.argv[1:] if argv is None else argv
    # The one place that reads it.
    environment = os.environ if environment is None else environment  # noqa: TID251
    out, err = out or _unbreakable(sys.stdout), err or _unbreakable(sys.stderr)
    try:
        code = _answer(argv, environment, out, err, root, os.geteuid() if uid is None else uid)
        _flush(out, code)
    except KeyboardInterrupt:
        Console(out, err).progress("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_gone(out)
    except ImportError as error:
        form = Format.JSON if _asks_for_json(argv) else Format.TEXT
        _tell(Console(out, err, form), _incomplete(error))
        code = int(Exit.FAILED)
        _flush(out, code)
    except Exception as error:  # noqa: BLE001 - a bug must still end in a message
        form = Format.JSON if _asks_for_json(argv) else Format.TEXT
        code = _bug(Console(out, err, form), error, environment)
        _flush(out, code)
    return code


def _answer(
    argv: Sequence[str], environment: Mapping[str, str], out: TextIO, err: TextIO, root: str, uid: int
) -> int:
    """Run the verb; its errors are part of the answer."""
    console = Console(out, err, Format.JSON if _asks_for_json(argv) else Format.TEXT)
    try:
        options = cli.options(argv)
        console = _console(options, out, err, environment)
        return int(
            cli.run(options.words, Context(console, uid, environment, options.config, options.conf_d, root))
        )
    except AgentError as error:
        _tell(console, error)
        return int(exit_of(error))
    except SystemExit as end:  # argparse: --help, --version
        return end.code if isinstance(end.code, int) else 0


def _console(options: cli.Options, out: TextIO, err: TextIO, environment: Mapping[str, str]) -> Console:
    colour: Colour = options.color
    return Console(out, err, options.format, colour.wanted(out, environment), colour.wanted(err, environment))


def _asks_for_json(argv: Sequence[str]) -> bool:
    """Also where the command line as a whole could not be understood."""
    return "--format=json" in argv or any(pair == ("--format", "json") for pair in itertools.pairwise(argv))


def _reader_gone(out: TextIO) -> int:
    """The reader of our output (`| head -1`) has gone. The interpreter must not complain again when it
    flushes at its end, so the rest goes nowhere (Python's documentation, "Note on SIGPIPE")."""
    _drop(out)
    return BROKEN_PIPE


def _drop(out: TextIO) -> None:
    if out is sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def _flush(out: TextIO, code: int) -> None:
    """A run that has failed ends as it did, also where stdout cannot take what it said.

    Raises OSError else.
    """
    try:
        out.flush()
    except BrokenPipeError:
        raise
    except OSError:
        if code == Exit.OK:
            raise
        _drop(out)


def _tell(console: Console, error: AgentError) -> None:
    """On stderr, as text, where stdout cannot take it: a full disk must not change how the run ended."""
    try:
        console.error(error)
    except BrokenPipeError:
        raise
    except OSError:
        Console(console.out, console.err).error(error)
        _drop(console.out)


def _incomplete(error: ImportError) -> AgentError:
    """A Python module is not there, or not whole: a package is missing, and that is no bug of ours."""
    top = (error.name or "").partition(".")[0]
    package = "nydus-node-agent" if top in ("", "agent") else _PACKAGES.get(top, f"python3-{top}")
    again = "--reinstall " if package == "nydus-node-agent" else ""
    return AgentError(
        "NNA1005", "the installation is incomplete", cause=str(error), try_=f"apt install {again}{package}"
    )


def _bug(console: Console, error: Exception, environment: Mapping[str, str]) -> int:
    debug = bool(environment.get(DEBUG_VARIABLE))
    bug = of_a_bug(
        error,
        "report it with the traceback above" if debug else
        f"report it with the output of the same command under {DEBUG_VARIABLE}=1",
    )  # fmt: skip
    if debug:
        console.progress("".join(traceback.format_exception(error)).rstrip())
    _tell(console, bug)
    return int(Exit.FAILED)


def _unbreakable(stream: TextIO) -> TextIO:
    """A character that the locale cannot encode is spelled out instead of ending the program."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="backslashreplace")
    return stream


if __name__ == "__main__":
    sys.exit(main())
