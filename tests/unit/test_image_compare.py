"""A tree that differs is told in what, and a tree on the disk is read as the tar of it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.images.compare import differences, read_tree
from agent.images.layer import FileTree
from agent.images.tar import FileNode, NodeKind, TarWalk
from tests.node.trees import tar_of
from tests.unit.test_image_tar import everything
from tests.unit.test_image_tree import directory, file, link, made


def told(one: FileNode, other: FileNode) -> list[str]:
    expected, found = FileTree(), FileTree()
    expected.add("f", one)
    found.add("f", other)
    return list(differences(expected, found))


BASE = FileNode(NodeKind.FILE, 0o644, 1, 2, 3, 4, "c", xattrs={"user.a": b"1"})


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (
            FileNode(NodeKind.FILE, 0o600, 1, 2, 3, 4, "c", xattrs={"user.a": b"1"}),
            "mode: found 0600, expected 0644",
        ),
        (FileNode(NodeKind.FILE, 0o644, 9, 2, 3, 4, "c", xattrs={"user.a": b"1"}), "owner: found"),
        (FileNode(NodeKind.FILE, 0o644, 1, 9, 3, 4, "c", xattrs={"user.a": b"1"}), "owner: found"),
        (
            FileNode(NodeKind.FILE, 0o644, 1, 2, 9, 4, "c", xattrs={"user.a": b"1"}),
            "time: found 9, expected 3",
        ),
        (FileNode(NodeKind.FILE, 0o644, 1, 2, 3, 9, "c", xattrs={"user.a": b"1"}), "size: "),
        (FileNode(NodeKind.FILE, 0o644, 1, 2, 3, 4, "d", xattrs={"user.a": b"1"}), "content: "),
        (FileNode(NodeKind.FILE, 0o644, 1, 2, 3, 4, "c", xattrs={"user.a": b"2"}), "extended attributes: "),
        (FileNode(NodeKind.FILE, 0o644, 1, 2, 3, 4, "c"), "extended attributes: found {}"),
        (
            FileNode(NodeKind.FIFO, 0o644, 1, 2, 3, 4, "c", xattrs={"user.a": b"1"}),
            "found a fifo, expected a file",
        ),
    ],
)
def test_whatever_of_a_file_differs_is_told(changed: FileNode, what: str) -> None:
    assert told(BASE, BASE) == []
    (found,) = told(BASE, changed)
    assert found.startswith(f"/f: {what}")


def test_targets_and_devices_are_compared_and_a_links_own_rights_are_not() -> None:
    soft = FileNode(NodeKind.SYMLINK, 0o777, target="a")
    assert told(soft, FileNode(NodeKind.SYMLINK, 0o777, target="b")) == ["/f: target: found b, expected a"]
    assert told(soft, FileNode(NodeKind.SYMLINK, 0o755, target="a")) == []
    assert len(told(FileNode(NodeKind.BLOCK, device=(8, 1)), FileNode(NodeKind.BLOCK, device=(8, 2)))) == 1


def test_a_file_too_many_and_one_too_few_are_told() -> None:
    assert list(differences(made([file("a")]), made([file("b")]))) == [
        "/a: found nothing, expected a file", "/b: found a file, expected nothing",
    ]  # fmt: skip


def test_names_that_are_one_file_on_one_side_alone_are_told() -> None:
    linked, apart = made([file("a"), link("b", "a")]), made([file("a"), file("b")])
    assert list(differences(linked, apart)) == ["/a: a, b: found other names, expected hard links"]
    assert list(differences(apart, linked)) == ["/a: a, b: found hard links, expected other names"]
    assert list(differences(linked, made([file("b"), link("a", "b")]))) == []


def test_what_nobody_named_is_not_compared() -> None:
    assert list(differences(made([file("d/x")]), made([directory("d", 0o711), file("d/x")]))) == []


def test_a_time_of_zero_is_not_compared_because_the_format_cannot_keep_it() -> None:
    assert told(FileNode(NodeKind.FILE, mtime=0), FileNode(NodeKind.FILE, mtime=5)) == []
    assert told(FileNode(NodeKind.FILE, mtime=5), FileNode(NodeKind.FILE, mtime=0)) == [
        "/f: time: found 0, expected 5"
    ]


def test_a_tree_on_the_disk_is_read_as_its_tar_is(tmp_path: Path) -> None:
    """GNU tar is the judge: it shares no code with either side."""
    content = tar_of(everything)
    subprocess.run(
        ["tar", "--extract", "--xattrs", "--xattrs-include=*", "--same-owner", "--preserve-permissions"],
        input=content, cwd=tmp_path, check=True, timeout=30,
    )  # fmt: skip
    expected = FileTree()
    expected.add_layer(TarWalk(iter([content]), content=True))
    assert list(differences(expected, read_tree(str(tmp_path)))) == []
