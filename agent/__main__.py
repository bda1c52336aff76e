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
from agent.errors import AgentError, of_a_bug

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
        out.flush()
    except KeyboardInterrupt:
        Console(out, err).progress("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`| head -1`) has gone (Python's documentation, "Note on SIGPIPE").
        _drop(out)
        return BROKEN_PIPE
    except OSError:  # it was told on stderr
        _drop(out)
    return code


def _answer(
    argv: Sequence[str], environment: Mapping[str, str], out: TextIO, err: TextIO, root: str, uid: int
) -> int:
    """Run the verb; its errors are part of the answer, and so are those of stdout, which may be full."""
    # Also where the command line as a whole could not be understood.
    as_json = "--format=json" in argv or ("--format", "json") in itertools.pairwise(argv)
    console = Console(out, err, Format.JSON if as_json else Format.TEXT)
    try:
        options, words = cli.options(argv)
        colours = (Colour(options.color).wanted(stream, environment) for stream in (out, err))
        console = Console(out, err, Format(options.format), *colours)
        context = Context(console, uid, environment, options.config, options.conf_d, root)
        code = int(cli.run(words, context))
        out.flush()
    except SystemExit as end:  # argparse: --help, --version
        return end.code if isinstance(end.code, int) else 0
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - a bug must still end in a message
        told = _as_told(error, console, environment)
        _tell(console, told)
        return int(exit_of(told))
    return code


def _as_told(error: Exception, console: Console, environment: Mapping[str, str]) -> AgentError:
    if isinstance(error, AgentError):
        return error
    if isinstance(error, ImportError):  # a package is missing or not whole, and that is no bug of ours
        top = (error.name or "").partition(".")[0]
        package = "nydus-node-agent" if top in ("", "agent") else _PACKAGES.get(top, f"python3-{top}")
        install = "apt install --reinstall" if package == "nydus-node-agent" else "apt install"
        what = "the installation is incomplete"
        return AgentError("NNA1005", what, cause=str(error), try_=f"{install} {package}")
    if not environment.get(DEBUG_VARIABLE):
        return of_a_bug(error, f"report it with the output of the same command under {DEBUG_VARIABLE}=1")
    console.progress("".join(traceback.format_exception(error)).rstrip())
    return of_a_bug(error, "report it with the traceback above")


def _tell(console: Console, error: AgentError) -> None:
    """On stderr, as text, where stdout cannot take it: a full disk must not change how the run ended."""
    try:
        console.error(error)
    except BrokenPipeError:
        raise
    except OSError:
        Console(console.out, console.err).error(error)


def _drop(out: TextIO) -> None:
    """What is left in the buffer goes nowhere: the interpreter must not complain when it flushes at its
    end.
    """
    if out is sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def _unbreakable(stream: TextIO) -> TextIO:
    """A character that the locale cannot encode is spelled out instead of ending the program."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="backslashreplace")
    return stream


if __name__ == "__main__":
    sys.exit(main())
