"""Nydusd: the contract on the fake (on a real nydusd: tests/contract/node), and answers of other versions."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from agent.errors import NydusdError
from agent.ports import NydusdInfo
from agent.system.nydusd import NydusdApi
from tests.contract.nydusd import NydusdContract, NydusdWorld
from tests.contract.server import answering, serving
from tests.fakes.nydusd import FakeNydusd

_REGISTRY = {"host": "127.0.0.1:5000", "auth": None, "proxy": {"url": "http://127.0.0.1:4001"}}


class _FakeWorld(NydusdWorld):
    def __init__(self) -> None:
        self.root, self.pid = "/var/lib/containerd-nydus", 77
        self.alive, self.deaf = (f"{self.root}/socket/{name}/api.sock" for name in ("alive", "deaf"))
        config = {"backend": {"registry": _REGISTRY}}
        daemon = NydusdInfo(self.alive, "alive", "2.2.0", "RUNNING", self.pid, (("/", config),))
        self.port = self.fake = FakeNydusd(daemon)
        self.fake.deaf.add(self.deaf)
        self.fake.metrics[self.alive] = {"read_amount_total": 0, "read_errors": 0}


class TestFake(NydusdContract):
    @pytest.fixture
    def world(self) -> NydusdWorld:
        return _FakeWorld()


def _listen(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def test_of_a_daemon_that_was_upgraded_the_newest_socket_counts(tmp_path: Path) -> None:
    for name in (
        "a/api.sock",
        "b/api.sock",
        "b/api9.sock",
        "b/api10.sock",
        "b/apix.sock",
        "b/api11.sock.old",
    ):
        _listen(tmp_path / "socket" / name)
    (tmp_path / "socket/c").mkdir()
    (tmp_path / "socket/c/api.sock").write_text("a file")
    (tmp_path / "socket/d").symlink_to(tmp_path / "socket/a")
    assert NydusdApi().sockets(str(tmp_path)) == (
        str(tmp_path / "socket/a/api.sock"),
        str(tmp_path / "socket/b/api10.sock"),
    )


_V24 = {
    "version": {
        "package_ver": "v2.4.4",
        "git_commit": "abc",
        "build_time": "",
        "profile": "release",
        "rustc": "",
    },
    "id": "d1",
    "supervisor": "/run/x.sock",
    "state": "RUNNING",
    "backend_collection": {
        "/a": {"backend_type": "Rafs", "mountpoint": "/a", "mounted_time": "", "config": {"backend": {}}},
        "/b": {"backend_type": "PassthroughFs", "mountpoint": "/b", "mounted_time": "", "config": None},
    },
}


def _info_of(body: object, tmp_path: Path, status: str = "200 OK") -> NydusdInfo:
    path = str(tmp_path / "api.sock")
    with serving(answering(status, json.dumps(body).encode()), path) as server:
        info = NydusdApi().info(path, deadline_s=5)
        assert server.heads[0].startswith(b"GET /api/v1/daemon HTTP/1.1\r\n")
    return info


def test_a_newer_nydusd_is_understood(tmp_path: Path) -> None:
    info = _info_of(_V24, tmp_path)
    assert (info.version, info.id, info.pid) == ("v2.4.4", "d1", os.getpid())
    assert info.backends == (("/a", {"backend": {}}), ("/b", {}))


def test_a_daemon_without_mounts_or_id_is_understood(tmp_path: Path) -> None:
    info = _info_of({"version": {}, "id": None, "state": "INIT", "backend_collection": {}}, tmp_path)
    assert (info.version, info.id, info.state, info.backends) == ("", "", "INIT", ())


def test_a_configuration_given_as_text_is_understood_and_secrets_are_left_out(tmp_path: Path) -> None:
    config = json.dumps({"backend": {"registry": {"auth": "c2VjcmV0", "registry_token": "t", "host": "h"}}})
    info = _info_of({"backend_collection": {"/": {"config": config}}}, tmp_path)
    assert info.backends == (
        ("/", {"backend": {"registry": {"auth": None, "registry_token": None, "host": "h"}}}),
    )


@pytest.mark.parametrize(("body", "status", "code"), [
    ({"code": "UNDEFINED", "message": "no counter"}, "404 Not Found", "NNA0721"),
    (["no", "object"], "200 OK", "NNA0721"),
])  # fmt: skip
def test_an_answer_that_is_none_is_an_error(body: object, status: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(NydusdError) as caught:
        _info_of(body, tmp_path, status)
    assert caught.value.code == code


def test_rubbish_is_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / "api.sock")
    with serving(answering("200 OK", b"{rubbish"), path), pytest.raises(NydusdError) as caught:
        NydusdApi().backend_metrics(path, deadline_s=5)
    assert caught.value.code == "NNA0721"
