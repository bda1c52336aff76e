"""What the download child is told and tells: what root takes from a child that was taken over is harmless."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.artifacts import fetching, sandbox
from agent.artifacts.fetching import Done, Failed, Job, Limits, Progress, Source, SourceKind
from agent.artifacts.lock import ArtifactName
from agent.artifacts.refusals import REASONS, Refusal
from agent.catalogue import CATALOGUE
from tests.unit.artifacts import artifact

NYDUS, SNAPSHOTTER = artifact(), artifact(ArtifactName.SNAPSHOTTER, "v0.15.15")

JOB = Job((NYDUS, SNAPSHOTTER), Source(SourceKind.MIRROR, "https://mirror.example.org/n", "Bearer s3cret", "PEM"))


def test_the_child_is_told_all_of_the_job_but_what_root_keeps_for_itself() -> None:
    job = Job(JOB.artifacts, JOB.source, Limits(silence_s=0.5), trust_release_checksum=True, others=(NYDUS,))
    local = fetching.Local(((512, 10), (0, 7)), ("digest  name", ""))
    told = fetching.decode_job(fetching.encode_job(job, local))
    assert told == (Job(JOB.artifacts, JOB.source, Limits(silence_s=0.5), trust_release_checksum=True), local)


def test_a_credential_is_in_no_message_about_a_job() -> None:
    assert "s3cret" not in repr(JOB)


@pytest.mark.parametrize(
    "event",
    [
        Progress("nydus", 5, 10, 2.5, "one connection instead of 4"),
        Done((NYDUS, SNAPSHOTTER)),
        Failed(Refusal.SYMLINK, "nydus", ("nydusd -> /etc/passwd",)),
    ],
)
def test_what_the_child_tells_arrives(event: fetching.Event) -> None:
    assert fetching.decode_event(fetching.encode_event(event)) == event


def _line(**told: object) -> bytes:
    return json.dumps(told).encode()


_ENTRY = json.loads(fetching.encode_event(Done((NYDUS,))))["artifacts"][0]
_PROGRAM = _ENTRY["programs"][0]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        _line(event="progress"),
        _line(event="progress", artifact="nydus", received=-1, total=0, rate=0, note=""),
        _line(event="progress", artifact="nydus", received=1, total="x", rate=0, note=""),
        _line(event="progress", artifact=["nydus"], received=1, total=1, rate=0, note=""),
        _line(event="progress", artifact="nydus", received=1, total=1, rate="x", note=""),
        _line(event="failed", refusal="because", artifact="nydus", seen=[]),
        _line(event="failed", refusal="symlink", artifact="nydus", seen=None),
        _line(event="done", artifacts=[{}]),
        _line(event="done", artifacts=[{**_ENTRY, "sha256": "../../etc"}]),
        _line(event="done", artifacts=[{**_ENTRY, "size": "1"}]),
        _line(event="done", artifacts=[{**_ENTRY, "programs": [{**_PROGRAM, "name": "../x"}]}]),
        _line(event="done", artifacts=None),
        _line(event="other"),
    ],
)  # fmt: skip
def test_an_event_that_makes_no_sense_is_none(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        fetching.decode_event(line)


def test_a_server_cannot_write_to_the_operators_terminal() -> None:
    evil = Failed(Refusal.PAGE, "nydus\x1b[2J", ("\x1b]0;title\x07 all is \u202ewell\n", "x" * 10_000))
    told = fetching.decode_event(fetching.encode_event(evil))
    assert isinstance(told, Failed)
    assert told.artifact == "nydus\\x1b[2J"
    assert told.seen[0] == "\\x1b]0;title\\x07 all is \\x202ewell\\x0a"
    assert len(told.seen[1]) == fetching.SEEN_CAP + 1


def test_every_refusal_has_its_own_sentence_and_a_code_that_says_what_to_do() -> None:
    assert set(REASONS) == set(Refusal)
    causes = [reason.cause for reason in REASONS.values()]
    assert len(set(causes)) == len(causes)
    assert {reason.code for reason in REASONS.values()} <= set(CATALOGUE)


def test_a_child_cannot_say_that_it_has_fetched_something_else() -> None:
    assert fetching.answer(JOB, Done((NYDUS, SNAPSHOTTER))) == (NYDUS, SNAPSHOTTER)
    for artifacts in ((NYDUS,), (SNAPSHOTTER, NYDUS), (replace(NYDUS, sha256="0" * 64), SNAPSHOTTER)):
        with pytest.raises(ValueError, match="something else"):
            fetching.answer(JOB, Done(artifacts))


def test_where_only_the_releases_checksum_is_known_sizes_and_digests_are_what_was_seen() -> None:
    blank = replace(NYDUS, size=0, sha256="", programs=())
    job = Job((blank,), Source(SourceKind.RELEASE), trust_release_checksum=True)
    assert fetching.answer(job, Done((NYDUS,))) == (NYDUS,)
    assert [program for _, program in fetching.outputs(job)] == list(fetching.PROGRAMS[ArtifactName.NYDUS])
    foreign = replace(NYDUS, programs=(replace(NYDUS.programs[0], name="sshd"),))
    for other in (replace(NYDUS, version="v2.4.3"), foreign):
        with pytest.raises(ValueError, match="something else"):
            fetching.answer(job, Done((other,)))


def test_a_node_whose_link_local_name_servers_have_a_zone_can_ask_them() -> None:
    """systemd takes no zone in an address, and would not start the download."""
    servers = ("fe80::1%eth0", "169.254.20.10", "fe80::1%eth1", "10.0.0.2", "fd00::1", "nonsense")
    words = sandbox.transient("x.service", 30, servers, ["true"])
    allowed = [word for word in words if word.startswith("--property=IPAddressAllow=")]
    assert allowed == ["--property=IPAddressAllow=169.254.20.10", "--property=IPAddressAllow=fe80::1"]
