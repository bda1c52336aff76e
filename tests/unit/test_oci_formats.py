"""Manifests come from outside: what is not sound is refused, and what is made of them is what the snapshotter takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.errors import ConvertError
from agent.oci import formats, nydus
from agent.oci.formats import Index, Manifest, Platform
from agent.oci.nydus import Blob

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def manifest(**changes: Any) -> bytes:
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": formats.OCI_MANIFEST,
        "config": {"mediaType": formats.OCI_CONFIG, "digest": A, "size": 2},
        "layers": [{"mediaType": formats.TAR_GZIP, "digest": B, "size": 3}],
    }
    return json.dumps({**body, **changes}).encode()


def parse(content: bytes, media_type: str = formats.OCI_MANIFEST) -> Manifest | Index:
    return formats.parse(content, media_type, "the image")


def test_a_manifest_names_its_configuration_and_layers() -> None:
    found = parse(manifest(annotations={"a": "b", "c": 1}))
    assert isinstance(found, Manifest)
    assert (found.config.digest, [(one.digest, one.compression) for one in found.layers]) == (A, [(B, "gzip")])
    assert found.annotations == {"a": "b"}


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_would_make_of_the_new_image_what_nobody_can_read_is_refused(number: str) -> None:
    with pytest.raises(ConvertError, match="is no number") as raised:
        formats.document_of(b'{"config": {"x": %s}}' % number.encode(), "it")
    assert raised.value.code == "NNA1403"
    assert formats.document_of(b'{"x": 1.5e3}', "it") == {"x": 1500.0}


def test_what_a_manifest_calls_itself_fills_no_terminal() -> None:
    with pytest.raises(ConvertError, match="calls itself") as raised:
        parse(manifest(mediaType="\x1b" * 100_000))
    assert len(str(raised.value)) < 1000


def test_docker_manifests_and_lists_are_read_too() -> None:
    layer = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": B, "size": 3}
    found = parse(manifest(mediaType=formats.DOCKER_MANIFEST, layers=[layer]), formats.DOCKER_MANIFEST)
    assert isinstance(found, Manifest)
    entry = {
        "mediaType": formats.DOCKER_MANIFEST,
        "digest": B,
        "size": 3,
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    body = {"mediaType": formats.DOCKER_INDEX, "manifests": [entry]}
    listed = parse(json.dumps(body).encode(), formats.DOCKER_INDEX)
    assert isinstance(listed, Index)
    assert str(listed.manifests[0].platform) == "linux/arm64"


FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def layers(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"mediaType": formats.TAR_GZIP, "digest": B, "size": 3, **change} for change in changes]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"not json", "NNA1403"),
        (b"[]", "NNA1403"),
        (b"[" * 100_000, "NNA1403"),
        (manifest(mediaType=formats.OCI_INDEX), "NNA1403"),
        (manifest(manifests=[]), "NNA1403"),
        (manifest(layers={}), "NNA1403"),
        (manifest(layers=layers({"digest": "sha256:../../etc/passwd"})), "NNA1403"),
        (manifest(layers=layers({"digest": B.upper()})), "NNA1403"),
        (manifest(layers=layers({"size": -1})), "NNA1403"),
        (manifest(layers=layers({"size": True})), "NNA1403"),
        (manifest(layers=layers({"size": 1 << 60})), "NNA1403"),
        (manifest(layers=layers(*[{}] * 513)), "NNA1403"),
        (manifest(config=None), "NNA1403"),
        (manifest(layers=[]), "NNA1404"),
        (manifest(layers=layers({"mediaType": formats.NYDUS_BLOB})), "NNA1404"),
        (manifest(layers=layers({"mediaType": FOREIGN})), "NNA1404"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_not_sound_or_not_converted_is_refused(content: bytes, code: str) -> None:
    with pytest.raises(ConvertError) as raised:
        parse(content)
    assert raised.value.code == code


def test_a_manifest_of_no_kind_that_is_known_is_refused() -> None:
    with pytest.raises(ConvertError, match="signed"):
        parse(b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+prettyjws; signed")


@pytest.mark.parametrize("rootfs", [None, {}, {"diff_ids": [A]}, {"diff_ids": [A, 1]}, {"diff_ids": [A, "sha256:x"]}])
def test_a_configuration_without_a_tars_digest_for_each_layer_is_refused(rootfs: object) -> None:
    with pytest.raises(ConvertError):
        formats.diff_ids({"rootfs": rootfs}, 2, "x")


CONFIG: dict[str, object] = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Cmd": ["/bin/sh"]},
    "rootfs": {"type": "layers", "diff_ids": [A, B, C]},
    "history": [
        {"created_by": "1"},
        {"created_by": "env", "empty_layer": True},
        {"created_by": "2"},
        {"created_by": "3"},
    ],
}
BOOTSTRAP = Blob("sha256:" + "e" * 64, 50, "sha256:" + "f" * 64)
AMD64 = Platform("linux", "amd64")


def made(*blobs: Blob | None, config: dict[str, object] = CONFIG) -> tuple[dict[str, Any], dict[str, Any]]:
    image = nydus.image(config, AMD64, blobs, BOOTSTRAP, {"x": "y"})
    return json.loads(image.config), json.loads(image.manifest)


def test_the_nydus_image_has_the_blobs_as_layers_and_the_bootstrap_last() -> None:
    config, body = made(Blob(A, 1), Blob(B, 2), Blob(C, 3))
    assert [layer["digest"] for layer in body["layers"]] == [A, B, C, BOOTSTRAP.digest]
    assert config["rootfs"]["diff_ids"] == [A, B, C, BOOTSTRAP.diff_id]
    assert body["layers"][0]["annotations"] == {"containerd.io/snapshot/nydus-blob": "true"}
    assert body["layers"][-1]["annotations"]["containerd.io/snapshot/nydus-bootstrap"] == "true"
    assert body["config"]["digest"] == formats.digest_of(
        json.dumps(config, separators=(",", ":"), sort_keys=True).encode()
    )
    assert (config["config"], body["annotations"]) == ({"Cmd": ["/bin/sh"]}, {"x": "y"})


def test_a_layer_without_data_and_one_that_is_there_already_bring_no_blob() -> None:
    config, body = made(Blob(A, 1), None, Blob(A, 1))
    assert [layer["digest"] for layer in body["layers"]] == [A, BOOTSTRAP.digest]
    empty = [bool(entry.get("empty_layer")) for entry in config["history"]]
    assert empty == [False, True, True, True, False]


def test_each_history_entry_that_is_not_empty_is_a_layer() -> None:
    config, body = made(Blob(A, 1), Blob(B, 2), Blob(C, 3))
    filled = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(filled) == len(body["layers"]) == len(config["rootfs"]["diff_ids"])


def test_layers_that_the_data_stays_in_are_blobs_before_the_bootstrap_and_have_their_history() -> None:
    image = nydus.image(CONFIG, AMD64, [Blob(A, 1), None, Blob(B, 2)], BOOTSTRAP, {}, [Blob(C, 9), None, Blob(C, 9)])
    config, body = json.loads(image.config), json.loads(image.manifest)
    assert [layer["digest"] for layer in body["layers"]] == [A, B, C, BOOTSTRAP.digest]
    assert body["layers"][2]["annotations"] == {"containerd.io/snapshot/nydus-blob": "true"}
    assert config["rootfs"]["diff_ids"] == [A, B, C, BOOTSTRAP.diff_id]
    assert len([entry for entry in config["history"] if not entry.get("empty_layer")]) == 4


def test_a_history_that_does_not_fit_is_left_out() -> None:
    config, _ = made(Blob(A, 1))
    assert "history" not in config


def test_the_index_has_every_platform() -> None:
    one = nydus.image(CONFIG, AMD64, [Blob(A, 1)], BOOTSTRAP, {})
    other = nydus.image(CONFIG, Platform("linux", "arm", "v7"), [Blob(B, 1)], BOOTSTRAP, {})
    found = formats.parse(nydus.index([one, other]), formats.OCI_INDEX, "x")
    assert isinstance(found, Index)
    assert [str(entry.platform) for entry in found.manifests] == ["linux/amd64", "linux/arm/v7"]
    assert [entry.digest for entry in found.manifests] == [
        formats.digest_of(one.manifest),
        formats.digest_of(other.manifest),
    ]
