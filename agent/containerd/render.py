"""containerd's files with our keys in them, and everything of others as it was, byte for byte.

- no root file: one of ours, with everything in it;
- 2.x: a drop-in of ours, and an import in the root file where no glob names the drop-in's directory yet;
- 1.x: our keys in the root file, because a drop-in would wipe the CRI section; where a drop-in of somebody
  else holds that section, a drop-in of ours after it with a copy of the section.

A file that `toml_edit` cannot edit exactly is refused, never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent import paths
from agent.config.model import Config, ContainerdMode
from agent.containerd import dropin, wishes
from agent.containerd.dropin import expectations
from agent.containerd.files import Family, Loaded, Node, family
from agent.containerd.toml_edit import FAILURES, Value, add_to_list, insert, remove
from agent.containerd.view import KEYS, ContainerdView, KeyPath, at, dotted, last_version, section, view
from agent.containerd.wishes import Wished, certs_directory, respelled, wished
from agent.facts import node
from agent.facts.node import Version
from agent.steps import Refusal

_RUNTIME_SNAPSHOTTER = (1, 7)
"""Before, a runtime has no snapshotter of its own."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What shall become of containerd's files, or why it cannot."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    """New contents of those that change, in the order in which they are to be written."""
    gone: tuple[str, ...] = ()
    """Drop-ins of ours that are no longer needed."""
    wishes: Mapping[KeyPath, Value] = field(default_factory=dict)
    """As `containerd config dump` spells them."""
    expect: tuple[tuple[str, str], ...] = ()
    """(dotted key, value) pairs that `containerd config dump` must show."""
    hosts_read: bool = False
    """Whether containerd reads hosts.toml files with this configuration."""
    certs: str = paths.CERTS_D
    """The directory of hosts.toml files."""
    carries: bool = False
    """Whether our drop-in holds a copy of somebody's section, in which there may be a registry's password."""
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def needs_restart(self) -> bool:
        """Whether containerd must read its configuration anew."""
        return bool(self.files or self.gone)


@dataclass(frozen=True, slots=True)
class _Ground:
    """The node without our own drop-ins."""

    config: Config
    kind: Family
    version: Version
    node: Node
    loaded: tuple[Loaded, ...]
    base: ContainerdView
    mine: tuple[str, ...]
    """Our drop-ins that are there."""

    @property
    def root(self) -> Loaded | None:
        return (
            self.loaded[0] if self.loaded and self.loaded[0].path == self.config.containerd.config else None
        )


def candidate(config: Config, node: Node) -> Candidate:
    """containerd's files as they shall be on this node."""
    ground = _ground(config, node)
    if isinstance(ground, Refusal):
        return Candidate(refusals=(ground,))
    certs = certs_directory(ground.base)
    want = wished(config, ground.version, ground.kind, ground.base)
    missing = {path: value for path, value in want.wishes.items() if ground.base.get(path) != value}
    path, before = config.containerd.config, ground.root.content if ground.root is not None else None
    try:
        changes = _changes(ground, want)
    except FAILURES as error:
        rendered = wishes.refusals(path, before, None, missing)
        if rendered:
            return Candidate(refusals=rendered)
        reason = f"{config.containerd.config} cannot be edited without changing other lines: {error}"
        by_hand = f"set by hand: {', '.join(dotted(path) for path in missing)}"
        return Candidate(refusals=(Refusal("NNA0313", reason, by_hand),))
    after = node.with_files(changes)
    changed = frozenset(one for one, content in changes.items() if node.files.get(one) != content)
    refusals = (
        *wishes.refusals(path, before, changed, missing),
        *_impossible(ground, changes),
        *_overridden(ground, want, after),
    )
    if refusals:
        return Candidate(refusals=refusals, warnings=want.warnings)
    files = {path: one for path, one in changes.items() if one is not None and node.files.get(path) != one}
    loaded, _stuck = after.load(config.containerd.config)
    drops = any(path != config.containerd.config and one is not None for path, one in changes.items())
    carries = drops and ground.kind is Family.REPLACING
    return Candidate(
        files, tuple(path for path, one in changes.items() if one is None), want.wishes,
        expectations(want.wishes, ground.version, loaded), want.hosts_read, certs, carries,
        warnings=(*want.warnings, *(_carried(ground) if carries else ()), *_unread(ground)),
    )  # fmt: skip


