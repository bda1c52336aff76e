"""The client of registries against one that does what the specification says, and against one that does not."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from agent.errors import RegistryError
from agent.oci import formats
from tests.contract.breaking_relay import relay, slow
from tests.contract.oci_registry import CONTENT, End, RegistryContract, blob_of, described
from tests.fakes.oci_registry import FakeRegistry, Faults, Tokens, serving

MIB = 1 << 20
REPOSITORY = "team/image"


@pytest.fixture
def world() -> Iterator[FakeRegistry]:
    with serving() as registry:
        yield registry


class TestFake(RegistryContract):
    """The contract, on the fake."""


@pytest.fixture
def end(world: FakeRegistry) -> End:
    return End(world.host, REPOSITORY)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return str(path)


def test_an_upload_that_breaks_off_goes_on_where_the_registry_says_that_it_is(
    world: FakeRegistry, end: End, file: str
) -> None:
    world.faults.cut_patch_at = [-1, 300_000, 0]
    end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert world.blobs[REPOSITORY, formats.digest_of(CONTENT)] == CONTENT
    sent = [headers["Content-Range"] for method, _, headers in world.seen if method == "PATCH"]
    assert sent[1].startswith(f"{MIB}-")
    assert sent[2].startswith(f"{MIB + 300_000}-")
    assert world.uploads == {}


def test_an_upload_that_the_registry_lost_when_it_broke_off_is_begun_again(
    world: FakeRegistry, end: End, file: str
) -> None:
    world.faults.forgets, world.faults.cut_patch_at = True, [-1, 300_000]
    end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert world.blobs[REPOSITORY, formats.digest_of(CONTENT)] == CONTENT
    assert world.asked["POST"] == 2


def test_an_upload_that_a_registry_loses_at_the_same_place_each_time_is_given_up(
    world: FakeRegistry, end: End, file: str
) -> None:
    world.faults.forgets, world.faults.cut_patch_at = True, [-1, 300_000] * 50
    with pytest.raises(RegistryError, match="again and again"):
        end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert world.asked["POST"] == 6
    assert end.noted[-1] == ""


@pytest.mark.parametrize("status", [400, 404])
def test_an_upload_that_broke_off_and_came_out_wrong_is_sent_again(
    world: FakeRegistry, end: End, file: str, status: int
) -> None:
    world.faults.cut_patch_at, world.faults.status = [300_000], {"PUT": [status]}
    end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert world.blobs[REPOSITORY, formats.digest_of(CONTENT)] == CONTENT


def test_an_upload_that_came_out_wrong_without_having_broken_off_is_sent_whole_and_then_told(
    world: FakeRegistry, end: End, file: str
) -> None:
    world.faults.status = {"PUT": [400] * 9}
    with pytest.raises(RegistryError, match="400"):
        end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert world.asked["POST"] == 2
    assert world.uploads == {}


KINDS = {
    "more than 4 MiB": Faults(most_piece=MIB - 1),
    "more than 4 MiB, nor tells how far it is": Faults(most_piece=MIB - 1, status={"GET": [405]}),
    "none but the first": Faults(first_piece_only=True),
    "none": Faults(no_pieces=400),
    "none, by another status": Faults(no_pieces=411),
    "as far as it says, nothing": Faults(range_says="bytes"),
    "more than was sent": Faults(range_says="0-99999999999"),
    "a part": Faults(range_says="5-6"),
    "something else": Faults(range_says="nonsense"),
}


@pytest.mark.parametrize("faults", KINDS.values(), ids=KINDS)
def test_registries_that_take_no_pieces_get_blobs_whole(
    world: FakeRegistry, end: End, file: str, faults: Faults
) -> None:
    world.faults = deepcopy(faults)
    end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert world.blobs[REPOSITORY, formats.digest_of(CONTENT)] == CONTENT
    assert world.uploads == {}
    another = Path(file).with_name("another")
    another.write_bytes(CONTENT + b"2")
    world.seen.clear()
    told: list[int] = []
    end.target.push(blob_of(CONTENT + b"2"), str(another), told.append)
    assert [method for method, _, _ in world.seen] == ["POST", "PATCH", "PUT"]
    assert "Content-Range" not in world.seen[1][2]
    assert sorted(told) == told
    assert told[-1] == len(CONTENT) + 1


def test_a_blob_that_is_sent_whole_and_breaks_off_is_begun_again(world: FakeRegistry, end: End, file: str) -> None:
    world.faults.no_pieces, world.faults.cut_patch_at = 400, [-1, 300_000, 0]
    end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert world.blobs[REPOSITORY, formats.digest_of(CONTENT)] == CONTENT
    assert world.uploads == {}


def test_what_a_registry_says_to_a_blob_that_it_does_not_take_in_any_way_is_told(
    world: FakeRegistry, end: End, file: str
) -> None:
    world.faults.status = {"PATCH": [413] * 9}
    with pytest.raises(RegistryError, match="413: UNKNOWN: as the test wants it") as raised:
        end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert raised.value.code == "NNA1412"
    assert world.asked["PATCH"] == 2
    assert world.uploads == {}


def test_pieces_are_as_long_as_the_registry_wants_them(world: FakeRegistry, end: End, file: str) -> None:
    world.faults.least_piece = 3 * MIB
    end.target.push(blob_of(CONTENT), file, lambda _: None)
    sent = [headers["Content-Range"] for method, _, headers in world.seen if method == "PATCH"]
    assert sent == [f"0-{3 * MIB - 1}", f"{3 * MIB}-{len(CONTENT) - 1}"]


def test_a_slow_line_carries_a_piece_for_longer_than_a_connection_may_take_to_be_made(
    world: FakeRegistry, tmp_path: Path
) -> None:
    """What is sent at once has one deadline for all of it: 8 MiB in 10 s, that was, and slower lines had no chance."""
    content = CONTENT * 3  # the kernel takes some 3 MB before anybody waits
    path = tmp_path / "content"
    path.write_bytes(content)
    with relay(world.host, itertools.repeat(slow(0.025))) as host:
        End(host, REPOSITORY, connect_s=1, chunk=len(content)).target.push(blob_of(content), str(path), lambda _: None)
    assert world.blobs[REPOSITORY, formats.digest_of(content)] == content


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_blob_that_may_not_be_taken_over_is_sent(world: FakeRegistry, end: End, status: int) -> None:
    digest = world.add("other/image", CONTENT)
    world.faults.status = {"POST": [status] * 2}
    assert not end.target.mount(digest, "other/image")


def test_a_registry_that_breaks_at_a_mount_is_told(world: FakeRegistry, end: End) -> None:
    world.faults.status = {"POST": [500] * 9}
    with pytest.raises(RegistryError, match="500"):
        end.target.mount(world.add("other/image", CONTENT), "other/image")


def test_an_upload_that_breaks_off_again_and_again_is_given_up_and_ended(
    world: FakeRegistry, end: End, file: str
) -> None:
    world.faults.cut_patch_at = [0] * 50
    with pytest.raises(RegistryError, match="again and again"):
        end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert world.uploads == {}
    assert end.noted[-1] == ""


def test_a_registry_in_trouble_for_a_moment_loses_no_upload(world: FakeRegistry, end: End, file: str) -> None:
    world.faults.status = {"POST": [502], "PATCH": [503, 429], "PUT": [500], "GET": [500], "HEAD": [502]}
    end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert end.target.has(formats.digest_of(CONTENT))


@pytest.mark.parametrize("done", [False, True])
def test_a_request_without_an_answer_costs_no_conversion(world: FakeRegistry, end: End, file: str, done: bool) -> None:
    world.faults.hang_up = {"POST": [done], "PUT": [done], "HEAD": [done]}
    end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert world.blobs[REPOSITORY, formats.digest_of(CONTENT)] == CONTENT
    assert world.asked["PUT"] == (1 if done else 2)
    assert world.asked["PATCH"] == 4


@pytest.mark.parametrize("done", [False, True])
def test_an_image_whose_arrival_was_not_answered_is_put_in_place_once(
    world: FakeRegistry, end: End, done: bool
) -> None:
    manifest = json.dumps({"schemaVersion": 2, "mediaType": formats.OCI_MANIFEST}).encode()
    world.faults.hang_up = {"PUT": [done]}
    end.target.put("1", formats.OCI_MANIFEST, manifest)
    assert world.manifests[REPOSITORY, "1"][1] == manifest
    assert world.asked["PUT"] == (1 if done else 2)


def test_a_registry_that_answers_no_write_is_given_up(world: FakeRegistry, end: End, file: str) -> None:
    world.faults.hang_up = {"PUT": [False] * 50}
    with pytest.raises(RegistryError) as raised:
        end.target.push(blob_of(CONTENT), file, lambda _: None)
    assert raised.value.code == "NNA1411"
    assert world.asked["PUT"] == 4
    assert world.uploads == {}


@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
def test_a_registry_that_counts_requests_is_left_alone_for_as_long_as_it_says(
    world: FakeRegistry, end: End, file: str, method: str
) -> None:
    world.faults.status, world.faults.retry_after = {method: [429]}, "1"
    began = time.monotonic()
    if method == "HEAD":
        assert not end.target.has(formats.digest_of(CONTENT))
    else:
        end.target.push(blob_of(CONTENT), file, lambda _: None)
        assert world.blobs[REPOSITORY, formats.digest_of(CONTENT)] == CONTENT
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(("wait", "asked"), [("0", 4), ("3600", 1)])
def test_an_image_is_put_in_place_again_only_where_that_was_refused_for_the_moment(
    world: FakeRegistry, end: End, wait: str, asked: int
) -> None:
    manifest = json.dumps({"schemaVersion": 2, "mediaType": formats.OCI_MANIFEST}).encode()
    world.faults.status, world.faults.retry_after = {"PUT": [429] * 9}, wait
    with pytest.raises(RegistryError, match="429"):
        end.target.put("1", formats.OCI_MANIFEST, manifest)
    assert world.asked["PUT"] == asked
    world.faults.status, world.faults.retry_after = {"PUT": [429]}, "0"
    end.target.put("1", formats.OCI_MANIFEST, manifest)
    assert world.manifests[REPOSITORY, "1"][1] == manifest


def test_a_registry_that_wants_to_be_left_alone_for_an_hour_is_told_at_once(world: FakeRegistry, end: End) -> None:
    world.faults.status, world.faults.retry_after = {"HEAD": [429] * 9}, "3600"
    with pytest.raises(RegistryError, match="after 3600 s"):
        end.target.has(formats.digest_of(CONTENT))
    assert world.asked["HEAD"] == 1


@pytest.mark.parametrize("says", ["nonsense", "-1", "Fri, 31 Dec 1999 23:59:59 GMT", "9" * 400])
def test_a_wait_that_is_none_is_the_usual_pause(world: FakeRegistry, end: End, says: str) -> None:
    world.faults.status, world.faults.retry_after = {"HEAD": [429]}, says
    assert not end.target.has(formats.digest_of(CONTENT))


def test_a_download_that_breaks_off_goes_on_where_it_was(world: FakeRegistry, end: End, tmp_path: Path) -> None:
    world.add(REPOSITORY, CONTENT)
    world.faults.cut_blob_at = [200_000, 1_000_000]
    end.source.fetch(described(CONTENT), str(tmp_path / "back"), lambda _: None)
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert [headers.get("Range") for method, _, headers in world.seen if method == "GET"][1] == "bytes=200000-"


def test_a_registry_without_ranges_sends_it_all_again(world: FakeRegistry, end: End, tmp_path: Path) -> None:
    world.add(REPOSITORY, CONTENT)
    world.faults.cut_blob_at, world.faults.no_ranges = [200_000], True
    end.source.fetch(described(CONTENT), str(tmp_path / "back"), lambda _: None)
    assert (tmp_path / "back").read_bytes() == CONTENT


def test_other_bytes_than_the_manifest_names_are_refused(world: FakeRegistry, end: End, tmp_path: Path) -> None:
    digest = world.add(REPOSITORY, CONTENT)
    world.faults.wrong_bytes = True
    with pytest.raises(RegistryError, match=digest) as raised:
        end.source.fetch(described(CONTENT), str(tmp_path / "back"), lambda _: None)
    assert raised.value.code == "NNA1413"
    with pytest.raises(RegistryError):
        end.source.small(described(CONTENT), len(CONTENT))


def test_more_bytes_than_the_manifest_names_are_not_taken(world: FakeRegistry, end: End, tmp_path: Path) -> None:
    digest = world.add(REPOSITORY, CONTENT)
    short = formats.Descriptor("", digest, 1000)
    with pytest.raises(RegistryError, match="more than 1000 bytes"):
        end.source.fetch(short, str(tmp_path / "back"), lambda _: None)
    assert (tmp_path / "back").stat().st_size < 200_000


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "http://169.254.169.254/latest", "http://localhost:1/x", "gopher://x/", "", "http://u:p@h/",
     "http://[fd00:ec2::254]/latest", "http://100.100.100.200/latest", "http://[64:ff9b::a9fe:a9fe]/latest"],
)  # fmt: skip
def test_a_redirect_into_this_machine_or_its_cloud_is_not_followed(
    world: FakeRegistry, end: End, location: str
) -> None:
    world.add(REPOSITORY, CONTENT)
    world.faults.redirect = location or "http://["
    with pytest.raises(RegistryError) as raised:
        end.source.small(described(CONTENT), len(CONTENT))
    assert raised.value.code == "NNA1414"


def test_redirects_in_a_circle_end(world: FakeRegistry, end: End) -> None:
    digest = world.add(REPOSITORY, CONTENT)
    world.faults.redirect = f"/v2/{REPOSITORY}/blobs/{digest}"
    with pytest.raises(RegistryError, match="5 were followed"):
        end.source.small(described(CONTENT), len(CONTENT))


def test_a_registry_that_asks_who_we_are_is_told_once_and_then_each_time(world: FakeRegistry, tmp_path: Path) -> None:
    world.add(REPOSITORY, CONTENT)
    world.faults.password = "Basic dTpw"
    tokens = Tokens("Basic dTpw")
    end = End(world.host, REPOSITORY, tokens)
    end.source.fetch(described(CONTENT), str(tmp_path / "back"), lambda _: None)
    assert tokens.challenges == ['Basic realm="test"']
    assert end.target.has(formats.digest_of(CONTENT))
    assert len(tokens.challenges) == 1


def test_a_credential_that_is_refused_is_told_and_not_sent_again_and_again(world: FakeRegistry) -> None:
    world.faults.password = "Basic another"
    with pytest.raises(RegistryError, match="401"):
        End(world.host, REPOSITORY, Tokens("Basic dTpw")).target.has(formats.digest_of(CONTENT))
    assert world.asked["HEAD"] == 2


def test_a_name_that_does_not_lead_to_what_was_sent_is_noticed(world: FakeRegistry, end: End) -> None:
    world.faults.swallow_manifest = True
    with pytest.raises(RegistryError) as raised:
        end.target.put("1", formats.OCI_MANIFEST, b'{"schemaVersion":2}')
    assert raised.value.code == "NNA1413"


def test_an_upload_of_another_registry_or_repository_is_not_touched(world: FakeRegistry, end: End) -> None:
    number = world.begin()
    for session in (
        f"http://{world.host}/v2/other/blobs/uploads/{number}",
        f"https://{world.host}/v2/{REPOSITORY}/blobs/uploads/{number}",
        "http://[",
    ):
        end.target.drop(session)
    assert (list(world.uploads), world.seen) == ([number], [])
    end.target.drop(f"http://{world.host}/v2/{REPOSITORY}/blobs/uploads/{number}?_state=x")
    assert world.uploads == {}


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as raised:
        End("127.0.0.1:1", REPOSITORY).source.document("1", 1000)
    assert raised.value.code == "NNA1411"
