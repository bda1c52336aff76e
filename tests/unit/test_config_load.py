"""Reading the real files: none, some, and those that cannot be read."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from agent.config.load import SIZE_CAP, LoadedConfig, load
from agent.config.model import Config
from agent.errors import ConfigError


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    return tmp_path


def loaded(etc: Path, **options: bool | str) -> LoadedConfig:
    # One helper for both.
    return load(str(etc / "agent.toml"), str(etc / "conf.d"), **options)  # type: ignore[arg-type]


def refused(etc: Path, **options: bool | str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(etc, **options)
    return caught.value


def test_a_node_without_any_file_works(tmp_path: Path) -> None:
    assert loaded(tmp_path) == LoadedConfig(Config())


def test_drop_ins_are_read_by_name_after_the_base_file(etc: Path) -> None:
    (etc / "agent.toml").write_text("fleet.return_window_s = 1")
    (etc / "conf.d/90-last.toml").write_text("fleet.return_window_s = 3")
    (etc / "conf.d/10-first.toml").write_text("drift.repair = 'own'")
    found = loaded(etc)
    assert found.sources == tuple(
        str(etc / name) for name in ("agent.toml", "conf.d/10-first.toml", "conf.d/90-last.toml")
    )
    assert found.config.fleet.return_window_s == 3
    assert found.origins["fleet.return_window_s"] == str(etc / "conf.d/90-last.toml")


def test_editors_and_dpkgs_leftovers_do_not_count(etc: Path) -> None:
    for name in (".x.toml", "x.toml~", "x.toml.dpkg-old", "x.toml.swp", "README"):
        (etc / "conf.d" / name).write_text("nonsense")
    assert loaded(etc) == LoadedConfig(Config())


def test_a_drop_in_with_another_ending_is_not_silently_ignored(etc: Path) -> None:
    (etc / "conf.d/50-site.conf").write_text("fleet.return_window_s = 3")
    found = loaded(etc)
    assert found.config == Config()
    assert "50-site.conf is not read" in found.warnings[0]


def test_a_link_to_the_configuration_is_followed(etc: Path) -> None:
    (etc / "real").write_text("fleet.return_window_s = 7")
    (etc / "agent.toml").symlink_to(etc / "real")
    assert loaded(etc).config.fleet.return_window_s == 7


def test_a_file_that_cannot_be_read_is_told_beside_the_problems_of_the_others(etc: Path) -> None:
    (etc / "agent.toml").write_text("[mirror]\nurll = 1")
    (etc / "conf.d/dangling.toml").symlink_to(etc / "nowhere")
    error = refused(etc)
    assert error.code == "NNA0101"
    assert [Path(problem.file).name for problem in error.problems] == ["dangling.toml", "agent.toml"]
    assert "2 problems" in error.what


def test_what_is_not_a_text_file_is_refused_and_nothing_hangs(etc: Path) -> None:
    os.mkfifo(etc / "agent.toml")
    (etc / "conf.d/a.toml").mkdir()
    (etc / "conf.d/b.toml").write_bytes(b"# \xff\n")
    (etc / "conf.d/c.toml").write_bytes(b"#" * (SIZE_CAP + 1))
    error = refused(etc)
    assert error.code == "NNA0102"
    assert [problem.reason for problem in error.problems] == [
        "is not a regular file",
        "is not a regular file",
        "is not UTF-8 (byte 2)",
        f"is larger than {SIZE_CAP} bytes",
    ]


@pytest.mark.parametrize(
    ("path", "uid", "gid", "mode"),
    [
        ("agent.toml", 0, 0, 0o666),
        ("agent.toml", 0, 12, 0o664),
        ("agent.toml", 1000, 0, 0o644),
        ("conf.d", 0, 0, 0o777),
        ("conf.d", 0, 0, 0o1777),
        ("conf.d/a.toml", 1000, 0, 0o600),
        (".", 1000, 0, 0o755),
        ("far/b.toml", 0, 0, 0o602),
        ("far", 0, 12, 0o775),
        ("way", 1000, 0, 0o755),
        ("way/link", 1000, 0, 0o644),
    ],
)
def test_a_configuration_that_others_may_write_is_told_and_no_verb_of_roots_changes_the_node_by_it(
    etc: Path, path: str, uid: int, gid: int, mode: int
) -> None:
    (etc / "far").mkdir()
    for name in ("agent.toml", "conf.d/a.toml", "far/b.toml"):
        (etc / name).write_text("version = 1" if name == "agent.toml" else "")
    (etc / "way").mkdir()
    (etc / "way/link").symlink_to(etc / "far/b.toml")
    (etc / "conf.d/b.toml").symlink_to("../way/../way/link")
    assert loaded(etc, trusted=True).warnings == ()
    os.chown(etc / path, uid, gid, follow_symlinks=False)
    (etc / path).chmod(mode)
    assert f"{etc / path}: can be written by others than root" in loaded(etc).warnings[0]
    error = refused(etc, trusted=True)
    assert (error.code, error.problems[0].file) == ("NNA0101", str(etc / path))
    of_a_directory = "keep the file where only root may write, such as /etc/nydus-agent"
    assert (error.problems[0].action == of_a_directory) == (etc / path).is_dir()


def test_who_may_write_by_an_acl_is_not_taken_for_roots_group(etc: Path) -> None:
    (etc / "agent.toml").write_text("version = 1")
    entries = ((1, 6, -1), (2, 6, 1000), (4, 4, -1), (16, 6, -1), (32, 4, -1))  # user 1000: rw (acl(5))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(etc / "agent.toml", "system.posix_acl_access", acl)
    assert refused(etc, trusted=True).problems[0].file == str(etc / "agent.toml")


def test_a_group_of_roots_and_a_sticky_directory_far_above_are_nobody_elses(etc: Path) -> None:
    (etc / "agent.toml").write_text("version = 1")
    (etc / "agent.toml").chmod(0o664)
    etc.parent.chmod(0o1777)
    assert loaded(etc, trusted=True).warnings == ()


def test_a_candidate_is_judged_on_top_of_what_is_in_place(etc: Path) -> None:
    (etc / "agent.toml").write_text("[mirror]\nregistry = 'https://registry.example.org'")
    candidate = etc / "candidate"
    candidate.write_text("[mirror]\ndialect = 'mirrors'")
    assert loaded(etc, candidate=str(candidate)).sources[-1] == str(candidate)


def test_a_candidate_that_is_not_there_is_refused(etc: Path) -> None:
    assert refused(etc, candidate=str(etc / "nowhere")).code == "NNA0102"
    assert refused(etc, required=True).problems[0].file == str(etc / "agent.toml")
