"""Layers put on one another give what a container would see; what a layer does not name keeps its rights."""

from __future__ import annotations

import tracemalloc

import pytest

from agent.errors import ConvertError
from agent.images import layer as trees
from agent.images.layer import FileTree
from agent.images.tar import FileNode, NodeKind, TarEntry


def file(path: str, content: str = "x") -> TarEntry:
    return TarEntry(0, path, FileNode(NodeKind.FILE, 0o644, content=content, size=len(content)))


def directory(path: str, mode: int = 0o755) -> TarEntry:
    return TarEntry(0, path, FileNode(NodeKind.DIRECTORY, mode))


def link(path: str, target: str) -> TarEntry:
    return TarEntry(0, path, None, target)


def made(*layers: list[TarEntry]) -> FileTree:
    tree = FileTree()
    for layer in layers:
        tree.add_layer(placed(layer))
    return tree


def placed(layer: list[TarEntry]) -> list[TarEntry]:
    """Each entry at its place in a tar."""
    return [TarEntry(512 * at, entry.name, entry.node, entry.hard_link) for at, entry in enumerate(layer)]


def paths(tree: FileTree) -> set[str]:
    return {path for path in tree.nodes if path}


def refusal(*layers: list[TarEntry]) -> ConvertError:
    with pytest.raises(ConvertError) as raised:
        made(*layers)
    return raised.value


def test_a_whiteout_hides_what_is_below_with_all_that_is_in_it() -> None:
    assert paths(made([file("a/b/c"), file("a/d")], [file("a/.wh.b")])) == {"a", "a/d"}


def test_a_whiteout_hides_nothing_of_its_own_layer_wherever_it_stands() -> None:
    for layer in (
        [file("a/.wh.old"), file("a/new")],
        [file("a/new"), file("a/.wh.old")],
        [file(".wh.a"), file("a/new")],
    ):
        assert paths(made([file("a/old")], layer)) == {"a", "a/new"}


def test_an_opaque_directory_shows_its_own_files_alone_and_keeps_its_rights() -> None:
    tree = made(
        [directory("o", 0o700), file("o/gone"), file("o/sub/gone")], [file("o/.wh..wh..opq"), file("o/new")]
    )
    assert paths(tree) == {"o", "o/new"}
    assert tree.nodes["o"].mode == 0o700
    assert paths(made([file("a/b")], [file(".wh..wh..opq"), file("new")])) == {"new"}


def test_a_directory_with_a_whiteout_alone_is_there_as_containerd_makes_it() -> None:
    assert paths(made([file("x")], [file("new/.wh.y")])) == {"x", "new"}


def test_a_file_takes_the_place_of_a_directory_and_the_other_way() -> None:
    assert paths(made([file("a/b")], [file("a")])) == {"a"}
    tree = made([file("a")], [file("a/b")])
    assert paths(tree) == {"a", "a/b"}
    assert tree.nodes["a"].kind is NodeKind.DIRECTORY


def test_a_layer_may_be_deeper_than_python_calls_go() -> None:
    assert len(paths(made([file("d/" * 2000 + "x")]))) == 2001


def test_names_are_taken_as_tar_means_them() -> None:
    assert paths(made([file("./a"), file("/b"), file("c//d")])) == {"a", "b", "c", "c/d"}


def test_hard_links_are_one_file_through_each_other() -> None:
    tree = made([file("a"), link("b", "a"), link("c", "./b")])
    assert tree.nodes["a"] is tree.nodes["b"] is tree.nodes["c"]


@pytest.mark.parametrize(
    ("layers", "code", "cause"),
    [
        ([[file("../x")]], "NNA1403", "leads out"),
        ([[file("a/../../x")]], "NNA1403", "leads out"),
        ([[file("./"), file("x")]], "NNA1403", "its root is no directory"),
        ([[file("a"), file("a/b")]], "NNA1403", "below what is no directory"),
        ([[file("a/.wh.")]], "NNA1403", "hides nothing"),
        ([[file("a/.wh...")]], "NNA1403", "hides nothing"),
        ([[link("a", "nothing")]], "NNA1403", "leads to nothing that comes before it"),
        ([[link("a", "b"), file("b")]], "NNA1403", "leads to nothing that comes before it"),
        ([[file("a")], [link("b", "a")]], "NNA1403", "leads to nothing that comes before it"),
        ([[file("a"), file("./a")]], "NNA1403", "has /a twice"),
        ([[directory("d"), file("d/x"), directory("d/")]], "NNA1403", "has /d twice"),
        ([[file("a/.wh.x"), file("a/.wh.x")]], "NNA1403", "has /a/.wh.x twice"),
        ([[file("d/x"), directory("d")]], "NNA1403", "names /d behind what is in it"),
        ([[file("d/e/x"), directory("d"), directory("d/e")]], "NNA1403", "names /d behind what is in it"),
    ],
)
def test_what_nydus_image_would_mix_up_and_what_is_not_sound_is_refused(
    layers: list[list[TarEntry]], code: str, cause: str
) -> None:
    error = refusal(*layers)
    assert (error.code, cause in error.cause) == (code, True), error


