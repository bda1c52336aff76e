"""Our own file beside containerd's root file: where it lies, what is in it, and the line that makes
containerd read it. And how candidates are shown to the real containerd before they go live. Pure.

Its name makes it the last one of its directory. It has the version that the root file has on the disk,
because that is the only one which is right with every containerd: 2.0 to 2.2 migrate all files from the last
version that they see, 2.3.0 to 2.3.4 refuse a version above the root's.

A file of version 2 on containerd 2.x names CRI's keys twice. 2.3 and newer migrate this file alone, and lose
three keys of a CRI section that has no table of runtimes; 2.0 to 2.2 migrate the merged files, and there the
root's own keys would win over those of the new tables. With both spellings each of them comes to the same.

A candidate lies beside the real root file under a name that no glob matches. So that a drop-in is checked
together with the root file, the root's candidate names every file that would be loaded, ours by the name of
its candidate.
"""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit

from agent import paths
from agent.config.model import ContainerdConfig
from agent.containerd.files import Family, Loaded, Node, is_glob, matches
from agent.containerd.toml_edit import Value
from agent.containerd.view import CRI, IMAGES, KEYS, PROXY_PLUGIN, KeyPath, dotted
from agent.containerd.wishes import Wishes, respelled
from agent.facts.node import Version
from agent.steps import CheckContainerdConfig

NAME = "zz-nydus-agent.toml"
_DIRECTORY = "conf.d"
_OURS = "zz-nydus-agent*.toml"
"""No other file goes live by this import, and containerd starts without ours: a glob may match nothing."""


def is_drop_in(path: str) -> bool:
    """Whether this is the name of our own file beside containerd's root file."""
    return posixpath.basename(path) == NAME


def place(root: str, loaded: Sequence[Loaded]) -> tuple[str, str]:
    """(path of the drop-in, import that the root file needs); the import is "" where a glob takes it
    in already.

    Only directories beside or below the root file's count: what others import from elsewhere is theirs alone.
    """
    home = posixpath.dirname(root)
    for one in reversed(loaded):
        for pattern in reversed(one.patterns):
            directory = posixpath.dirname(pattern)
            near = directory == home or directory.startswith(f"{home}/")
            fixed = near and re.search(r"[*?\[\\]", directory) is None
            if fixed and is_glob(pattern) and matches(pattern, posixpath.join(directory, NAME)):
                return posixpath.join(directory, NAME), ""
    directory = posixpath.join(home, _DIRECTORY)
    return posixpath.join(directory, NAME), posixpath.join(directory, _OURS)


def merged(kind: Family, version: int, wishes: Wishes) -> bytes:
    """The drop-in for a containerd that merges key by key (2.x).

    `version` is the root file's, 0 where it names none.
    """
    keys = KEYS[kind.highest]
    if version != 2:
        return _text(version, _nested(wishes), ())
    old = respelled(wishes, keys, KEYS[2])
    new = {path: value for path, value in wishes.items() if path[:2] == ("plugins", IMAGES)}
    return _text(version, _nested({**old, **new}), ("Both spellings of CRI's keys: see nydus-agent(8).",))


def carrying(version: int, wishes: Wishes, holder: Loaded, section: Mapping[str, Any]) -> bytes:
    """The drop-in for a containerd that replaces sections (1.x): a copy of the CRI section with our keys in
    it.
    """
    spelled = respelled(wishes, KEYS[2], KEYS[version])
    name = "cri" if version < 2 else CRI
    nested = _nested(spelled, {"plugins": {name: copy.deepcopy(dict(section))}})
    return _text(
        version, nested, (f"The CRI section is that of {holder.path}: containerd 1.x replaces sections.",)
    )


def _nested(wishes: Mapping[KeyPath, Value], start: dict[str, Any] | None = None) -> dict[str, Any]:
    out: dict[str, Any] = start if start is not None else {}
    for path, value in wishes.items():
        table = out
        for key in path[:-1]:
            table = table.setdefault(key, {})
        table[path[-1]] = value
    return out


def _text(version: int, tables: Mapping[str, Any], why: Sequence[str]) -> bytes:
    lines = [f"# {paths.MARK}: do not edit, `nydus-agent apply` writes it.", *(f"# {text}" for text in why)]
    head = {"version": version} if version else {}
    return ("\n".join(lines) + "\n" + tomlkit.dumps({**head, **tables})).encode()


_SHOWS_EXPORTS = ((1, 6, 32), (1, 7, 16))
"""containerd before 1.6.32, and 1.7 before 1.7.16, drop the `exports` of a proxy plugin."""
_DUMPS_UNMIGRATED = ((2, 0, 0), (2, 0, 1), (2, 0, 2), (2, 0, 3), (2, 0, 4), (2, 1, 0))
"""Their `config dump` does not migrate plugins (containerd#11600, #11747): of an older file it shows
defaults.
"""


def candidate_path(path: str, root: str) -> str:
    """Where a candidate lies while containerd checks it: beside the root file, because imports are relative
    to it.

    The name ends in nothing that an import's glob would match.
    """
    return posixpath.join(posixpath.dirname(root), f".{posixpath.basename(path)}.nydus-agent-candidate")


def containerd_check(
    containerd: ContainerdConfig,
    after: Node,
    changed: Mapping[str, bytes],
    expect: tuple[tuple[str, str], ...],
) -> CheckContainerdConfig | None:
    """The step that shows the files of `after` to containerd; None where there is no root file any more."""
    root = containerd.config
    loaded, _stuck = after.load(root)
    if not loaded or loaded[0].path != root:
        return None
    own, others = loaded[0].content, loaded[1:]
    beside = tuple((one.path, one.content) for one in others if one.path in changed)
    names = [candidate_path(one.path, root) if one.path in changed else one.path for one in others]
    document = loaded[0].document
    # Nobody keeps it: what others wrote need only mean the same.
    spelled = tomlkit.dumps({**document, "imports": names}).encode() if "imports" in document else own
    return CheckContainerdConfig(
        root,
        own,
        expect,
        beside=beside,
        trial=None if spelled == own else spelled,
        program=containerd.program,
    )


def reads_exports(version: Version) -> bool:
    """Whether this containerd knows a proxy plugin's root; else it names a directory of its own as if it were
    that.
    """
    return version >= _SHOWS_EXPORTS[1] or _SHOWS_EXPORTS[0] <= version < (1, 7)


def expectations(wishes: Wishes, version: Version, loaded: Sequence[Loaded]) -> tuple[tuple[str, str], ...]:
    """(dotted key, value) pairs that the dump must show."""
    exports = reads_exports(version)
    plugins = version not in _DUMPS_UNMIGRATED or all(one.version >= 3 for one in loaded)
    hidden = (*PROXY_PLUGIN, "exports")
    return tuple(
        (dotted(path), _shown(value))
        for path, value in wishes.items()
        if (exports or path[: len(hidden)] != hidden) and (plugins or path[0] != "plugins")
    )


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
