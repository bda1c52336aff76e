"""Which files containerd loads, and what its versions make of them."""

from __future__ import annotations

import pytest

from agent.containerd.files import Family, Loaded, Node, expand, family, load, matches
from agent.containerd.view import view
from agent.facts.node import Unknown

ROOT = "/etc/containerd/config.toml"
TREE = {
    "/": ("etc", "opt"),
    "/etc": ("a", "b"),
    "/etc/a": (".hidden.toml", "2.toml", "1.toml", "notes"),
    "/etc/b": ("x.toml",),
}


def test_files_are_loaded_breadth_first_in_the_order_of_the_imports() -> None:
    files = {
        ROOT: b'imports = ["conf.d/*.toml", "/opt/last.toml"]',
        "/etc/containerd/conf.d/b.toml": b"",
        "/etc/containerd/conf.d/a.toml": b'imports = ["../nested.toml", "/etc/containerd/config.toml"]',
        "/opt/last.toml": b"",
        "/etc/containerd/nested.toml": b"",
        "/etc/containerd/conf.d/sub/c.toml": b"",
    }
    loaded, stuck = Node((2, 1, 9), files).load(ROOT)
    assert [one.path for one in loaded] == [
        ROOT, "/etc/containerd/conf.d/a.toml", "/etc/containerd/conf.d/b.toml", "/opt/last.toml",
        "/etc/containerd/nested.toml",
    ]  # fmt: skip
    assert stuck == ()


@pytest.mark.parametrize(
    ("version", "where"),
    [((1, 6, 20), ""), ((1, 6, 30), "/etc/containerd"), ((1, 7, 15), ""), ((1, 7, 16), "/etc/containerd")],
)
def test_a_relative_glob_finds_what_this_containerd_finds(version: tuple[int, ...], where: str) -> None:
    """Older ones begin in their process' directory (resolveImports), which is "/" for a unit."""
    files = {
        ROOT: b'imports = ["conf.d/*.toml", "one.toml"]',
        **dict.fromkeys(("/conf.d/a.toml", "/etc/containerd/conf.d/a.toml"), b""),
        "/etc/containerd/one.toml": b"",
    }
    (_root, *loaded), stuck = Node(version, files).load(ROOT)
    assert [one.path for one in loaded] == [f"{where}/conf.d/a.toml", "/etc/containerd/one.toml"]
    assert stuck == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "is not there"), (b"a = [", "does not parse"), (Unknown("EACCES"), "could not be read: EACCES")],
)
def test_an_import_that_nobody_can_read_is_told_with_its_name(
    content: bytes | None | Unknown, says: str
) -> None:
    contents: dict[str, bytes | None | Unknown] = {ROOT: b'imports = ["/opt/x.toml"]', "/opt/x.toml": content}
    _loaded, stuck = load(ROOT, contents.get, lambda _pattern: (), (2, 1, 9))
    assert [(one.path, says in one.reason) for one in stuck] == [("/opt/x.toml", True)]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/etc/a/*.toml", ("/etc/a/.hidden.toml", "/etc/a/1.toml", "/etc/a/2.toml")),
        ("/etc/*/[12x].toml", ("/etc/a/1.toml", "/etc/a/2.toml", "/etc/b/x.toml")),
        ("/etc/*/x.toml", ("/etc/b/x.toml",)),
        ("/etc/none/*.toml", ()),
        ("/*/?/1*", ("/etc/a/1.toml",)),
    ],
)
def test_globs_match_as_containerds_do(pattern: str, found: tuple[str, ...]) -> None:
    assert expand(pattern, lambda directory: TREE.get(directory, ())) == found
    assert all(matches(pattern, path) for path in found)


def test_a_glob_s_star_does_not_cross_a_directory() -> None:
    assert not matches("/etc/*.toml", "/etc/a/1.toml")


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ((1, 5, 9), None), ((1, 6, 20), Family.REPLACING), ((1, 7, 24), Family.REPLACING), ((2, 0, 0),
            Family.MERGING),
        ((2, 2, 7), Family.MERGING), ((2, 3, 0), Family.MIGRATING), ((2, 4, 2), Family.MIGRATING), ((3, 0),
            None),
    ],
)  # fmt: skip
def test_each_containerd_has_its_rules(version: tuple[int, ...], found: Family | None) -> None:
    assert family(version) is found