def test_the_root_may_come_twice_and_the_later_one_counts() -> None:
    assert made([directory("./", 0o700), file("x"), directory("/", 0o711)]).nodes[""].mode == 0o711


@pytest.mark.parametrize("what", ["names", "wide names", "targets", "attributes"])
def test_an_image_that_fills_the_memory_is_refused_before_it_has(what: str) -> None:
    """26 KB of gzip with long names took 10 GB: each name makes hundreds of directories. Targets of links
    were not counted at all, and of an attribute its letters alone.
    """
    part = ("\U0001f4a3" if what == "wide names" else "y") * 9

    def entry(at: int) -> TarEntry:
        if what == "targets":
            return TarEntry(0, f"{at}", FileNode(NodeKind.SYMLINK, target=f"{at:04000}"))
        if what == "attributes":
            return TarEntry(0, f"{at}", FileNode(NodeKind.FILE, xattrs={f"{n}": b"" for n in range(2000)}))
        return file(f"{at:04}" + f"/{part}" * 200)

    most = 10 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ConvertError, match="too many files") as raised:
            FileTree(most).add_layer(map(entry, range(100_000)))
        assert (raised.value.code, tracemalloc.get_traced_memory()[1] < most) == ("NNA1403", True)
    finally:
        tracemalloc.stop()


# Directories that a layer does not name


BASE = [
    directory("./", 0o711),
    directory("tmp", 0o1777),
    directory("home"),
    directory("home/me", 0o700),
    file("home/me/a"),
]


def missing(*layers: list[TarEntry]) -> list[tuple[int, str, int]]:
    """Of the last layer: place, path and mode."""
    tree = FileTree()
    found: tuple[trees.MissingDirectory, ...] = ()
    for layer in layers:
        found = tree.add_layer(placed(layer))
    return [(one.start // 512, one.path, one.node.mode) for one in found]


def test_directories_of_a_layer_below_are_named_before_what_is_in_them_the_root_first() -> None:
    assert missing(BASE, [file("x"), file("home/me/b"), file("tmp/x"), file("tmp/y")]) == [
        (0, "", 0o711), (1, "home", 0o755), (1, "home/me", 0o700), (2, "tmp", 0o1777),
    ]  # fmt: skip


def test_what_the_layer_names_itself_is_left_to_it() -> None:
    assert missing(BASE, [directory("tmp", 0o755), file("tmp/x"), directory("/", 0o700)]) == []
    assert missing(BASE, [directory("/"), directory("home", 0o711), file("home/me/x")]) == [
        (2, "home/me", 0o700)
    ]


def test_what_no_layer_has_named_is_named_as_nydus_image_would_make_it() -> None:
    assert missing([file("a/b")], [file("a/c")]) == [(0, "a", 0o755)]
    assert missing([file("a/f"), file("a/b/c")]) == [(0, "a", 0o755), (1, "a/b", 0o755)]


def test_a_directory_that_is_hidden_and_made_anew_does_not_get_its_old_rights() -> None:
    found = missing(BASE, [file("home/.wh.me"), file("home/me/new")])
    assert found == [(0, "", 0o711), (0, "home", 0o755), (1, "home/me", 0o755)]


@pytest.mark.parametrize("mark", [".wh..wh..opq", ".wh.a"])
def test_an_opaque_directory_and_one_with_whiteouts_alone_keep_theirs(mark: str) -> None:
    assert missing(BASE, [file(f"home/me/{mark}")]) == [
        (0, "", 0o711),
        (0, "home", 0o755),
        (0, "home/me", 0o700),
    ]


def test_the_latest_word_counts_also_where_a_layer_between_is_silent() -> None:
    found = missing(BASE, [directory("tmp", 0o1770)], [file("x")], [file("tmp/y")])
    assert found == [(0, "", 0o711), (0, "tmp", 0o1770)]


def test_directories_of_hard_links_count_too() -> None:
    assert missing(BASE, [directory("/"), file("f"), link("tmp/l", "f")]) == [(2, "tmp", 0o1777)]


def test_a_root_that_nobody_names_stays_so() -> None:
    assert missing([file("a")], [file("b")]) == []
    assert missing([directory("/", 0o700)], []) == [(0, "", 0o700)]
