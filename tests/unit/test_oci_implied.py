"""A directory that an upper layer does not name keeps the rights that a layer below gave it."""

from __future__ import annotations

from agent.oci.implied import Directories
from agent.oci.tree import Kind, Member, Node


def file(path: str) -> Member:
    return Member(path, Node(Kind.FILE, 0o644))


def directory(path: str, mode: int) -> Member:
    return Member(path, Node(Kind.DIRECTORY, mode))


def missing(*layers: list[Member]) -> list[tuple[str, int]]:
    """Of the last layer: paths and modes."""
    seen = Directories()
    for layer in layers[:-1]:
        seen.missing(layer)
    return [(path, node.mode) for path, node in seen.missing(layers[-1])]


BASE = [directory("./", 0o711), directory("tmp", 0o1777), directory("home/me", 0o700), file("home/me/a")]


def test_directories_of_a_layer_below_are_named_parents_first_the_root_too() -> None:
    assert missing(BASE, [file("home/me/b"), file("tmp/x")]) == [
        ("", 0o711),
        ("home", 0o755),
        ("home/me", 0o700),
        ("tmp", 0o1777),
    ]


def test_what_the_layer_names_itself_is_left_to_it_wherever_it_does() -> None:
    assert missing(BASE, [file("tmp/x"), directory("tmp", 0o755), directory("/", 0o700)]) == []


def test_what_no_layer_has_named_is_named_as_nydus_image_would_make_it_because_a_version_loses_files_there() -> None:
    assert missing([file("a/b")], [file("a/c")]) == [("a", 0o755)]
    assert missing([file("a/f"), file("a/b/c")]) == [("a", 0o755), ("a/b", 0o755)]


def test_a_directory_that_is_hidden_and_made_anew_does_not_get_its_old_rights() -> None:
    found = missing(BASE, [file("home/.wh.me"), file("home/me/new")])
    assert found == [("", 0o711), ("home", 0o755), ("home/me", 0o755)]


def test_an_opaque_directory_and_one_with_whiteouts_alone_keep_theirs() -> None:
    assert missing(BASE, [file("home/me/.wh..wh..opq")]) == [("", 0o711), ("home", 0o755), ("home/me", 0o700)]
    assert missing(BASE, [file("home/me/.wh.a")]) == [("", 0o711), ("home", 0o755), ("home/me", 0o700)]


def test_the_latest_word_counts_also_where_a_layer_between_is_silent() -> None:
    assert missing(BASE, [directory("tmp", 0o1770)], [file("x")], [file("tmp/y")]) == [("", 0o711), ("tmp", 0o1770)]


def test_a_directory_above_that_the_layer_names_itself_is_told_because_it_comes_twice_then() -> None:
    seen = Directories()
    seen.missing(BASE)
    seen.missing([directory("home", 0o755), file("home/me/x")])
    assert seen.twice == "home/me"
    seen.missing([directory("./", 0o755), directory("homer", 0o755), file("home/me/x")])
    assert seen.twice == ""


def test_parents_of_hard_links_count_too() -> None:
    assert missing(BASE, [directory("/", 0o755), file("f"), Member("tmp/l", None, "f")]) == [("tmp", 0o1777)]