def view_of(config: Config, node: Node) -> ContainerdView | None:
    """What containerd makes of the files that are there; None where that cannot be told."""
    kind = family(node.version) if isinstance(node.version, tuple) else None
    loaded, stuck = node.load(config.containerd.config)
    return None if kind is None or stuck or _unsupported(kind, loaded) else view(kind, loaded)


def _ground(config: Config, node: Node) -> _Ground | Refusal:
    if not isinstance(node.version, tuple):
        return Refusal(
            "NNA0314", f"containerd's version cannot be told ({node.version.reason})", "containerd --version"
        )
    kind = family(node.version)
    if kind is None:
        text = ".".join(map(str, node.version))
        return Refusal("NNA0314", f"containerd {text} is not yet supported (supported: 1.6, 1.7 and 2.x)")
    mine = tuple(path for path, one in node.files.items() if _is_mine(path, one))
    without = node.with_files(dict.fromkeys(mine))
    loaded, stuck = without.load(config.containerd.config)
    for one in stuck:
        return Refusal("NNA0311", f"{one.path} {one.reason}", "containerd config dump")
    wrong = _unsupported(kind, loaded)
    if wrong:
        return Refusal("NNA0311", wrong, "containerd config default")
    base = view(kind, loaded)
    if base.address and base.address != config.containerd.address:
        reason = (
            f"containerd listens on {base.address}, [containerd] address says {config.containerd.address}"
        )
        return Refusal("NNA0314", reason, f'set containerd.address = "{base.address}"')
    if base.snapshotter_disabled:
        reason = "disabled_plugins has the snapshotter: containerd would not register it"
        return Refusal("NNA0314", reason, f"take {paths.PROXY_PLUGIN} out of disabled_plugins")
    return _Ground(config, kind, node.version, without, loaded, base, mine)


def _is_mine(path: str, content: object) -> bool:
    return dropin.is_drop_in(path) and isinstance(content, bytes) and node.marked(content)


def _unsupported(kind: Family, loaded: tuple[Loaded, ...]) -> str:
    for one in loaded:
        if not 0 <= one.version <= kind.highest:
            says = one.document.get("version")
            return f"{one.path} has version {says}; this containerd reads 1 to {kind.highest}"
    return ""


def _changes(ground: _Ground, want: Wished) -> Mapping[str, bytes | None]:
    """New contents by path, None for what goes. Raises one of FAILURES."""
    root = ground.root
    path = ground.config.containerd.config
    if root is None:
        return {**dict.fromkeys(ground.mine), path: _new_root(ground, want)}
    missing = {key: value for key, value in want.wishes.items() if ground.base.get(key) != value}
    text = _without_leftover(ground, root)
    if ground.kind is Family.REPLACING:
        version = last_version(ground.loaded)
        holders = [one for one in ground.loaded if section(one.document, version) is not None]
        if not holders or holders[-1] is root or not any(key[0] == "plugins" for key in missing):
            text = insert(text, respelled(missing, KEYS[2], KEYS[version])) if missing else text
            return {**dict.fromkeys(ground.mine), path: text.encode()}
        table = section(holders[-1].document, version) or {}
        content = dropin.carrying(version, want.wishes, holders[-1], table)
    elif not missing and not ground.mine:
        return {path: text.encode()}
    else:
        content = dropin.merged(ground.kind, root.version, want.wishes)
    return _with_drop_in(ground, text, content)


def _with_drop_in(ground: _Ground, text: str, content: bytes) -> Mapping[str, bytes | None]:
    path = ground.config.containerd.config
    drop_in, line = dropin.place(path, ground.loaded)
    text = add_to_list(text, ("imports",), line) if line else text
    others = [one for one in ground.mine if one != drop_in]
    return {**dict.fromkeys(others), drop_in: content, path: text.encode()}


def _new_root(ground: _Ground, want: Wished) -> bytes:
    """A root file of ours. Its version is the highest that every containerd of this major version reads."""
    version = 2 if ground.kind is Family.REPLACING else 3
    return insert(
        _EMPTY.format(version=version), respelled(want.wishes, ground.base.keys, KEYS[version])
    ).encode()


