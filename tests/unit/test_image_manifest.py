"""Manifests come from outside: what is not sound is refused, and what is made of them is what the snapshotter
takes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConvertError
from agent.images import manifest
from agent.images.manifest import Descriptor, Platform, SourceImage
from agent.registry.names import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Cmd": ["/bin/sh"]},
    "rootfs": {"type": "layers", "diff_ids": [A, B]},
    "history": [{"created_by": "1"}, {"created_by": "env", "empty_layer": True}, {"created_by": "2"}],
}
LAYERS = [
    {"mediaType": manifest.TAR_GZIP, "digest": A, "size": 3},
    {"mediaType": "anything", "digest": B, "size": 4},
]


def image(directory: Path, config: object = CONFIG, **changes: object) -> SourceImage:
    """What is read of a directory that skopeo wrote."""
    content = config if isinstance(config, bytes) else json.dumps(config).encode()
    described = Descriptor(manifest.OCI_CONFIG, manifest.digest_of(content), len(content))
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described.body(),
        "layers": LAYERS,
        **changes,
    }
    (directory / described.name).write_bytes(content)
    (directory / "manifest.json").write_text(json.dumps(body))
    return manifest.read_image(directory, "the image")


def refusal(directory: Path, config: object = CONFIG, **changes: object) -> ConvertError:
    with pytest.raises(ConvertError) as raised:
        image(directory, config, **changes)
    return raised.value


@pytest.mark.parametrize("kind", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_an_image_names_its_layers_their_tars_and_what_it_runs_on(tmp_path: Path, kind: str) -> None:
    found = image(tmp_path, mediaType=kind, annotations={"a": "b", "c": 1})
    assert [(one.digest, one.size) for one in found.layers] == [(A, 3), (B, 4)]
    assert (found.diff_ids, found.notes, str(found.platform)) == ((A, B), {"a": "b"}, "linux/amd64")
    assert found.digest == manifest.digest_of((tmp_path / "manifest.json").read_bytes())


def layer(**changes: object) -> list[dict[str, object]]:
    return [{"mediaType": manifest.TAR_GZIP, "digest": B, "size": 3, **changes}]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mediaType": OCI_INDEX}, "NNA1403"),
        ({"mediaType": DOCKER_INDEX}, "NNA1403"),
        ({"mediaType": "\x1b" * 100_000}, "NNA1403"),
        ({"manifests": []}, "NNA1403"),
        ({"layers": layer(mediaType=manifest.NYDUS_BLOB)}, "NNA1403"),
        ({"layers": {}}, "NNA1403"),
        ({"layers": []}, "NNA1403"),
        ({"layers": layer() * 513}, "NNA1403"),
        ({"layers": layer(digest="sha256:../../etc/passwd")}, "NNA1403"),
        ({"layers": layer(digest=B.upper())}, "NNA1403"),
        ({"layers": layer(size=-1)}, "NNA1403"),
        ({"layers": layer(size=True)}, "NNA1403"),
        ({"layers": layer(size=1 << 60)}, "NNA1403"),
        ({"config": None}, "NNA1403"),
        ({"config": {"mediaType": "x", "digest": "sha256:../x", "size": 1}}, "NNA1403"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_not_sound_or_not_converted_is_refused(
    tmp_path: Path, changes: dict[str, object], code: str
) -> None:
    error = refusal(tmp_path, **changes)
    assert (error.code, len(str(error)) < 1000) == (code, True)


@pytest.mark.parametrize("content", [b"not json", b"[]", b"[" * 100_000, b'{"x": NaN}', b'{"x": 1e999}'])
def test_what_is_no_json_object_is_refused_in_manifest_and_configuration(
    tmp_path: Path, content: bytes
) -> None:
    assert refusal(tmp_path, content).code == "NNA1403"
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ConvertError) as raised:
        manifest.read_image(tmp_path, "the image")
    assert raised.value.code == "NNA1403"


@pytest.mark.parametrize("ids", [None, [], [A], [A, 1], [A, "sha256:x"]])
def test_a_configuration_without_a_tars_digest_for_each_layer_is_refused(tmp_path: Path, ids: object) -> None:
    assert refusal(tmp_path, {**CONFIG, "rootfs": {"diff_ids": ids}}).code == "NNA1403"


BLOBS = (manifest.blob_descriptor(A, 1), manifest.blob_descriptor(C, 2))
BOOTSTRAP = manifest.bootstrap_descriptor("sha256:" + "e" * 64, 50)


def test_the_nydus_image_has_the_blobs_as_layers_and_the_bootstrap_last(tmp_path: Path) -> None:
    source = image(tmp_path, annotations={"x": "y"})
    content = manifest.nydus_config(source.config, BLOBS, B)
    config = json.loads(content)
    described = Descriptor(manifest.OCI_CONFIG, manifest.digest_of(content), len(content))
    body = json.loads(manifest.nydus_manifest(source, described, BLOBS, BOOTSTRAP))
    assert [one["digest"] for one in body["layers"]] == [A, C, BOOTSTRAP.digest]
    assert config["rootfs"]["diff_ids"] == [A, C, B]
    assert body["layers"][0]["annotations"] == {"containerd.io/snapshot/nydus-blob": "true"}
    assert body["layers"][-1]["annotations"] == {
        "containerd.io/snapshot/nydus-bootstrap": "true", "containerd.io/snapshot/nydus-fs-version": "6",
    }  # fmt: skip
    assert body["annotations"] == {"x": "y", "containerd.io/snapshot/nydus-source-digest": source.digest}
    assert (config["config"], body["config"]["digest"]) == ({"Cmd": ["/bin/sh"]}, manifest.digest_of(content))


def test_each_history_entry_that_is_not_empty_is_a_layer_and_the_commands_stay(tmp_path: Path) -> None:
    config = json.loads(manifest.nydus_config(image(tmp_path).config, BLOBS, B))
    filled = [one for one in config["history"] if not one.get("empty_layer")]
    assert len(filled) == len(config["rootfs"]["diff_ids"]) == 3
    assert [one["created_by"] for one in config["history"]][:3] == ["1", "env", "2"]
    assert "history" not in json.loads(manifest.nydus_config({"rootfs": {}}, BLOBS, B))


def test_the_index_has_every_platform() -> None:
    one, other = (Descriptor(OCI_MANIFEST, digest, 9) for digest in (A, B))
    body = json.loads(
        manifest.nydus_index([(one, Platform("linux", "amd64")), (other, Platform("linux", "arm", "v7"))])
    )
    assert body["mediaType"] == OCI_INDEX
    assert [(entry["digest"], entry["size"], entry["platform"]) for entry in body["manifests"]] == [
        (A, 9, {"os": "linux", "architecture": "amd64"}),
        (B, 9, {"os": "linux", "architecture": "arm", "variant": "v7"}),
    ]  # fmt: skip
