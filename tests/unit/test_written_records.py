"""What lies on nodes already, written before the codec: an upgrade must read all of it to the same values."""

from __future__ import annotations

from typing import Any

import pytest

from agent import paths
from agent.codec import DocumentError, from_json, to_json
from agent.documents.drift import DriftReport, Expected
from agent.errors import ApplyError
from agent.records import generations
from agent.records.generations import Generation, Pending
from agent.records.journal import Begin
from tests.fakes.node import FakeNode

EFFECTIVE = {
    "switch": "fence", "dialect": "proxy", "use_http": False, "scheme": "https",
    "reasons": ["nft can be used"], "not_accelerated": ["docker.io: no canary came back"],
}  # fmt: skip
FILE = {
    "kind": "file", "path": "/etc/containerd/config.toml", "before": "AP8=", "after": None, "mode": 0o600,
    "uid": 7, "gid": 8, "missing": ["/etc/containerd"], "owned": False, "mode_after": 0o600,
}  # fmt: skip
WRITTEN: dict[type, dict[str, Any]] = {
    Generation: {
        "number": 3, "id": "c0ffee", "at": 1700000000.5, "verb": "rollback", "to": 1, "agent": "0.1.0",
        "config": {"mirror": {"url": "http://127.0.0.1:4001"}}, "versions": {"nydusd": "2.2.0"},
        "mirror": ["http://127.0.0.1:4001", "http://127.0.0.1:4003/healthy"], "effective": EFFECTIVE,
        "steps": [
            {"what": "write it", "undo": FILE},
            {"what": "start it", "undo": {"kind": "unit", "unit": "a.service", "verb": "restart",
                                          "was_active": True, "was_enabled": False}},
            {"what": "read it", "undo": {"kind": "reload"}},
            {"what": "look", "undo": {"kind": "nothing"}},
            {"what": "try it", "undo": {"kind": "scratch", "path": "/etc/a", "sha256": "00",
                                        "also": [["/etc/b", "11"]], "missing": []}},
        ],
    },
    Begin: {
        "id": "c0ffee", "verb": "apply", "generation": 3, "started": 1700000000.5,
        "containerd_answered": True, "mountpoint": "/var/lib/a", "root": "/var/lib/nydus-snapshotter",
    },
    Pending: {
        "id": "c0ffee", "generation": 3, "seconds": 600, "at": 1700000000.5, "boot": "b", "boottime": 77.5,
        "pid": 4711,
    },
    Expected: {
        "generation": 3, "files": ["/etc/nydus/nydusd-config.json"],
        "unit_files": [{"path": "/usr/lib/systemd/system/containerd.service", "sha256": "00"}],
        "programs": [{"name": "nydusd", "path": "/usr/bin/nydusd", "version": "2.2.0", "stamp": "1:2:3",
                      "sha256": "11"}],
    },
    DriftReport: {
        "at": 1700000000.5, "generation": 3, "unseen": ["x could not be looked at"], "gave_up": [],
        "findings": [{"kind": "file-edited", "subject": "/etc/a", "what": "/etc/a was edited",
                      "remedy": "repair", "try": "sudo nydus-agent repair", "evidence": ["-a", "+b"]}],
    },
}  # fmt: skip


@pytest.mark.parametrize("cls", WRITTEN)
def test_what_was_written_before_an_upgrade_is_read_to_the_same_values(cls: type) -> None:
    assert to_json(from_json(cls, WRITTEN[cls])) == WRITTEN[cls]


@pytest.mark.parametrize("key", ["mode", "uid", "gid", "missing", "owned", "before", "after"])
def test_no_file_is_put_back_by_a_record_that_has_lost_what_it_was_like(key: str) -> None:
    lost = {name: value for name, value in FILE.items() if name != key}
    record = {**WRITTEN[Generation], "steps": [{"what": "write it", "undo": lost}]}
    with pytest.raises(DocumentError, match=key):
        from_json(Generation, record)


@pytest.mark.parametrize("content", [b"[]", b"null", b"3", b"{}", b"{", b""])
def test_a_record_that_is_none_is_told_as_damaged(content: bytes) -> None:
    node = FakeNode()
    node.files.put(f"{paths.GENERATIONS}/1.json", content, mode=0o600)
    with pytest.raises(ApplyError) as told:
        generations.newest(node.ports.files)
    assert told.value.code == "NNA0410"