def _without_leftover(ground: _Ground, root: Loaded) -> str:
    """The root file without keys of a mode that is no longer wanted: containerd's own default takes their
    place.
    """
    text = root.content.decode()
    if ground.config.containerd.mode is ContainerdMode.DEFAULT:
        return text
    left = {
        keys.snapshotter
        for keys in KEYS.values()
        if at(root.document, keys.snapshotter) == paths.PROXY_PLUGIN
    }
    return remove(text, dict.fromkeys(left), root.document) if left else text


def _impossible(ground: _Ground, changes: Mapping[str, bytes | None]) -> tuple[Refusal, ...]:
    found: list[Refusal] = []
    if (
        ground.config.containerd.mode is ContainerdMode.RUNTIME_CLASS
        and ground.version < _RUNTIME_SNAPSHOTTER
    ):
        reason = "mode runtime-class needs containerd 1.7: in 1.6 a runtime has no snapshotter of its own"
        found.append(Refusal("NNA0314", reason, 'set containerd.mode = "default" or "plugin-only"'))
    foreign = [path for path in changes if dropin.is_drop_in(path) and path in ground.node.files]
    found += [Refusal("NNA0313", f"{path} has our file's name, and not our mark") for path in foreign]
    root, last = ground.root, last_version(ground.loaded)
    drops = any(path != ground.config.containerd.config and one is not None for path, one in changes.items())
    if (
        drops
        and ground.kind is Family.MERGING
        and root is not None
        and root.version >= 2
        and last != root.version
    ):
        culprit = next(one.path for one in reversed(ground.loaded) if one.version)
        reason = (
            f"{culprit} has version {last}, {root.path} has {root.version}: containerd 2.0 to 2.2 reads all "
            "files as of the last version, and a file of ours after it would change what the others mean"
        )
        found.append(Refusal("NNA0313", reason, f"give {culprit} the version {root.version}"))
    return tuple(found)


def _overridden(ground: _Ground, want: Wished, after: Node) -> tuple[Refusal, ...]:
    """Our keys would not take effect, because a file that is loaded after ours says something else."""
    loaded, _stuck = after.load(ground.config.containerd.config)
    result = view(ground.kind, loaded)
    unmet = [dotted(path) for path, value in want.wishes.items() if result.get(path) != value]
    if not unmet:
        return _side_effects(ground, want, result)
    others = (
        ", ".join(one.path for one in loaded[1:] if not _is_mine(one.path, one.content)) or loaded[0].path
    )
    reason = f"{', '.join(unmet)} would not take effect: overridden in {others}"
    return (Refusal("NNA0313", reason, "containerd config dump"),)


def _side_effects(ground: _Ground, want: Wished, result: ContainerdView) -> tuple[Refusal, ...]:
    """Others' keys would change: a table of runtimes has 2.x read keys of version 2 that it passed over."""
    keys = result.keys
    images = {keys.snapshotter, keys.disable_snapshot_annotations, keys.discard_unpacked_layers}
    theirs = images.union({keys.default_runtime}).difference(want.wishes)
    changed = [
        dotted(path) for path in sorted(theirs)
        if ground.base.get(path) not in (result.get(path), paths.PROXY_PLUGIN)
    ]  # fmt: skip
    reason = f"{', '.join(changed)} would change, though it is not ours: containerd passes over it so far"
    return (Refusal("NNA0313", reason, "containerd config dump"),) if changed else ()


def _unread(ground: _Ground) -> tuple[str, ...]:
    """What containerd does not read of the operator's own, which he may not know."""
    if ground.kind is not Family.MERGING:
        text = "this containerd looks for {}, an import of {}, below the root directory, not beside that file"
        return tuple(
            text.format(pattern, one.path) for one in ground.loaded for pattern in one.misplaced_imports
        )
    old = [one.path for one in ground.loaded if one.version < 2 and section(one.document, 1) is not None]
    text = (
        "containerd 2.0 to 2.2 does not read the CRI section of {} (plugins.cri in a file of version 1 "
        "or of none)"
    )
    return tuple(text.format(path) for path in old)


def _carried(ground: _Ground) -> tuple[str, ...]:
    version = last_version(ground.loaded)
    holders = [one.path for one in ground.loaded if section(one.document, version) is not None]
    return (
        f"containerd 1.x takes the CRI section from one file alone: ours holds a copy of that of "
        f"{holders[-1]}; what "
        "changes there later takes effect with the next apply",
    )


_EMPTY = (
    f"# {paths.MARK}: there was no configuration file, containerd ran on its defaults.\nversion = "
    f"{{version}}\n"
)
