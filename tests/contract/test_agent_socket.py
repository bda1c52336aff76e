"""The daemon is asked on its socket, and nobody else in its place."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from agent.errors import HttpError
from agent.system.http import read_status
from tests.contract.server import answering, serving
from tests.contract.waiting import ENDS_S


def test_the_daemons_answer_is_had_over_its_socket(tmp_path: Path) -> None:
    place = str(tmp_path / "api.sock")
    with serving(answering("200 OK", b'{"kind": "DaemonStatus"}'), place) as server:
        assert read_status(place) == b'{"kind": "DaemonStatus"}'
    assert server.heads[0].startswith(b"GET /status HTTP/1.1\r\n")


def test_a_link_to_somebody_elses_socket_is_not_followed(tmp_path: Path) -> None:
    other, place = str(tmp_path / "other.sock"), tmp_path / "api.sock"
    place.symlink_to(other)
    with serving(answering("200 OK", b"{}"), other) as server, pytest.raises(HttpError):
        read_status(str(place))
    assert server.heads == []


def test_where_nobody_answers_that_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(HttpError, match="No such file"):
        read_status(str(tmp_path / "api.sock"))
    (tmp_path / "file").touch()
    with pytest.raises(HttpError, match="is not a socket"):
        read_status(str(tmp_path / "file"))
    with socket.socket(socket.AF_UNIX) as left:  # as after kill -9
        left.bind(str(tmp_path / "left.sock"))
    with pytest.raises(HttpError, match="refused"):
        read_status(str(tmp_path / "left.sock"))


def test_a_daemon_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    place = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as hangs:
        hangs.bind(place)
        hangs.listen()
        started = time.monotonic()
        with pytest.raises(HttpError):
            read_status(place)
    assert time.monotonic() - started < ENDS_S


def test_an_error_is_no_status(tmp_path: Path) -> None:
    place = str(tmp_path / "api.sock")
    with serving(answering("404 Not Found", b"nothing here\n"), place), pytest.raises(HttpError, match="404"):
        read_status(place)
