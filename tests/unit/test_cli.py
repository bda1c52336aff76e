"""The contract of the command line: exit codes, one JSON object, errors with a way out, colour, clean
terminals.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import __version__, cli
from agent.__main__ import main
from agent.codec import to_document
from agent.commands import version
from agent.commands.context import Context
from agent.console import Console
from agent.documents.status import ProofDocument
from agent.errors import ConfigError, UsageError
from tests.lint.source import modules
from tests.unit.published import Run

ROOT = Path(__file__).resolve().parents[2]


def program(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *argv], cwd=ROOT, text=True, capture_output=True, timeout=30,
        check=False,
        **options,
    )  # fmt: skip


def test_a_right_configuration_is_ok_and_names_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("version = 1")
    run = Run(tmp_path, "check")
    assert run.code == 0
    assert run.out == f"ok: the configuration is right ({tmp_path}/agent.toml)\n"


def test_a_wrong_configuration_ends_with_2_and_every_problem(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[mirror]\nurll = 'x'\n[endpoint]\nport = 0")
    run = Run(tmp_path, "check")
    assert (run.code, run.out) == (2, "")
    lines = run.err.splitlines()
    assert lines[0] == "error[NNA0101]: the configuration is wrong (2 problems), nothing was touched"
    assert (
        lines[1] == f'seen:  {tmp_path}/agent.toml: mirror.urll = "x": unknown key; did you mean mirror.url?'
    )
    assert lines[2].endswith("endpoint.port = 0: is out of range; write a number from 1 to 65535")
    assert lines[3].startswith("try:   ")
    run = Run(tmp_path, "check", "--format", "json")
    assert (run.code, run.err) == (2, "")
    assert (run.json["kind"], run.json["code"], run.json["exit"]) == ("Error", "NNA0101", 2)
    assert run.json["problems"][1] == {
        "file": f"{tmp_path}/agent.toml", "key": "endpoint.port", "value": "0",
        "reason": "is out of range", "action": "write a number from 1 to 65535",
    }  # fmt: skip


def test_a_drop_in_is_checked_before_it_is_in_place(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[mirror]\nregistry = 'https://a'")
    candidate = tmp_path / "50-site.toml"
    candidate.write_text("[mirror]\ndialect = 'mirrors'")
    assert Run(tmp_path, "check", str(candidate)).code == 0
    assert Run(tmp_path, "check", "--as", "base", str(candidate)).code == 2


def test_check_shows_every_setting_and_where_it_was_set(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[fleet]\nreturn_window_s = 5")
    rows = [line.split() for line in Run(tmp_path, "check", "--show").out.splitlines()]
    assert ["fleet.return_window_s", "5", f"{tmp_path}/agent.toml"] in rows
    assert ["endpoint.port", "14003", "(default)"] in rows
    settings = Run(tmp_path, "check", "--format", "json").json["settings"]
    assert {"key": "fleet.return_window_s", "value": 5, "source": f"{tmp_path}/agent.toml"} in settings


def test_a_ca_file_that_is_not_there_is_a_warning_because_it_may_come_later(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[[registries.hosts]]\nhost = 'a'\nca = '/nowhere/ca.pem'")
    run = Run(tmp_path, "check")
    assert run.code == 0
    assert run.out.startswith("warning: the CA file of a is not there: /nowhere/ca.pem\n")


@pytest.mark.parametrize(
    ("argv", "what", "hint"),
    [
        (["chek"], "there is no verb 'chek'", "nydus-agent check"),
        (["frobnicate"], "there is no verb 'frobnicate'", "nydus-agent --help"),
        (["check", "--as", "x"], "argument --as: invalid choice", "nydus-agent check --help"),
        (["check", "--nope"], "unrecognized arguments: --nope", "nydus-agent check --help"),
        (["status", "--frmat", "json"], "did you mean --format?", "nydus-agent status --help"),
        (["route", "pin", "origin", "--fro", "1h"], "did you mean --for?", "nydus-agent route pin --help"),
        (["--nope"], "unrecognized arguments: --nope", "nydus-agent --help"),
        (["convert", "a", "b", "--json"], "unrecognized arguments: --json", "nydus-agent convert --help"),
        (["help", "chek"], "there is no verb 'chek'", "nydus-agent check"),
        (["--format", "yaml", "check"], "argument --format: invalid choice", "nydus-agent --help"),
        (["route"], "the following arguments are required: ACTION", "nydus-agent route --help"),
        (
            ["route", "pin", "origin", "--for", "2 weeks"],
            "is not a duration such as 30s",
            "nydus-agent route pin --help",
        ),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_a_way_on(
    tmp_path: Path, argv: list[str], what: str, hint: str
) -> None:
    run = Run(tmp_path, *argv)
    assert run.code == 2
    assert run.err.startswith("error[NNA1002]: ")
    assert what in run.err
    assert run.err.splitlines()[-1].startswith("try:   ")
    assert hint in run.err.splitlines()[-1]
    if "--format" not in argv:
        document = Run(tmp_path, *argv, "--format=json").json
        assert (document["kind"], document["code"]) == ("Error", "NNA1002")


def test_common_options_are_understood_before_and_after_the_verb_and_its_action(tmp_path: Path) -> None:
    for argv in (["--format", "json", "route", "auto"], ["route", "--format", "json", "auto"],
                 ["route", "auto", "--format", "json"]):  # fmt: skip
        assert Run(tmp_path, *argv).json["kind"] == "RoutePin"


def test_without_root_a_change_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    run = Run(tmp_path, "route", "auto", uid=1000)
    assert run.code == 2
    assert run.err.splitlines() == [
        "error[NNA1001]: route auto must run as root",
        "cause: it was started by uid 1000",
        "try:   sudo nydus-agent route auto",
    ]


def test_the_version_is_told_and_what_nobody_has_seen_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "var/lib/nydus-agent").mkdir(parents=True)
    proof = to_document(ProofDocument(1.0, versions={"nydusd": "2.2.0"}))
    (tmp_path / "var/lib/nydus-agent/proof.json").write_text(json.dumps(proof))
    run = Run(tmp_path, "version")
    assert run.code == 0
    assert run.out.splitlines()[:2] == [f"nydus-agent  {__version__}", "nydusd       2.2.0"]
    components = Run(tmp_path, "version", "--format", "json").json["components"]
    assert (components["nydusd"], components["containerd"]) == ("2.2.0", version.UNKNOWN)


def test_status_does_not_pay_for_what_only_roots_verbs_need() -> None:
    """grpcio alone costs 20 MB and a second on a small node."""
    code = (
        "import sys; from agent.__main__ import main; main(['status'], root='/nonexistent'); "
        "print([name for name in ('grpc', 'pystemd', 'requests') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("argv", [["check", "--show"], ["chek", "--format", "json"], ["--help"]])
def test_a_reader_that_goes_away_is_no_error(argv: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "agent", *argv], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE,
            text=True,
            timeout=30, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


def test_output_survives_a_locale_that_cannot_write_it(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("'\N{SNOWMAN}' = 1", encoding="utf-8")
    done = program("check", "--config", str(tmp_path / "agent.toml"), env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert "\\u2603" in done.stderr


class Broken(io.StringIO):
    """A stream on which every write ends in an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def write(self, _text: str) -> int:
        raise self.error


