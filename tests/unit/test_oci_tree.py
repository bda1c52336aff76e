"""Layers put on one another give what a container would see, and a tree that differs is told in what."""

from __future__ import annotations

import pytest

from agent.errors import ConvertError
from agent.oci.tree import Difference, Kind, Member, Node, Tree, differences


def file(path: str, content: str = "x", **fields: object) -> Member:
    return Member(path, Node(Kind.FILE, 0o644, content=content, size=len(content), **fields))  # type: ignore[arg-type]  # of any kind


def directory(path: str, mode: int = 0o755) -> Member:
    return Member(path, Node(Kind.DIRECTORY, mode))


def tree(*layers: list[Member]) -> Tree:
    made = Tree()
    for layer in layers:
        made.add_layer(layer)
    return made


def paths(made: Tree) -> set[str]:
    return {path for path in made.nodes if path}


def test_a_whiteout_hides_what_is_below_with_all_that_is_in_it() -> None:
    made = tree([file("a/b/c"), file("a/d")], [file("a/.wh.b")])
    assert paths(made) == {"a", "a/d"}


def test_a_whiteout_hides_nothing_of_its_own_layer_wherever_it_stands() -> None:
    for layer in ([file(".wh.a"), file("a/new")], [file("a/new"), file(".wh.a")]):
        assert paths(tree([file("a/old")], layer)) == {"a", "a/new"}


def test_an_opaque_directory_shows_its_own_files_alone_and_keeps_its_rights() -> None:
    made = tree([directory("o", 0o700), file("o/gone"), file("o/sub/gone")], [file("o/.wh..wh..opq"), file("o/new")])
    assert paths(made) == {"o", "o/new"}
    assert made.nodes["o"].mode == 0o700


def test_an_opaque_root_hides_everything() -> None:
    assert paths(tree([file("a/b")], [file(".wh..wh..opq"), file("new")])) == {"new"}


def test_a_file_takes_the_place_of_a_directory_and_the_other_way() -> None:
    assert paths(tree([file("a/b")], [file("a")])) == {"a"}
    made = tree([file("a")], [file("a/b")])
    assert paths(made) == {"a", "a/b"}
    assert made.nodes["a"].kind is Kind.DIRECTORY


def test_a_layer_may_be_deeper_than_python_calls_go() -> None:
    assert len(paths(tree([file("d/" * 3000 + "x")]))) == 3001


@pytest.mark.parametrize("root", [file("./"), Member("/", None, "x")])
def test_a_root_that_is_no_directory_is_refused(root: Member) -> None:
    with pytest.raises(ConvertError) as raised:
        tree([root, file("x")])
    assert raised.value.code == "NNA1406"


def test_a_directory_that_only_its_files_imply_does_not_take_the_rights_of_one_that_is_named() -> None:
    made = tree([directory("d", 0o700)], [file("d/x")])
    assert made.nodes["d"].mode == 0o700
    assert made.nodes["d"].implied is False


def test_names_are_taken_as_tar_means_them() -> None:
    assert paths(tree([file("./a"), file("/b"), file("c//d")])) == {"a", "b", "c", "c/d"}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/.."])
def test_a_name_that_leads_out_of_the_image_is_refused(name: str) -> None:
    with pytest.raises(ConvertError, match="leads out"):
        tree([file(name)])


def test_hard_links_are_one_file_also_into_the_layer_below_and_through_each_other() -> None:
    made = tree([file("a"), Member("b", None, "a"), Member("c", None, "./b")], [Member("d", None, "a")])
    assert made.nodes["a"] is made.nodes["b"] is made.nodes["c"] is made.nodes["d"]


@pytest.mark.parametrize("links", [[("a", "nothing")], [("a", "a")], [("a", "b"), ("b", "a")]])
def test_a_hard_link_to_nothing_is_refused(links: list[tuple[str, str]]) -> None:
    with pytest.raises(ConvertError, match="leads to nothing"):
        tree([Member(name, None, target) for name, target in links])


def test_the_later_of_two_entries_counts() -> None:
    assert tree([file("a", "old"), file("a", "new")]).nodes["a"].content == "new"


def told(one: Node, other: Node) -> list[str]:
    expected, found = Tree(), Tree()
    expected.add("f", one)
    found.add("f", other)
    return [difference.what for difference in differences(expected, found)]


BASE = Node(Kind.FILE, 0o644, 1, 2, 3, 4, "c", xattrs={"user.a": b"1"})


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (Node(Kind.FILE, 0o600, 1, 2, 3, 4, "c", xattrs={"user.a": b"1"}), "the mode"),
        (Node(Kind.FILE, 0o644, 9, 2, 3, 4, "c", xattrs={"user.a": b"1"}), "the owner"),
        (Node(Kind.FILE, 0o644, 1, 9, 3, 4, "c", xattrs={"user.a": b"1"}), "the owner"),
        (Node(Kind.FILE, 0o644, 1, 2, 9, 4, "c", xattrs={"user.a": b"1"}), "the time"),
        (Node(Kind.FILE, 0o644, 1, 2, 3, 9, "c", xattrs={"user.a": b"1"}), "the size"),
        (Node(Kind.FILE, 0o644, 1, 2, 3, 4, "d", xattrs={"user.a": b"1"}), "the content"),
        (Node(Kind.FILE, 0o644, 1, 2, 3, 4, "c", xattrs={"user.a": b"2"}), "the set of extended attributes"),
        (Node(Kind.FILE, 0o644, 1, 2, 3, 4, "c"), "the set of extended attributes"),
        (Node(Kind.FIFO, 0o644, 1, 2, 3, 4, "c", xattrs={"user.a": b"1"}), "the kind"),
    ],
)
def test_whatever_of_a_file_differs_is_told(changed: Node, what: str) -> None:
    assert told(BASE, BASE) == []
    assert told(BASE, changed) == [what]


def test_targets_and_devices_are_compared_and_a_links_own_rights_are_not() -> None:
    assert told(Node(Kind.SYMLINK, 0o777, target="a"), Node(Kind.SYMLINK, 0o777, target="b")) == ["the target"]
    assert told(Node(Kind.SYMLINK, 0o777, target="a"), Node(Kind.SYMLINK, 0o755, target="a")) == []
    assert told(Node(Kind.BLOCK, device=(8, 1)), Node(Kind.BLOCK, device=(8, 2))) == ["the device"]


def test_a_file_too_many_and_one_too_few_are_told() -> None:
    found = list(differences(tree([file("a")]), tree([file("b")])))
    assert [(one.path, one.expected, one.found) for one in found] == [
        ("a", "a file", "not there"),
        ("b", "not there", "a file"),
    ]
    assert str(found[0]) == "/a: the file is not there, not a file"


def test_names_that_are_one_file_on_one_side_alone_are_told() -> None:
    linked = tree([file("a"), Member("b", None, "a")])
    apart = tree([file("a"), file("b")])
    assert [one.what for one in differences(linked, apart)] == ["the set of names"]
    assert [one.what for one in differences(apart, linked)] == ["the set of names"]
    assert list(differences(linked, tree([file("b"), Member("a", None, "b")]))) == []


def test_what_nobody_named_is_not_compared() -> None:
    expected, found = tree([file("d/x")]), tree([directory("d", 0o711), file("d/x")])
    assert list(differences(expected, found)) == list[Difference]()


def test_a_time_of_zero_is_not_compared_because_the_format_cannot_keep_it() -> None:
    assert told(Node(Kind.FILE, mtime=0), Node(Kind.FILE, mtime=5)) == []
    assert told(Node(Kind.FILE, mtime=5), Node(Kind.FILE, mtime=0)) == ["the time"]
