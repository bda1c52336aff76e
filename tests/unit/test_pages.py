"""README and docs/: what they tell to type is understood, what they name is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.catalogue import CATALOGUE
from agent.cli import build_parser, options, public_verbs
from agent.errors import UsageError
from tests.node import typed

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(r"^```(\w*).*?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`((?:sudo )?nydus-agent [^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_END = {"|", ">", ";", "&&", "||", "…", "..."}


def told(page: Path) -> Iterator[str]:
    """Every command line of ours on a page, in its text and in its blocks."""
    text = page.read_text()
    for fence in _FENCE.finditer(text):
        for line in fence.group(2).splitlines():
            found = re.match(r"(?:# |\$ )?(?:sudo )?(nydus-agent [a-z].*)$", line)
            if found:
                yield found.group(1).partition("   ")[0].partition(" #")[0]
    for span in _SPAN.finditer(_FENCE.sub("", text)):
        yield span.group(1).replace("\n", " ").removeprefix("sudo ")


def words(command: str) -> list[str]:
    """The arguments of a command line, up to what the shell would take."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[str] = []
    for word in list(lexer)[1:]:
        if word in _END:
            break
        found.append(word)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_is_understood(page: Path) -> None:
    parser = build_parser(public_verbs())
    wrong = []
    for command in told(page):
        given = words(command)
        try:
            parser.parse_args(options(given)[1])
        except UsageError as error:
            if "arguments are required" not in str(error):  # a text names a verb without them
                wrong.append(f"{command}: {error}")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_code_that_a_page_names_is_in_the_catalogue(page: Path) -> None:
    named = set(re.findall(r"NNA\d{4}", page.read_text()))
    assert named - set(CATALOGUE) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    dead = []
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = page if not path else (page.parent / path)
        if not aim.exists() or (anchor and anchor not in anchors(aim)):
            dead.append(target)
    assert dead == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_a_page_is_typed_as_it_is_printed() -> None:
    page = """\
text
```console
# echo one \\
two
one two
# cat >/f <<'EOF'
# a comment
EOF
```
```console download
# never
```
```console exit=3
# status
a … c
…
z
```
"""
    one, two, three = typed.commands(page)
    assert (one.line, one.command, one.printed) == (3, "echo one \\\ntwo", ["one two"])
    assert two.command == "cat >/f <<'EOF'\n# a comment\nEOF"
    assert (two.exit, three.exit) == (0, 3)
    assert three.agrees("a b c\nx\ny\nz\n")
    assert three.agrees("a  c\nz")
    assert not three.agrees("a b c\nz\ny")
    assert not one.agrees("one two three")


def test_a_block_that_begins_with_output_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 2"):
        list(typed.commands("```console\noutput\n```\n"))