def broken(error: BaseException, environment: dict[str, str] | None = None) -> tuple[int, str]:
    err = io.StringIO()
    code = main(
        ["version"], environment=environment or {}, out=Broken(error), err=err, uid=0, root="/nonexistent"
    )
    return code, err.getvalue()


def test_a_bug_says_that_it_is_one_and_only_a_developer_gets_the_traceback() -> None:
    code, err = broken(ZeroDivisionError("oops"))
    assert code == 1
    assert err.startswith("error[NNA1099]: this is a bug in nydus-agent\ncause: ZeroDivisionError: oops\n")
    assert "Traceback" not in err
    assert "Traceback" in broken(ZeroDivisionError("oops"), {"NYDUS_AGENT_DEBUG": "1"})[1]
    assert broken(KeyboardInterrupt()) == (130, "interrupted\n"), "as shells expect it"


def test_colour_never_carries_a_meaning_alone(tmp_path: Path) -> None:
    coloured = Run(tmp_path, "status", "--color", "always")
    assert "\x1b[" in coloured.out
    assert Run(tmp_path, "status").out == coloured.out.replace("\x1b[0m", "").replace("\x1b[1m", "").replace(
        "\x1b[31m", "").replace("\x1b[32m", "").replace("\x1b[33m", "").replace("\x1b[2m", "")  # fmt: skip


def test_a_verbs_warnings_go_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[mirror]\nregistry = 'https://a'")
    out, err = io.StringIO(), io.StringIO()
    context = Context(Console(out, err), 0, {}, str(tmp_path / "agent.toml"), str(tmp_path / "conf.d"))
    assert context.load_config().config.mirror.registry == "https://a"
    assert (out.getvalue(), err.getvalue().startswith("warning: ")) == ("", True)
    (tmp_path / "agent.toml").chmod(0o666)
    with pytest.raises(ConfigError):  # it names programs, and they would be root's
        context.load_config()
    replace(context, uid=1000).load_config()


