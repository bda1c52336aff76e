"""How the candidates are shown to the real containerd before they go live, and what it must say. Pure.

A candidate lies beside the real root file under a name that no glob matches. So that a drop-in is checked
together with the root file, the root's candidate names every file that would be loaded, ours by the name of
its candidate.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from agent.config.model import ContainerdConfig
from agent.containerd.files import Loaded, Node
from agent.containerd.keys import PROXY_PLUGIN, dotted
from agent.containerd.toml_edit import Value, replace_list
from agent.containerd.wishes import Wishes
from agent.facts.node import Version
from agent.steps import CheckContainerdConfig

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
    spelled = (
        replace_list(own.decode(), ("imports",), names).encode() if "imports" in loaded[0].document else own
    )
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
