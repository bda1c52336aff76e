"""The message catalogue: `journalctl -x` explains each of the daemon's messages by the fields that it has."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.catalogue import Message
from agent.daemon.record import Record
from agent.documents.status import ConditionStatus, Truth
from agent.health.evidence import Route, Symptom, SymptomKind
from agent.health.machine import Transition
from agent.health.state import Cause, HealthState
from agent.system import journal
from tests.fakes.event_loop import until
from tests.unit.daemon_node import healthy

CATALOG = Path(__file__).parents[2] / "packaging/nydus-agent.catalog"
DOWN = Transition(
    HealthState.SUSPECT, HealthState.DOWN, Route.MIRROR, Route.ORIGIN, "gone", "refused", cause=Cause.REFUSED
)
PINNED = Transition(
    HealthState.HEALTHY, HealthState.HEALTHY, Route.MIRROR, Route.ORIGIN, "pinned", "", cause=Cause.PIN
)


def entries() -> dict[str, str]:
    """The text of each entry, by id."""
    parts = re.split(r"^-- ([0-9a-f]{32})$", CATALOG.read_text(), flags=re.M)[1:]
    ids, texts = parts[::2], parts[1::2]
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, texts, strict=True))


def test_every_message_is_explained_and_nothing_else_is() -> None:
    assert set(entries()) == {message.value for message in Message}


def test_every_explanation_has_a_subject_an_author_and_a_page() -> None:
    for identity, text in entries().items():
        headers, _, body = text.lstrip("\n").partition("\n\n")
        assert [line.partition(":")[0] for line in headers.splitlines()] == [
            "Subject",
            "Defined-By",
            "Documentation",
        ]
        assert body.strip(), identity
        assert max(map(len, body.splitlines())) <= 80, identity


def test_systemd_takes_the_catalogue(tmp_path: Path) -> None:
    directory = tmp_path / "usr/lib/systemd/catalog"
    directory.mkdir(parents=True)
    (directory / CATALOG.name).write_bytes(CATALOG.read_bytes())
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    for action, wanted in (
        ("--update-catalog", []),
        ("--list-catalog", sorted(message.value for message in Message)),
    ):
        done = subprocess.run(
            ["journalctl", f"--root={tmp_path}", action], capture_output=True, text=True, timeout=30,
            check=True,
        )  # fmt: skip
        assert done.stderr == ""
        assert [line.split()[0] for line in done.stdout.splitlines()] == wanted


@pytest.mark.parametrize(
    ("message", "tell"),
    [
        (Message.HEALTH, lambda record: record.transition(DOWN)),
        (Message.ROUTE, lambda record: record.transition(PINNED)),
        (Message.CONDITION, lambda record: record.conditions([ConditionStatus("BothBad", Truth.TRUE)])),
        (Message.SYMPTOM, lambda record: record.symptom(Symptom(SymptomKind.CUT, "ended early", 1.0))),
    ],
)
def test_an_explanation_names_only_fields_that_the_message_has(
    message: Message, tell: Callable[[Record], object]
) -> None:
    with capture_logs() as logs:
        tell(Record())
    assert [entry["message_id"] for entry in logs] == [message]
    assert named_fields(message)
    assert named_fields(message) - sent_fields(logs[0]) == set()


@pytest.mark.real_time
async def test_so_does_what_a_whole_run_of_the_daemon_says(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with healthy(tmp_path) as node:
            await node.mirror.die()
            await until(node.is_("down", "origin"))
    said = {entry["message_id"] for entry in logs}
    assert said == {Message.STARTED, Message.MODE, Message.HEALTH, Message.STOPPED}
    for entry in logs:
        assert named_fields(entry["message_id"]) - sent_fields(entry) == set()


def named_fields(message: Message) -> set[str]:
    """The fields of a journal entry that the explanation shows."""
    return set(re.findall(r"@([A-Z_]+)@", entries()[message]))


def sent_fields(entry: MutableMapping[str, Any]) -> set[str]:
    """The fields that the entry has in the journal."""
    fields = {key: value for key, value in entry.items() if key not in ("log_level", "event")}
    return set(
        re.findall("^([A-Z_]+)(?:=|$)", journal.datagram(str(entry["event"]), 6, fields).decode(), re.M)
    )


def test_a_symptom_is_told_again_only_after_a_quiet_while() -> None:
    record = Record()
    with capture_logs() as logs:
        for at in (0.0, 5.0, 604.0, 1204.0):
            record.symptom(Symptom(SymptomKind.CUT, "ended early", at))
        record.symptom(Symptom(SymptomKind.STATUS, "HTTP 429", 1204.0))
    assert [(entry["kind"], entry["event"].rpartition(": ")[2]) for entry in logs] == [
        ("cut", "ended early"), ("cut", "ended early"), ("status", "HTTP 429"),
    ]  # fmt: skip
    assert dict(record.symptoms.view().counts)["cut"] == 4