def test_every_verb_keeps_the_contract() -> None:
    for verb in cli.VERBS:
        module = verb.load()
        assert module.HELP[0].islower(), verb.name
        assert not module.HELP.endswith("."), verb.name
        assert "\n" not in module.HELP, verb.name
        assert isinstance(module.NEEDS_ROOT, bool), verb.name
    assert cli.build_parser(cli.VERBS).format_help()


@pytest.mark.parametrize("argv", [["--help"], ["help"], [], ["--color", "never"], ["-h"]], ids=" ".join)
def test_help_lists_the_verbs_for_people_by_group(tmp_path: Path, argv: list[str]) -> None:
    told = Run(tmp_path, *argv)
    assert (told.code, told.err) == (0, "")
    groups = [line for line in told.out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert groups == ["set up:", "observe:", "operate:", "images:", "options of every verb:"]
    listed = [line.split()[0] for line in told.out.splitlines() if re.match("  [a-z]", line)]
    assert listed == [verb.name for verb in cli.public_verbs()]
    assert {"status", "doctor", "events", "generations", "apply", "remove", "convert"} <= set(listed)
    assert {"daemon", "inspect", "recover", "due", "after-dpkg", "history", "why"}.isdisjoint(listed)


def test_the_help_of_a_verb_is_had_in_two_ways_and_names_nothing_that_only_units_use(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert Run(tmp_path, "apply", "--help").code == 0
    usual = capsys.readouterr().out
    assert Run(tmp_path, "help", "apply").code == 0
    assert capsys.readouterr().out == usual
    assert "--confirm" in usual
    assert "--in-turn" not in usual
    assert Run(tmp_path, "help", "route", "pin").code == 0
    assert "nydus-agent route pin" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "package"),
    [("grpc", "python3-grpcio"), ("requests", "python3-requests"),
     ("agent._pb.containerd", "--reinstall nydus-node-agent")],
)  # fmt: skip
def test_a_missing_module_is_an_incomplete_installation(name: str, package: str) -> None:
    code, err = broken(ModuleNotFoundError(f"No module named '{name}'", name=name))
    assert code == 1
    assert err.splitlines() == [
        "error[NNA1005]: the installation is incomplete",
        f"cause: No module named '{name}'",
        f"try:   apt install {package}",
    ]


def test_the_completion_that_the_package_installed_is_printed(tmp_path: Path) -> None:
    missing = Run(tmp_path, "completion", "zsh")
    assert (missing.code, "NNA1005" in missing.err) == (1, True)
    (tmp_path / "usr/share/zsh/vendor-completions").mkdir(parents=True)
    (tmp_path / "usr/share/zsh/vendor-completions/_nydus-agent").write_text("#compdef nydus-agent\n")
    assert Run(tmp_path, "completion", "zsh").out == "#compdef nydus-agent\n"


_EXAMPLES = {"verb": "apply", "form.value": "kind"}


def told_commands() -> tuple[set[str], set[str]]:
    """The commands of ours that the code tells somebody to run, and those that it names between backticks."""
    tries, named, docstrings = set[str](), set[str](), set[ast.expr]()
    for module in modules("agent"):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Expr):
                docstrings.add(node.value)
            elif isinstance(node, ast.keyword) and node.arg == "try_":
                tries.update(re.findall(r"nydus-agent [^;`,()…]+", text_of(node.value)))
            elif isinstance(node, ast.Constant | ast.JoinedStr) and node not in docstrings:
                named.update(re.findall(r"`(?:sudo )?(nydus-agent [^`]+)`", text_of(node)))
    return tries, named


def text_of(node: ast.expr) -> str:
    """The text of an expression; what is put into it stands as an example of its name, or as a 1."""
    if isinstance(node, ast.IfExp):
        return f"{text_of(node.body)}; {text_of(node.orelse)}"
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.FormattedValue):
        return _EXAMPLES.get(ast.unparse(node.value), "1")
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


TRIES, NAMED = told_commands()


def test_commands_that_the_code_tells_are_looked_for_where_they_stand() -> None:
    assert {"nydus-agent confirm", "nydus-agent events -n 10"} <= TRIES
    assert {"nydus-agent plan", "nydus-agent doctor"} <= NAMED


@pytest.mark.parametrize("command", sorted(TRIES | NAMED))
def test_every_command_that_the_code_tells_exists(command: str) -> None:
    wrong = ""
    try:
        cli.build_parser(cli.VERBS).parse_args(command.split()[1:])
    except SystemExit:  # of --help
        pass
    except UsageError as error:
        wrong = error.what
    if command not in TRIES and "arguments are required" in wrong:
        return  # a text may name a verb without its arguments; what is to be tried must be whole
    assert wrong == ""
