"""Purging takes our programs from wherever the configuration had put them, and nothing else that lies there."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "debian/nydus-node-agent.postrm"
WHOLE, DAMAGED = "a1" * 32, "0f" * 32


def purge(place: Path, *listed: Path) -> None:
    """The script as dpkg runs it, but for the places that it may touch and the user."""
    text = SCRIPT.read_text().replace("getent passwd nydus-agent", "false")
    for ours in ("/var/lib/nydus-agent", "/etc/nydus-agent", "/run/nydus-agent"):
        text = text.replace(ours, f"{place}{ours}")
    state = place / "var/lib/nydus-agent"
    state.mkdir(parents=True)
    (state / "artifact-directories").write_text("".join(f"{one}\n" for one in listed))
    (place / "postrm").write_text(text)
    subprocess.run(["/bin/sh", str(place / "postrm"), "purge"], check=True, timeout=60)
    assert not state.exists()


def store(at: Path) -> Path:
    for name in (WHOLE, DAMAGED, ".new-01"):
        (at / name / "programs").mkdir(parents=True)
    (at / WHOLE / "set.json").write_text("{}")
    (at / "current").symlink_to(WHOLE)
    (at / ".begun").mkdir()
    (at / ".begun" / WHOLE).write_text("half an archive")
    for name in ("lock", "floor.json", "seen.lock.toml"):
        (at / name).write_text("")
    return at


def test_nothing_of_a_store_is_left_also_where_a_set_has_lost_its_record(tmp_path: Path) -> None:
    places = store(tmp_path / "one"), store(tmp_path / "with a space")
    purge(tmp_path, *places, tmp_path / "gone")
    assert [place.exists() for place in places] == [False, False]


def test_what_others_keep_beside_it_stays(tmp_path: Path) -> None:
    place = store(tmp_path / "opt")
    for name in ("app", "abc", "A1" * 32):
        (place / name).mkdir()
        (place / name / "set.json").write_text("theirs")
    purge(tmp_path, place)
    assert sorted(path.name for path in place.iterdir()) == ["A1" * 32, "abc", "app"]
    assert {path.read_text() for path in place.glob("*/set.json")} == {"theirs"}