V2_DEFAULT = b'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "a"\n'
V2_RUNTIMES = b'[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "x"\n'
V3_DEFAULT = b'version = 3\n[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "b"\n'


@pytest.mark.parametrize(
    ("kind", "files", "snapshotter"),
    [
        (Family.REPLACING, (V2_DEFAULT,), "a"),
        (Family.MERGING, (V2_DEFAULT,), None),  # the migration drops it
        (Family.MIGRATING, (V2_DEFAULT,), None),
        (Family.MERGING, (V2_DEFAULT + V2_RUNTIMES,), "a"),
        (Family.MIGRATING, (V2_DEFAULT + V2_RUNTIMES,), "a"),
        (Family.MERGING, (V2_DEFAULT, b"version = 2\n" + V2_RUNTIMES), "a"),  # merged, then migrated
        (Family.MIGRATING, (V2_DEFAULT, b"version = 2\n" + V2_RUNTIMES), None),  # each by itself
        (Family.MERGING, (V2_DEFAULT + V2_RUNTIMES, V3_DEFAULT), "b"),
        (
            Family.MERGING,
            (V2_DEFAULT + V2_RUNTIMES, b"version = 3\n"),
            None,
        ),  # the last version cancels the migration
        (Family.MIGRATING, (V2_DEFAULT + V2_RUNTIMES, b"version = 3\n"), "a"),
        (Family.REPLACING, (b'[plugins.cri.containerd]\nsnapshotter = "c"\n',), "c"),
        (Family.REPLACING, (b'[plugins.cri.containerd]\nsnapshotter = "c"\n', b"version = 2\n"), None),
        (
            Family.MERGING,
            (b'[plugins.cri.containerd]\nsnapshotter = "c"\nruntimes = {}\n',),
            None,
        ),  # bumped, not moved
        (Family.MIGRATING, (b'[plugins.cri.containerd]\nsnapshotter = "c"\nruntimes = {}\n',), "c"),
        (Family.MERGING, (V3_DEFAULT.replace(b"version = 3\n", b""),), "b"),
        (Family.MIGRATING, (V3_DEFAULT.replace(b"3", b"4", 1),), "b"),
    ],
)
def test_the_default_snapshotter_is_the_one_that_the_daemon_would_take(
    kind: Family, files: tuple[bytes, ...], snapshotter: str | None
) -> None:
    contents = {f"/{number}": content for number, content in enumerate(files)}
    loaded = [one for path in contents for one in Node((0,), contents).load(path)[0]]
    found = view(kind, loaded)
    assert found.get(found.keys.snapshotter) == snapshotter


def loaded(*files: bytes) -> list[Loaded]:
    contents = {f"/{number}": content for number, content in enumerate(files)}
    return [one for path in contents for one in Node((0,), contents).load(path)[0]]


def test_a_later_file_wipes_a_plugin_s_section_on_1_x_and_is_merged_into_it_on_2_x() -> None:
    first = b'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/x"\n'
    second = b'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "y"\n'
    paths = {kind: view(kind, loaded(first, second)) for kind in Family}
    found = {kind: one.get((*one.keys.registry, "config_path")) for kind, one in paths.items()}
    assert found == {Family.REPLACING: None, Family.MERGING: "/x", Family.MIGRATING: "/x"}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Family.REPLACING, b'version = 2\n[grpc]\naddress = "/run/x.sock"\n'),
        (Family.MIGRATING, b'version = 3\n[grpc]\naddress = "/run/x.sock"\n'),
        (
            Family.MIGRATING,
            b'version = 4\n[plugins."io.containerd.server.v1.grpc"]\naddress = "/run/x.sock"\n',
        ),
    ],
)
def test_the_socket_is_found_where_the_version_keeps_it(kind: Family, text: bytes) -> None:
    assert view(kind, loaded(text)).address == "/run/x.sock"
