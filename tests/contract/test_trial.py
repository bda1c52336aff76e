"""A real read that does not come about: why is told, and nothing is left. (That one succeeds is shown on a
node.)
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.errors import NydusdError
from agent.netfilter.sock_diag import uid_of_peer
from agent.system import trial
from agent.system.trial import PrivateTrials
from tests.contract.waiting import ENDS_S, wait_until

DIES = "#!/bin/sh\necho 'ERROR cannot open the bootstrap' >&2\necho 'ERROR auth: c2VjcmV0' >&2\nexit 7\n"
_ASLEEP = f"sleep {4217_0000000 + os.getpid()}"
"""This run's own: /proc shows those of other checkouts too."""
HANGS = f"#!/bin/sh\nexec {_ASLEEP}\n"


def nydusd(directory: Path, script: str) -> str:
    path = directory / "nydusd"
    path.write_text(script)
    path.chmod(0o755)
    return str(path)


def read(directory: Path, program: str, deadline_s: float = 10) -> None:
    state = directory / "state"
    state.mkdir(exist_ok=True)
    PrivateTrials(str(state), uid_of_peer).read(
        program,
        "/nowhere/image.boot",
        lambda _relay, _work: b"{}",
        mirror=("127.0.0.1", 9),
        limit=1,
        deadline_s=deadline_s,
    )


def test_a_nydusd_that_dies_is_told_with_its_own_words_but_no_credential(tmp_path: Path) -> None:
    with pytest.raises(NydusdError) as caught:
        read(tmp_path, nydusd(tmp_path, DIES))
    assert caught.value.code == "NNA0731"
    assert "exit code 7" in caught.value.cause
    assert caught.value.seen == ("ERROR cannot open the bootstrap",)
    assert list((tmp_path / "state").iterdir()) == []


def test_a_nydusd_that_hangs_ends_with_the_deadline_and_leaves_no_process(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(NydusdError):
        read(tmp_path, nydusd(tmp_path, HANGS), deadline_s=1)
    assert time.monotonic() - began < ENDS_S
    assert _processes(_ASLEEP) == []


@pytest.mark.parametrize(("script", "cause"), [(DIES, "exit code 7"), (HANGS, ".")])
def test_a_nydusd_that_serves_no_mount_is_told_and_nothing_of_it_is_left(
    tmp_path: Path, script: str, cause: str
) -> None:
    (tmp_path / "state").mkdir()
    with pytest.raises(NydusdError) as caught:
        PrivateTrials(str(tmp_path / "state"), uid_of_peer).start(nydusd(tmp_path, script), deadline_s=1)
    assert caught.value.code == "NNA0731"
    assert re.search(cause, caught.value.cause)
    assert list((tmp_path / "state").iterdir()) == []
    assert _processes(_ASLEEP) == []


def test_the_configuration_is_for_root_alone(tmp_path: Path) -> None:
    looks = (
        f"#!/bin/sh\nstat -c '%a %n' $3 >{tmp_path}/modes\nstat -c %a $(dirname $3) "
        f">>{tmp_path}/modes\nexit 1\n"
    )
    with pytest.raises(NydusdError):
        read(tmp_path, nydusd(tmp_path, looks))
    config, directory = (tmp_path / "modes").read_text().splitlines()
    assert config.startswith("600 ")
    assert directory == "700"


def test_what_a_killed_run_left_is_swept_and_a_running_one_is_not(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for name, age in (("trial-old", 3600), ("trial-new", 1), ("other", 3600)):
        (state / name).mkdir(parents=True)
        os.utime(state / name, (time.time() - age,) * 2)
    with pytest.raises(NydusdError):
        read(tmp_path, nydusd(tmp_path, DIES))
    assert sorted(path.name for path in state.iterdir()) == ["other", "trial-new"]


def test_a_nydusd_does_not_outlive_an_agent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    program = (
        "from agent.netfilter.sock_diag import uid_of_peer\n"
        "from agent.system.trial import PrivateTrials\n"
        f"PrivateTrials({str(tmp_path / 'state')!r}, uid_of_peer).read({nydusd(tmp_path, HANGS)!r}, '/x', "
        "lambda r, w: b'{}', mirror=('127.0.0.1', 9), limit=1, deadline_s=60)"
    )
    child = subprocess.Popen([sys.executable, "-c", program])
    try:
        wait_until(lambda: _processes(_ASLEEP), "it runs")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    wait_until(lambda: not _processes(_ASLEEP), "it has ended")


def _processes(command: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if words == command:
                found.append(int(entry.name))
    return found


def test_an_image_of_millions_of_directories_ends_the_look_and_not_the_memory(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / "image" / str(number)).mkdir(parents=True)
    (tmp_path / "image" / "29" / "file").write_bytes(b"content")
    assert trial.read_files(str(tmp_path / "image"), 100) == (7, "")
    assert trial.read_files(str(tmp_path / "image"), 100, entries=20) == (
        0,
        "the image has no file with content",
    )
