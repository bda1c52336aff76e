"""Our own file beside containerd's root file: where it lies, what is in it, and the line that makes
containerd read it.

Its name makes it the last one of its directory. It has the version that the root file has on the disk,
because that is the only one which is right with every containerd: 2.0 to 2.2 migrate all files from the last
version that they see, 2.3.0 to 2.3.4 refuse a version above the root's.

A file of version 2 on containerd 2.x names CRI's keys twice. 2.3 and newer migrate this file alone, and lose
three keys of a CRI section that has no table of runtimes; 2.0 to 2.2 migrate the merged files, and there the
root's own keys would win over those of the new tables. With both spellings each of them comes to the same.
"""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit

from agent import paths
from agent.containerd.files import Family, Loaded, is_glob, matches
from agent.containerd.keys import CRI, IMAGES, KEYS, KeyPath
from agent.containerd.toml_edit import Value
from agent.containerd.wishes import Wishes, respelled

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
